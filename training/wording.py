"""Figures in words: what could not be measured is a dash."""

from __future__ import annotations

from training.figures import Report


def db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} dB"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def pixels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def found(detection: Report) -> str:
    return f"{percent(detection['recall'])} (precision {percent(detection['precision'])})"


SCORES = {"psnr": db, "psnr_without_bars": db, "ssim": score, "haarpsi": score, "gmsd": score, "lpips": score}
"""How the scores of a frame are said."""


def measured_on(report: Report) -> str:
    """What a report was measured on, and how."""
    conditions = report["conditions"]
    return (
        f"{report['dataset']}: {conditions['episodes']} episodes, {conditions['states']:,} states; "
        f"{plural(conditions['num_inference_steps'])}, told history noise {conditions['history_noise']:g}, "
        f"{conditions['device']}"
    )


def plural(count: int | str) -> str:
    """So many denoising steps."""
    return f"{count} denoising step{'s' * (str(count) != '1')}"


def dream_beside(part: Report, name: str) -> str:
    """A score of the dream, and of repeating the last frame."""
    words = SCORES[name]
    return f"{words(part['dream'].get(name))} (repeat-last {words(part['repeat_last'].get(name))})"


def distances(frechet: Report) -> str:
    """Frechet distances of clips to real ones."""
    beside = f"real to real {frechet['real']:.2f}, repeat-last {frechet['repeat_last']:.2f}"
    return f"{frechet['dream']:.2f} ({beside}), {frechet['n']} clips"

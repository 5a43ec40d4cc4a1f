"""A report for people: Markdown with tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.figures import Report
from training.pictures import LONG_SHEET
from training.wording import SCORES, db, distances, found, measured_on, percent, pixels, rate, score

NAMES = {
    "psnr": "PSNR",
    "psnr_without_bars": "PSNR without side bars",
    "ssim": "SSIM",
    "haarpsi": "HaarPSI",
    "gmsd": "GMSD (less is better)",
    "lpips": "LPIPS (less is better)",
}
HOLDS = {True: "yes", False: "no", None: "-"}


def markdown(report: Report) -> str:
    """The whole report; pictures are named as they lie beside it."""
    chosen = report["conditions"]["options"].items()
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in chosen)
    sections = [
        f"# How well `{report['world']['name']}` dreams",
        f"Measured on {measured_on(report)}. World {report['world']['hash'][:12]}, batch size "
        f"{report['conditions']['batch_size']}, seed {report['conditions']['seed']}. PSNR is of "
        "rounded uint8 RGB, the whole 512 x 512 frame against the real one, dB a frame, then averaged.",
        f"To repeat it: `python -m training.evaluate --world {report['world']['name']} --dataset {report['dataset']}"
        f"{options}`.",
        "" if report["conditions"]["labels"] else NO_LABELS,
        "" if report["conditions"]["seeds"] else NO_SEEDS,
        "" if report["conditions"]["lpips"] == "measured" else f"LPIPS was left out: {report['conditions']['lpips']}.",
        "## Bars",
        _table(
            ("measure", "bar", "measured", "n", "holds"),
            [
                (*(bar[key] for key in ("measure", "bar", "measured", "n")), HOLDS[bar["holds"]])
                for bar in report["bars"]
            ],
        ),
        "## One step from real history",
        _scores([("dream", report["one_step"]["dream"]), ("repeat the last frame", report["one_step"]["repeat_last"])]),
        f"{report['one_step']['n']} steps; the dream has the higher PSNR in "
        f"{percent(report['one_step']['better_than_repeat_last'])} of them. Each is shown by itself; "
        "free dreams, and the environment, go by what the frame before showed too, so one free step is nearer to the "
        "game. The autoencoder alone, "
        f"{report['autoencoder']['n']} frames:",
        _scores([("reconstruction", report["autoencoder"])]),
        _few_steps(report["denoising_steps"]),
        _judged(report),
        "## Free dreams",
        _horizons(report["free_running"]),
        "![Scores by steps of free dreaming](curves.png)",
        _casts(report["free_running"]),
        _game(report),
        f"Frechet distance of 16-frame clips to real ones: {distances(report['frechet'])}."
        if report["frechet"]["dream"] is not None
        else f"Too few clips for a Frechet distance: {report['frechet']['n']}.",
        _on_its_own(report),
        "## Pictures",
        *(f"![Real above, dreamed below]({name})" for name in report["pictures"] if name.endswith(".png")),
        *(f"[{name}]({name}): the real game on the left" for name in report["pictures"] if name.endswith(".mp4")),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


NO_LABELS = "The dataset has no labels of the classic maze: the game's own measures were left out."
NO_SEEDS = "The world has no seeds to dream from on its own: long dreams and a step's time were left out."


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _scores(rows: Sequence[tuple[str, Report]]) -> str:
    shown = [name for name in SCORES if name in rows[0][1]]
    return _table(
        ("", *(NAMES[name] for name in shown)), [(row, *(SCORES[n](part.get(n)) for n in shown)) for row, part in rows]
    )


def _few_steps(denoising_steps: Report) -> str:
    rows = [
        ("one step" if name == "one_step" else f"free, {name.replace('_', ' ')}", count, *_short(part), part["n"])
        for name, parts in denoising_steps.items()
        for count, part in parts["by_count"].items()
    ]
    return "### Fewer and more denoising steps\n\n" + _table(("", "denoising steps", "PSNR", "HaarPSI", "n"), rows)


def _short(part: Report) -> tuple[str, str]:
    return db(part.get("psnr")), score(part.get("haarpsi"))


def _judged(report: Report) -> str:
    """What the outcome model says at every step, and which way the dream goes at turns."""
    rows = []
    for name, key in (("pellets", "pellets"), ("power pellets", "power_pellets"), ("ghosts", "ghosts")):
        if rewards := report.get("rewards"):
            rows.append((f"points for {name}", rewards[key]))
    if lives := report.get("lives_lost"):
        rows.append(("lost lives, within 2 steps", lives))
    rows.append(("ends", report["ends"]))
    text = "### Outcome\n\n" + _table(
        ("", "recall", "precision", "real", "said", "steps"),
        [(name, percent(d["recall"]), percent(d["precision"]), d["real"], d["said"], d["n"]) for name, d in rows],
    )
    if (lives := report.get("lives_lost")) and lives["said"]:
        text += (
            "\n\nOne step ahead of real frames a life may be announced as lost in two steps that follow on each other; "
            f"where one of them alone is right, the precision is {percent(lives['precision_once'])}."
        )
    if rewards := report.get("rewards"):
        by_points = [(points, percent(part["right"]), part["n"]) for points, part in rewards["by_points"].items()]
        text += "\n\n" + _table(("points of the step", "said exactly", "steps"), by_points)
    if turns := report.get("turns"):
        text += (
            f"\n\nAt turns the true action is closer to the game than each other one, 64 px around Pac-Man, in "
            f"{percent(turns['better_than_each_other'])} of {turns['n']}."
        )
    return text


def _horizons(horizons: Report) -> str:
    shown = [name for name in SCORES if any(name in part["dream"] for part in horizons.values())]
    rows = []
    for horizon, part in horizons.items():
        for kind, label in (("dream", "dream"), ("repeat_last", "repeat the last real frame")):
            rows.append((horizon, label, *(SCORES[name](part[kind].get(name)) for name in shown), part["n"]))
    return _table(("step", "", *(NAMES[name] for name in shown), "n"), rows)


def _game(report: Report) -> str:
    """Control, and where everyone is."""
    if "control" not in report:
        return ""
    control, announced = report["control"], report["announced"]
    rows = [
        (name, percent(part["dream"]), percent(part["keeps_direction"]), part["n"])
        for name, part in control.items()
        if isinstance(part, dict)
    ]
    lives = announced["lives_lost"]
    return "\n\n".join(
        [
            "### Control",
            "The share of steps in which the dream moved Pac-Man as the game did, where he stood at the same place "
            f"before ({percent(control['comparable'])} of {control['steps']} steps in {control['runs']} dreams).",
            _table(("step", "dream", "keeps his direction", "n"), rows),
            "### Distance from the real places, px of the 512 x 512 frame",
            _table(
                ("step", "", "mean", "median", "mean of staying where they were", "found", "n"),
                [
                    (
                        step,
                        name,
                        *map(pixels, (e["mean"], e["median"], e["stays"]["mean"])),
                        percent(e["found"]),
                        e["n"],
                    )
                    for step, part in report["places"].items()
                    for name, e in (("Pac-Man", part["pacman"]), ("ghosts", part["ghosts"]))
                ],
            ),
            f"Announced in free dreams: points agree with the score that the dream shows in "
            f"{percent(announced['rewards_right'])} of {announced['n']} steps; lost lives that it shows, within 2 "
            f"steps: {found(lives)}, {lives['real']} shown, {lives['said']} announced. A last one is announced as an "
            "end.",
        ]
    )


def _on_its_own(report: Report) -> str:
    """Long runs that no recording leads, beside real frames read in the same way."""
    parts = []
    if long := report.get("long_runs"):
        dream, real = long["dream"], long["real"]
        rules = [
            (rule, rate(per_1000), rate(real["rules"]["per_1000"][rule]), dream["rules"]["counts"][rule])
            for rule, per_1000 in dream["rules"]["per_1000"].items()
        ]
        parts += [
            "## Dreams on their own",
            f"{long['seeds']} runs of {long['steps']} steps from the world's own seeds, played by seeded sticky keys; "
            f"{dream['collapsed']['runs']} collapsed, {dream['ends']} ends were announced. Broken rules per 1,000 "
            f"steps, beside what the reader finds in {real['rules']['steps']} recorded steps:",
            _table(("rule", "dream", "real", "broken in the dreams"), rules),
            _table(
                ("announced", "recall", "precision", "seen", "said"),
                [
                    (name, percent(d["recall"]), percent(d["precision"]), d["seen"], d["said"])
                    for name, d in (
                        ("pellets", dream["rewards"]["pellets"]),
                        ("power pellets", dream["rewards"]["power_pellets"]),
                        ("lost lives", dream["lives_lost"]),
                    )
                ],
            ),
            f"![Dreams on their own]({LONG_SHEET})",
        ]
    if two := report.get("two_generators"):
        parts.append(
            f"Two generators, the same history and keys: after {two['steps']} steps the ghosts differ in "
            f"{percent(two['ghosts_differ'])} of {two['n']}, Pac-Man in {percent(two['pacman_differs'])}."
        )
    return "\n\n".join(parts)


def _casts(horizons: Report) -> str:
    rows = []
    for horizon, part in horizons.items():
        if cast := part.get("cast"):
            four, place = cast["four_ghosts_where_real"], part["pacman_in_place"]
            beside = f"real {percent(cast['real'])}, where real {percent(cast['dream_where_real'])}"
            rows.append(
                (
                    horizon,
                    f"{percent(four['dream'])} (reconstructed {percent(four['reconstruction'])}), n {four['n']}",
                    f"{percent(cast['dream'])} ({beside})",
                    f"{percent(place['dream'])} (repeat-last {percent(place['repeat_last'])})",
                    cast["n"],
                )
            )
    header = ("step", "four ghosts where the game shows four", "Pac-Man and 3 ghosts whole", "Pac-Man in place", "n")
    return _table(header, rows) if rows else ""

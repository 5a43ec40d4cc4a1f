"""Curves of what happens to a free dream with time."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.figures import Report

NAMES = {"psnr": "PSNR, dB", "ssim": "SSIM", "haarpsi": "HaarPSI", "gmsd": "GMSD (lower is better)"}
KINDS = {"dream": "dream", "repeat_last": "repeat the last frame"}


def save_curves(horizons: Report, file: Path) -> None:
    """Draw the scores of `free_running` by horizon, dream and baseline, as a PNG, where there are cases."""
    shown = {int(step): part for step, part in horizons.items() if part["n"]}
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, NAMES.items(), strict=True):
        for kind, label in KINDS.items():
            axes.plot(list(shown), [part[kind][name] for part in shown.values()], marker="o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(shown), [f"{step}\nn {part['n']}" for step, part in shown.items()])
        axes.set_title(title)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.supxlabel("steps of free dreaming")
    figure.savefig(file, dpi=100)

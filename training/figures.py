"""The arithmetic of figures: PSNR, means, recall and precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from neural_pacman.episodes import DatasetFormat
from neural_pacman.frames import FRAME_SIZE

Report = dict[str, Any]
"""Figures by name, nested, of JSON's types: what could not be measured is None."""


def without_bars(frame: np.ndarray, format: DatasetFormat) -> np.ndarray:
    """The part of a prepared frame that shows the screen, without the black bars that made it a square."""
    height, width = format.frame_height, format.frame_width
    rows, columns = (
        round((max(height, width) - side) / 2 * FRAME_SIZE / max(height, width)) for side in (height, width)
    )
    return frame[rows : FRAME_SIZE - rows, columns : FRAME_SIZE - columns]


def mean(values: Sequence[float] | Sequence[bool]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def means(cases: Sequence[dict[str, float]]) -> Report:
    """The mean of every score that the cases name."""
    return {name: mean([case[name] for case in cases]) for name in (cases[0] if cases else ())}


def detection(cases: Sequence[tuple[int, int]]) -> Report:
    """Recall and precision of (real, said) pairs, where 0 is nothing; null where there is nothing to divide by."""
    real, said = (sum(bool(case[i]) for case in cases) for i in (0, 1))
    right = sum(a == b and bool(a) for a, b in cases)
    return _detected(right, right, real, said, len(cases))


def detection_within(cases: Sequence[Sequence[tuple[bool, bool]]], steps: int) -> Report:
    """Recall and precision of (real, said) pairs in runs of consecutive steps, where being `steps` off is right too.

    `precision_once` is the precision where of those said of one real case, in steps that follow on each other, one
    alone is right.
    """
    found = right = once = real = said = 0
    for run in cases:
        was, told = (np.flatnonzero([case[i] for case in run]) for i in (0, 1))
        near = np.abs(was[:, None] - told[None]) <= steps
        found, right = found + int(near.any(axis=1).sum()), right + int(near.any(axis=0).sum())
        once += matched([(step - steps, step + steps) for step in was.tolist()], told.tolist())
        real, said = real + len(was), said + len(told)
    figures = _detected(found, right, real, said, sum(len(run) for run in cases))
    return {**figures, "precision_once": once / said if said else None}


def matched(windows: Iterable[tuple[int, int]], said: Iterable[int]) -> int:
    """How many of the steps said get a window (first to last step) of their own: of those that one lies in, the one
    that closes first."""
    waiting, right = sorted(windows, key=lambda window: window[1]), 0
    for step in sorted(said):
        fits = next((window for window in waiting if window[0] <= step <= window[1]), None)
        if fits is not None:
            waiting.remove(fits)
            right += 1
    return right


def _detected(found: int, right: int, real: int, said: int, n: int) -> Report:
    return {
        "recall": found / real if real else None,
        "precision": right / said if said else None,
        "real": real,
        "said": said,
        "n": n,
    }

"""The arithmetic of figures: PSNR, means, recall and precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Report = dict[str, Any]
"""Figures by name, nested, of JSON's types: what could not be measured is None."""

BEST_PSNR = 100.0
"""What identical frames count as, dB."""


def psnr(image: np.ndarray, real: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images of one shape, dB, at most `BEST_PSNR`."""
    error = float(np.mean((image.astype(np.float32) - real.astype(np.float32)) ** 2))
    return min(10 * float(np.log10(255**2 / error)), BEST_PSNR) if error else BEST_PSNR


def mean(values: Sequence[float] | Sequence[bool]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def detection(cases: Sequence[tuple[int, int]]) -> Report:
    """Recall and precision of (real, said) pairs, where 0 is nothing; null where there is nothing to divide by."""
    real, said = (sum(bool(case[i]) for case in cases) for i in (0, 1))
    right = sum(a == b and bool(a) for a, b in cases)
    return {
        "recall": right / real if real else None,
        "precision": right / said if said else None,
        "real": real,
        "said": said,
        "n": len(cases),
    }

"""Frechet distance between dreamed and real clips in the autoencoder's latents.

A clip is 16 frames. What it says is pooled to few numbers, for there are tens of clips, not thousands: over 2 x 2
quarters of the picture the mean of each latent channel (what is shown) and the root mean square of its change a frame
(how it moves), projected on the 8 directions in which real clips differ most, each scaled to unit variance. The
distance between two sets of clips is Frechet's between the normal distributions of these numbers,

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2))

Small sets are far apart by chance alone, so every distance is taken between halves of different origin (no clip is
compared with its own recording), and the distance between the two halves of the real clips stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.figures import Report

CLIP_FRAMES = 16
DIRECTIONS = 8
MIN_CLIPS = 4 * DIRECTIONS
"""Fewer clips make no two halves whose covariance means anything."""
QUARTERS = 2


def clip_features(latents: Tensor) -> np.ndarray:
    """What each whole clip of 16 among consecutive latents `[T, C, H, W]` says, float64 `[T // 16, 8 * C]`."""
    clips = latents[: len(latents) // CLIP_FRAMES * CLIP_FRAMES].unflatten(0, (-1, CLIP_FRAMES))
    shown = F.adaptive_avg_pool2d(clips.mean(dim=1), QUARTERS)
    moved = F.adaptive_avg_pool2d(clips.diff(dim=1).square().mean(dim=1), QUARTERS).sqrt()
    return torch.cat([shown, moved], dim=1).flatten(1).double().cpu().numpy()


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between two sets of features `[N, D]` and `[M, D]`."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The root's trace is the sum of the roots of the product's eigenvalues, which are real and not negative.
    roots = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0, None))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots.sum())


def report_frechet(real: Sequence[np.ndarray], others: Mapping[str, Sequence[np.ndarray]]) -> Report:
    """Distances of sets of clips to the real ones, and of real clips to each other under "real".

    `real` and each of `others` hold the features of one recording's clips after the other, in the same order. All
    distances are None where there are fewer than `MIN_CLIPS` clips.
    """
    count = sum(map(len, real))
    if count < MIN_CLIPS or len(real) < 2:
        return dict.fromkeys(("real", *others)) | {"n": count}
    reference = np.concatenate(real)
    centre = reference.mean(axis=0)
    _, spreads, axes = np.linalg.svd(reference - centre, full_matrices=False)
    project = axes[:DIRECTIONS].T / (spreads[:DIRECTIONS] / np.sqrt(count - 1))
    halves = {
        name: [(np.concatenate(features[i::2]) - centre) @ project for i in range(2)]
        for name, features in {"real": real, **others}.items()
    }
    distances: Report = {
        name: float(np.mean([frechet_distance(parts[i], halves["real"][1 - i]) for i in range(2)]))
        for name, parts in halves.items()
    }
    return distances | {"n": count}

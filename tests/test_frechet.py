"""The distance between sets of clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.frechet import MIN_CLIPS, clip_features, frechet_distance, report_frechet


def test_the_distance_of_normal_distributions_is_frechets() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 3))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + (3, 0, 4)) == pytest.approx(25, abs=1e-6)
    scaled = (a - a.mean(0)) * 3 + a.mean(0)  # (3 - 1)^2 of each direction's variance
    assert frechet_distance(a, scaled) == pytest.approx(4 * a.var(0, ddof=1).sum(), rel=1e-6)


def test_a_clip_that_stands_still_differs_in_its_motion_alone() -> None:
    moving = torch.randn(32, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    still = moving[:1].expand(32, -1, -1, -1)
    assert clip_features(moving).shape == clip_features(still).shape == (2, 2 * 5 * 4)
    assert (clip_features(still)[:, 20:] == 0).all() and (clip_features(moving)[:, 20:] > 0).all()
    assert len(clip_features(moving[:31])) == 1


def test_clips_of_the_same_kind_are_nearer_than_others() -> None:
    rng = np.random.default_rng(0)
    same, real = (list(rng.standard_normal((20, 4, 40))) for _ in range(2))
    other = [clips + 1 for clips in same]
    report = report_frechet(real, {"same": same, "other": other})
    assert report["n"] == 80
    assert report["same"] < 2 * report["real"]
    assert report["other"] > 3 * report["real"]


def test_too_few_clips_have_no_distance() -> None:
    few = list(np.zeros((MIN_CLIPS // 4 - 1, 4, 40)))
    assert report_frechet(few, {"dream": few}) == {"real": None, "dream": None, "n": len(few) * 4}

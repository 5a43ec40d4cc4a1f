"""How alike frames look: held to the values of piq 0.8.0, which the project does without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neural_pacman.episodes import PUBLIC_FORMAT, DatasetFormat, read_episodes
from training.figures import without_bars
from training.perceptual import LPIPS_WEIGHTS, likeness, lpips_missing, short_likeness


def drawn() -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    return noise, (noise // 2 + 40).astype(np.uint8)


def test_scores_are_those_of_piq() -> None:
    noise, faint = drawn()
    # haarpsi, gmsd and ssim (without its downsampling) of piq 0.8.0, data range 255.
    for image, expected in (
        (faint, {"haarpsi": 0.7763537, "gmsd": 0.0578218, "ssim": 0.7844813}),
        (noise[::-1].copy(), {"haarpsi": 0.4421487, "gmsd": 0.1759780, "ssim": -0.0275538}),
    ):
        scores = likeness(noise, image, DatasetFormat(frame_height=64, frame_width=64))
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=2e-5)
        assert short_likeness(noise, image) == {name: scores[name] for name in ("psnr", "haarpsi")}


def test_scores_of_real_frames_are_those_of_piq(sample: Path) -> None:
    episode = list(read_episodes(sample))[1]
    frames = episode.frames(9, 11)
    scores = likeness(frames[1], frames[0], episode.format)
    assert scores["haarpsi"] == pytest.approx(0.5768626, abs=2e-5)
    assert scores["gmsd"] == pytest.approx(0.0743928, abs=2e-5)
    assert scores["ssim"] == pytest.approx(0.9892645, abs=2e-5)


def test_the_same_frame_is_as_alike_as_can_be() -> None:
    noise, _ = drawn()
    scores = likeness(noise, noise, DatasetFormat(frame_height=64, frame_width=64))
    assert scores["psnr"] == scores["psnr_without_bars"] == 100
    assert scores["ssim"] == pytest.approx(1) and scores["haarpsi"] == pytest.approx(1, abs=1e-4)
    assert scores["gmsd"] == pytest.approx(0, abs=1e-4)


def test_bars_beside_or_above_the_screen_are_left_out() -> None:
    frame = np.zeros((512, 512, 3), np.uint8)
    assert without_bars(frame, PUBLIC_FORMAT).shape == (512, 422, 3)
    assert without_bars(frame, DatasetFormat(frame_height=160, frame_width=210)).shape == (390, 512, 3)


def test_lpips_is_left_out_without_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert lpips_missing() == "torchvision is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert LPIPS_WEIGHTS in (lpips_missing() or "")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / LPIPS_WEIGHTS).touch()
    assert lpips_missing() is None

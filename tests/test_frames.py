"""Images to tensors and back, and the one preparation that everything shares."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from neural_pacman.episodes import read_episodes
from neural_pacman.frames import FRAME_SIZE, decode_image, prepare, to_images, to_tensor


def test_a_real_frame_is_padded_at_its_sides_and_fills_the_height(sample: Path) -> None:
    episode = next(iter(read_episodes(sample)))
    frame = prepare(episode.raw(0))
    assert frame.shape == (FRAME_SIZE, FRAME_SIZE, 3) and frame.dtype == np.uint8
    side = 48 * FRAME_SIZE // 552
    assert not frame[:, :side].any() and not frame[:, -side:].any(), "48 px of black on either side"
    assert frame[:, side + 1 : side + 8].any() and frame[:4].any(), "the outer wall reaches the screen's edge"


def test_prepared_frames_are_left_alone(sample: Path) -> None:
    frame = prepare(next(iter(read_episodes(sample))).raw(5))
    assert np.array_equal(prepare(frame), frame)


@given(height=st.integers(1, 700), width=st.integers(1, 700))
@settings(max_examples=20)
def test_any_frame_is_centred(height: int, width: int) -> None:
    frame = prepare(np.full((height, width, 3), 200, np.uint8))
    assert frame.shape == (FRAME_SIZE, FRAME_SIZE, 3)
    lit = frame.max(axis=-1) > 0
    assert abs(lit.mean() - min(height, width) / max(height, width)) < 0.01 + 2 / min(height, width)
    assert lit[FRAME_SIZE // 2].any() and lit[:, FRAME_SIZE // 2].any()


@given(arrays.arrays(np.uint8, (2, 5, 4, 3)))
def test_tensors_turn_back_into_the_same_images(images: np.ndarray) -> None:
    frames = to_tensor(images)
    assert frames.shape == (2, 3, 5, 4) and frames.dtype == torch.float32
    assert frames.min() >= -1 and frames.max() <= 1
    assert np.array_equal(to_images(frames), images)


def test_white_is_one_and_black_is_minus_one() -> None:
    white_and_black = np.array([[[255] * 3, [0] * 3]], np.uint8)
    assert to_tensor(white_and_black)[:, 0].tolist() == [[1.0, -1.0]] * 3


def test_values_beyond_the_range_are_clipped() -> None:
    frames = torch.tensor([-3.0, 3.0, 0.0]).reshape(3, 1, 1)
    assert to_images(frames).tolist() == [[[0, 255, 128]]]


def test_an_image_decodes_as_stored_whatever_its_file_type(sample: Path) -> None:
    stored = next(iter(read_episodes(sample))).images[0]
    image = decode_image(stored)
    assert image.shape == (456, 552, 3)
    webp = io.BytesIO()
    Image.fromarray(image).save(webp, "WEBP", lossless=True)
    assert np.array_equal(decode_image(webp.getvalue()), image)


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)]
)
def test_a_frame_of_another_kind_is_refused(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[height, width, 3\]"):
        prepare(frame)


@pytest.mark.parametrize("frames", [np.zeros((2, 4, 4, 3), np.float64), np.zeros((2, 3, 4, 4), np.uint8)])
def test_frames_of_another_kind_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[..., H, W, 3\]"):
        to_tensor(frames)

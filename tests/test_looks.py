"""Looks: what a decoded frame shows of what is in doubt, and dreams that settle on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neural_pacman.autoencoder import FrameAutoencoder
from neural_pacman.frames import to_tensor
from neural_pacman.world import WorldModel
from training.background import find_pictures


def test_a_pixel_of_two_looks_shows_one_of_them_or_something_else() -> None:
    background, other = np.zeros((2, 512, 512, 3), np.uint8)
    pellet = (255, 240, 230)
    background[3, 4] = other[100, 200] = pellet  # one stands in the background, the other does not
    model = FrameAutoencoder.create("tiny", background, other)
    drawn = {0.0: 0, 0.3: 0, 0.5: 1, 0.9: 1, 1.2: 1}
    for brightness, decided in drawn.items():
        frames = torch.full((2, 3, 512, 512), -1.0)
        frames[1, :, 3, 4] += 2 * brightness
        frames[1, :, 100, 200] += 2 * brightness
        frames[1, :, 50, 50] += 2 * brightness  # a pixel of one look
        frames[0, 2, 3, 4] += 1.5  # blue, as a ghost
        before = frames.clone()
        after = model._decided(frames)
        white = to_tensor(background)[:, 3, 4] if decided else torch.full((3,), -1.0)
        assert torch.allclose(after[1, :, 3, 4], white) and torch.allclose(after[1, :, 100, 200], white)
        assert torch.equal(after[0], before[0]) and torch.equal(after[1, :, 50, 50], before[1, :, 50, 50])
    with pytest.raises(ValueError, match="no background"):
        FrameAutoencoder.create("tiny", None, other)


def test_a_decoded_frame_shows_what_was_decided() -> None:
    torch.manual_seed(0)
    background = np.full((512, 512, 3), 100, np.uint8)
    other = background.copy()
    other[::2] = 160
    plain, deciding = (FrameAutoencoder.create("tiny", background, look) for look in (None, other))
    deciding.load_state_dict(plain.state_dict())
    latents = torch.randn(2, 32, 16, 16) / 4
    before, after = plain.decode(latents), deciding.decode(latents)
    assert torch.equal(before[:, :, 1::2], after[:, :, 1::2])
    assert torch.equal(deciding._decided(before.clone()), after)
    assert (before != after)[:, :, ::2].float().mean() > 0.1


PINK, CYAN = (255, 128, 255), (128, 255, 255)
PALETTE = np.array([[PINK, CYAN]], np.uint8)


def picture(**colours: tuple[int, int, int]) -> Tensor:
    """A black frame with a block of each colour, 32 px apart, `[1, 3, 512, 512]`."""
    frame = np.zeros((512, 512, 3), np.uint8)
    for i, colour in enumerate(colours.values()):
        frame[64:80, 32 * i : 32 * i + 16] = colour
    return to_tensor(frame)[None]


def test_what_is_nearly_of_one_of_the_palettes_colours_is_shown_in_it() -> None:
    background = np.zeros((512, 512, 3), np.uint8)
    background[64:80, 96:112] = (250, 128, 250)  # the maze has nearly that colour too, and keeps it
    model = FrameAutoencoder.create("tiny", background, palette=PALETTE)
    drawn = picture(lilac=(220, 150, 255), turquoise=(120, 230, 240), edge=(128, 64, 128), maze=(250, 128, 250))
    shown = picture(lilac=PINK, turquoise=CYAN, edge=(128, 64, 128), maze=(250, 128, 250))
    assert torch.equal(model._decided(drawn.clone()), shown)
    with pytest.raises(ValueError, match="no background"):
        FrameAutoencoder.create("tiny", None, palette=PALETTE)


class Pixels(FrameAutoencoder):
    """An autoencoder whose latents are the means of 32 x 32 blocks, so that blocks of one colour come back exactly."""

    def encode(self, frames: Tensor) -> Tensor:
        means = torch.nn.functional.avg_pool2d(frames, 32)
        return torch.cat([means, means.new_zeros(len(means), 29, *means.shape[2:])], 1)

    def _decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=32.0)


@pytest.fixture
def pixels() -> Pixels:
    made = FrameAutoencoder.create("tiny")
    return Pixels(made.dc, made.pixel_unshuffle, np.zeros((512, 512, 3), np.uint8), palette=PALETTE)


def colour_at(latents: Tensor, row: int, column: int) -> list[int]:
    return latents[0, :3, row, column].add(1).mul(127.5).round().int().tolist()


def test_a_ghost_that_changes_its_colour_little_by_little_keeps_it_when_it_settles(pixels: Pixels) -> None:
    drifting = held = torch.full((1, 32, 16, 16), -1.0)
    for latents in (drifting, held):
        latents[0, :3, 4, 4] = to_tensor(np.array([[PINK]], np.uint8)).flatten()
    towards = to_tensor(np.array([[CYAN]], np.uint8)).flatten() - drifting[0, :3, 4, 4]
    drifting, held = drifting.clone(), held.clone()
    for _ in range(10):
        drifting[0, :3, 4, 4] += 0.1 * towards
        held[0, :3, 4, 4] += 0.1 * towards
        held = pixels.settle(held)
    assert colour_at(drifting, 4, 4) == list(CYAN) and colour_at(held, 4, 4) == list(PINK)


def test_where_nothing_is_in_doubt_nothing_moves(pixels: Pixels) -> None:
    latents = torch.full((2, 32, 16, 16), -1.0)
    latents[0, :3, 4, 4] = to_tensor(np.array([[(220, 150, 255)]], np.uint8)).flatten()
    latents[:, 3:] = torch.randn(2, 29, 16, 16, generator=torch.Generator().manual_seed(0))  # no frame shows it
    settled = pixels.settle(latents)
    assert colour_at(settled, 4, 4) == list(PINK)
    moved = (settled - latents).abs().amax(1) > 1e-5
    assert moved.nonzero().tolist() == [[0, 4, 4]]
    plain = FrameAutoencoder.create("tiny", np.zeros((512, 512, 3), np.uint8))
    assert plain.settle(latents) is latents


def test_each_dreams_own_noise_says_when_it_settles() -> None:
    torch.manual_seed(0)
    background = np.full((512, 512, 3), 100, np.uint8)
    other = np.where(np.arange(512)[:, None, None] % 2, 160, background).astype(np.uint8)
    history, actions = torch.randn(1, 32, 32, 16, 16) / 4, torch.zeros(1, 32, dtype=torch.int64)
    histories, led = history.expand(40, -1, -1, -1, -1), actions.expand(40, -1)
    noise = torch.randn(40, 32, 16, 16)
    world = WorldModel.create("tiny", background, other=other)
    plain = world.dream(histories, led, noise)
    moved: dict[float, Tensor] = {}
    for share in (0.0, 0.4, 1.0):
        object.__setattr__(world.config, "settled_share", share)
        moved[share] = (world.dream(histories, led, noise) - plain).flatten(1).abs().amax(1) > 1e-6
    assert not moved[0.0].any() and moved[1.0].all() and 0.2 < moved[0.4].float().mean() < 0.6
    object.__setattr__(world.config, "settled_share", 0.4)
    for i in range(5):  # alone as among others
        alone = world.dream(history, actions, noise[i : i + 1])
        assert bool(((alone - plain[i]).abs().max() > 1e-6) == moved[0.4][i])


def test_a_palette_and_how_often_dreams_settle_are_saved_with_the_world(tmp_path: Path) -> None:
    world = WorldModel.create(
        "tiny", np.zeros((512, 512, 3), np.uint8), palette=PALETTE, settled_share=0.25, name="settling"
    )
    world.save_pretrained(tmp_path / "world")
    again = WorldModel.from_pretrained(tmp_path / "world", device="cpu")
    assert again.hash == world.hash and again.config.settled_share == 0.25
    assert world.autoencoder.palette is not None and again.autoencoder.palette is not None
    assert torch.equal(again.autoencoder.palette, world.autoencoder.palette)


def test_the_palette_is_found_in_frames() -> None:
    rng = np.random.default_rng(0)
    frames = np.zeros((40, 512, 512, 3), np.uint8)
    frames[:, 200:210] = (0, 0, 255)  # a wall
    frames[::3, 10:13, 10:13] = 250  # a pellet
    for number, frame in enumerate(frames):  # nobody is in the same place twice
        for colour, top in ((PINK, 220), (CYAN, 360)):
            top, left = top + 24 * (number // 20), 24 * (number % 20)
            frame[top : top + 20, left : left + 20] = colour
            frame[top, left : left + 20] = rng.integers(0, 256, (20, 3))  # an edge
    background, other, palette = find_pictures(frames)
    assert background is not None and other is not None and palette is not None
    assert (background[205, 5] == (0, 0, 255)).all() and (other != background).any(-1).sum() == 9
    assert {tuple(colour) for colour in palette[0].tolist()} == {PINK, CYAN}
    kept = find_pictures(frames[:0], (background, other, palette))
    assert all(one is another for one, another in zip(kept, (background, other, palette), strict=True))

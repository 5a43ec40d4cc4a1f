"""The mirror image of recorded play, on real rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_pacman.actions import Action
from neural_pacman.autoencoder import FrameAutoencoder
from neural_pacman.episodes import Episode, read_episodes
from neural_pacman.frames import FRAME_SIZE, prepare
from training import take_apart
from training.cache import Cache, CacheBuilding, build_cache, encode, load_autoencoder
from training.mirror import Mirror
from training.reader import read
from training.sprites import SCALE, SPRITE_SIZE, Actor

MIRROR = Mirror(528, ("FF80FF", "FF8000"))
"""The classic maze, above its score, and the ghosts that begin on either side of the house."""
OTHER_SIDE = {Actor.PINK: Actor.ORANGE, Actor.ORANGE: Actor.PINK}


@pytest.fixture(scope="module")
def episode(sample: Path) -> Episode:
    return list(read_episodes(sample))[-1]


@pytest.mark.parametrize("state", [40, 100])
def test_the_mirror_shows_the_same_game_on_the_other_side(state: int, episode: Episode) -> None:
    real, image = (read(each.frames(state, state + 1)[0]) for each in (episode, MIRROR(episode)))
    assert len(real.sprites) >= 4
    there = {sprite.actor: (sprite.x, sprite.y) for sprite in real.sprites}
    for sprite in image.sprites:
        x, y = there.pop(OTHER_SIDE.get(sprite.actor, sprite.actor))
        assert sprite.x == pytest.approx(FRAME_SIZE - SCALE * SPRITE_SIZE - x, abs=2)
        assert sprite.y == pytest.approx(y, abs=1)
    assert not there
    assert image.score == real.score and image.lives == real.lives


def test_what_is_below_the_mirrored_rows_stays(episode: Episode) -> None:
    real, image = episode.raw(50), MIRROR.image(episode.raw(50))
    assert np.array_equal(image[528:], real[528:]) and image[528:].any()
    assert not np.array_equal(image, real)
    assert np.array_equal(MIRROR.image(image), real)  # twice is nothing


def test_the_mirror_exchanges_left_and_right(episode: Episode) -> None:
    image = MIRROR(episode)
    assert len(image) == len(episode) and image.number == episode.number
    assert {Action.LEFT, Action.RIGHT, Action.UP} <= {*episode.actions.tolist()}
    for one, other in ((Action.LEFT, Action.RIGHT), (Action.RIGHT, Action.LEFT), (Action.UP, Action.UP)):
        assert np.array_equal(image.actions == other, episode.actions == one)
    assert image.rewards is not None and episode.rewards is not None
    assert np.array_equal(image.rewards, episode.rewards)
    assert np.array_equal(image.labels["lives"], episode.labels["lives"])
    assert "player_xy" in episode.labels and "player_xy" not in image.labels  # it would be on the other side


def test_a_cache_holds_every_episode_and_then_its_mirror_image(sample: Path, tmp_path: Path, tiny_world: Path) -> None:
    take_apart.main(take_apart.TakingApart(str(tiny_world), tmp_path / "parts"))
    settings = CacheBuilding(
        (str(sample),), tmp_path / "parts" / "autoencoder", tmp_path / "cache", precision="fp32", device="cpu"
    )
    plain = build_cache(settings)
    mirrored = build_cache(replace(settings, out=tmp_path / "mirrored", mirror=MIRROR))
    assert len(mirrored) == 2 * len(plain)
    assert build_cache(replace(settings, out=tmp_path / "mirrored", mirror=MIRROR)).key == mirrored.key
    with pytest.raises(ValueError, match="was made from .*now asked for .*mirror"):
        build_cache(replace(settings, mirror=MIRROR))
    coder: FrameAutoencoder = load_autoencoder(settings.autoencoder)
    start = 0
    for episode in read_episodes(sample):
        n = len(episode)
        image = slice(start + n, start + 2 * n)
        assert np.array_equal(mirrored.latents[start : start + n], _of(plain, episode.number))
        for k in (0, n - 1):
            frame = prepare(MIRROR.image(episode.raw(k)))
            assert np.abs(mirrored.latents[image][k] - encode(coder, frame[None], "fp32")[0]).max() < 1e-2
        assert np.array_equal(mirrored.actions[image], MIRROR(episode).actions)
        assert np.array_equal(mirrored.life_lost[image], mirrored.life_lost[start : start + n])
        start += 2 * n
    assert {*mirrored.last - mirrored.first} == {*plain.last - plain.first}  # no window crosses into an image


def _of(cache: Cache, number: int) -> np.ndarray:
    return np.asarray(cache.latents)[cache.episodes == number]


@pytest.mark.parametrize(
    ("rows", "exchange", "said"),
    [
        (-1, (), "rows is -1; expected"),
        (9, ("FF80FF",), "Given 1 colours to exchange; expected pairs"),
        (9, ("FF80FF", "orange"), "Given the colour 'orange'; expected six hexadecimal digits"),
        (9, ("FF80FF", "FF80"), "Given the colour 'FF80'; expected six hexadecimal digits"),
    ],
)
def test_a_mirror_that_makes_no_sense_is_refused(rows: int, exchange: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mirror(rows, exchange)


def test_more_rows_than_a_screen_has_are_refused(episode: Episode) -> None:
    with pytest.raises(ValueError, match="A screen has 552 rows; expected 600 at least"):
        Mirror(600)(episode).frames(0, 1)

"""The reader of actors, on real labelled frames: it must find who is there, and nobody who is fading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neural_pacman.episodes import Episode, read_episodes
from training.sprites import (
    GHOST_COLOURS,
    SPRITE_SIZE,
    Actor,
    Sprite,
    count_ghosts,
    pacman,
    read_sprites,
    to_frame_xy,
)

NORMAL, FRIGHTENED, EATEN = 1, 2, 3
WIDTH = 23  # of a sprite in frame px, rounded up


@pytest.fixture(scope="module")
def episodes(sample: Path) -> list[Episode]:
    return list(read_episodes(sample))


@pytest.fixture(scope="module")
def empty_maze(episodes: list[Episode]) -> np.ndarray:
    """The maze with nobody in it: what most frames show at each pixel."""
    first = np.concatenate([episode.frames(0, len(episode))[::3] for episode in episodes])
    return np.median(first, axis=0).astype(np.uint8)


def actors(episode: Episode, k: int) -> list[tuple[set[Actor], np.ndarray, bool]]:
    """From the labels of state `k`: what each actor may look like, where it is, and whether no other is near it."""
    places = np.concatenate([episode.labels["player_xy"][k][None], episode.labels["ghost_xy"][k]])
    gaps = np.abs(places[:, None] - places).max(-1)
    np.fill_diagonal(gaps, 2 * SPRITE_SIZE)
    looks = [{Actor.PACMAN}]
    for colour, state in zip(GHOST_COLOURS, episode.labels["ghost_state"][k], strict=True):
        # A frightened ghost's body blinks near the end.
        looks.append({NORMAL: {colour}, FRIGHTENED: {Actor.FRIGHTENED, Actor.EYES}, EATEN: {Actor.EYES}}[int(state)])
    alone = gaps.min(1) >= SPRITE_SIZE
    return [(look, xy, bool(a)) for look, xy, a in zip(looks, to_frame_xy(places), alone, strict=True)]


def at(sprites: list[Sprite], looks: set[Actor], xy: np.ndarray, within: float) -> Sprite | None:
    """The sprite of one of these looks at a place."""
    return next((s for s in sprites if s.actor in looks and np.abs(xy - (s.x, s.y)).max() <= within), None)


def test_every_actor_that_nobody_touches_is_found_whole_and_within_two_pixels(episodes: list[Episode]) -> None:
    found = total = 0
    for episode in episodes:
        for k in range(0, len(episode), 4):
            sprites = read_sprites(episode.frames(k, k + 1)[0])
            for looks, xy, alone in actors(episode, k):
                if alone:
                    sprite = at(sprites, looks, xy, within=2)
                    found, total = found + (sprite is not None and sprite.whole), total + 1
    assert total > 100
    assert found >= 0.99 * total


def test_nobody_is_found_where_nobody_is(episodes: list[Episode]) -> None:
    for episode in episodes:
        for k in range(0, len(episode), 8):
            places = [xy for _, xy, _ in actors(episode, k)]
            for sprite in read_sprites(episode.frames(k, k + 1)[0]):
                near = min(np.abs(xy - (sprite.x, sprite.y)).max() for xy in places)
                assert near < WIDTH / 2 or not sprite.whole


def test_the_empty_maze_and_a_black_frame_have_no_actor(empty_maze: np.ndarray) -> None:
    assert read_sprites(empty_maze) == []
    assert read_sprites(np.zeros_like(empty_maze)) == []


@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_a_faded_actor_is_not_found(episodes: list[Episode], empty_maze: np.ndarray, strength: float) -> None:
    seen: set[Actor] = set()
    for episode in episodes:
        for k in range(0, len(episode), 24):
            frame = episode.frames(k, k + 1)[0]
            alone = [(looks, xy) for looks, xy, alone in actors(episode, k) if alone]
            whole = [s for s in read_sprites(frame) if any(at([s], looks, xy, within=2) for looks, xy in alone)]
            for sprite in whole:
                frame = frame.copy()
                box = np.s_[sprite.y - 2 : sprite.y + WIDTH + 2, sprite.x - 2 : sprite.x + WIDTH + 2]
                frame[box] = (strength * frame[box] + (1 - strength) * empty_maze[box]).astype(np.uint8)
            seen |= {s.actor for s in whole}
            left = read_sprites(frame)  # all of them faded
            assert not [s for s in whole if at(left, {s.actor}, np.array([s.x, s.y]), within=8)]
    assert {Actor.PACMAN, *GHOST_COLOURS} <= seen


def test_half_an_actor_is_found_but_not_whole_unless_another_covers_the_rest(episodes: list[Episode]) -> None:
    episode = episodes[1]
    frame = episode.frames(0, 1)[0].copy()  # four ghosts in their own colours
    red = next(s for s in read_sprites(frame) if s.actor is Actor.RED)
    half = np.s_[red.y : red.y + WIDTH, red.x + WIDTH // 2 : red.x + WIDTH]
    erased = frame.copy()
    erased[half] = 0
    assert at([s for s in read_sprites(erased) if s.whole], {Actor.RED}, np.array([red.x, red.y]), within=12) is None

    cyan = next(s for s in read_sprites(frame) if s.actor is Actor.CYAN)
    covered = frame.copy()
    shift = WIDTH // 2
    body = frame[cyan.y : cyan.y + WIDTH, cyan.x : cyan.x + WIDTH]
    below = covered[red.y : red.y + WIDTH, red.x + shift : red.x + shift + WIDTH]
    below[body.any(-1)] = body[body.any(-1)]
    behind = at(read_sprites(covered), {Actor.RED}, np.array([red.x, red.y]), within=2)
    assert behind is not None
    assert behind.whole
    assert behind.visible < 0.8


def test_a_doubled_ghost_is_seen_twice_and_counted_once(episodes: list[Episode]) -> None:
    frame = episodes[1].frames(0, 1)[0].copy()
    red = next(s for s in read_sprites(frame) if s.actor is Actor.RED)
    below = red.y + 8 * WIDTH
    frame[below : below + WIDTH, red.x : red.x + WIDTH] = frame[red.y : red.y + WIDTH, red.x : red.x + WIDTH]
    sprites = read_sprites(frame)
    assert sum(s.actor is Actor.RED and s.whole for s in sprites) == 2
    assert count_ghosts(sprites) == 4


def test_an_episode_begins_with_pacman_and_four_ghosts(episodes: list[Episode]) -> None:
    sprites = read_sprites(episodes[1].frames(0, 1)[0])
    assert pacman(sprites) is not None
    assert count_ghosts(sprites) == 4
    assert {s.actor for s in sprites} == {Actor.PACMAN, *GHOST_COLOURS}


def test_a_frame_of_another_shape_or_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[552, 456, 3\]; expected uint8 \[512, 512, 3\]"):
        read_sprites(np.zeros((552, 456, 3), np.uint8))
    with pytest.raises(ValueError, match="dtype float32"):
        read_sprites(np.zeros((512, 512, 3), np.float32))

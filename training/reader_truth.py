"""What labelled frames of the classic maze really show, to check the reader against.

The truth about actors, score and lives is in the labels. That about pellets is the game's history: all stand when an
episode begins, and a place empties when Pac-Man comes to it. (The label `pellets_left` is off by one here and there.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from neural_pacman.episodes import Episode, parquet_files, read_episodes
from training.clips import has_labels
from training.maze import PELLET_XY, TILE_SIZE
from training.sprites import (
    GHOST_COLOURS,
    SCREEN_HEIGHT,
    SCREEN_WIDTH,
    SPRITE_SIZE,
    Actor,
    silhouette,
    to_frame_xy,
    to_screen_xy,
)

EATEN_WITHIN = 21
"""Pac-Man's distance (screen px, the larger of both directions) at which a pellet is eaten: recorded frames never show
a pellet that he has been so close to. His positions are multiples of 3, and one tile off, at 24, he has eaten none."""
WHITE = 240
"""Darkest that a channel of a standing pellet's middle is on the screen."""
NORMAL, FRIGHTENED, EATEN = 1, 2, 3
"""The label `ghost_state`."""
NEEDED = ("player_xy", "ghost_xy", "ghost_state", "score", "lives", "pellets_left")


@dataclass(frozen=True)
class Truth:
    """What one state really shows.

    Attributes:
        kinds: `Pac-Man`, `normal`, `frightened` or `eaten` of Pac-Man and the four ghosts.
        looks: what each may look like; a frightened ghost's body blinks near the end.
        xy: float `[5, 2]`, their top-left corners in frame px.
        covered: float `[5]`, the share of each that lies behind others.
        pellets: bool `[P]`.
        near: bool `[P]`, places that an actor touches.
        pellets_left, score, lives: as labelled.
    """

    kinds: tuple[str, ...]
    looks: tuple[frozenset[Actor], ...]
    xy: np.ndarray
    covered: np.ndarray
    pellets: np.ndarray
    near: np.ndarray
    pellets_left: int
    score: int
    lives: int


def labelled_frames(dataset: str, count: int) -> Iterator[tuple[np.ndarray, Truth]]:
    """About `count` prepared frames spread evenly over a dataset of parquet files, each with its truth.

    Raises what reading a dataset raises, and ValueError for one without labels or with another game's frames.
    """
    files = parquet_files(dataset)
    if not files:
        raise ValueError(f"{dataset} is no local path; expected a folder of parquet files or one parquet file.")
    total = sum(pq.read_metadata(file).num_rows for file in files)
    passed = 0
    for episode in read_episodes(dataset):
        _check(episode, dataset)
        pellets = pellet_history(episode)
        for k in range(len(episode)):
            place = passed + k
            if place * count // total != (place - 1) * count // total:
                yield episode.frames(k, k + 1)[0], truth(episode, k, pellets[k])
        passed += len(episode)


def _check(episode: Episode, dataset: str) -> None:
    if missing := [name for name in NEEDED if name not in episode.labels]:
        raise ValueError(
            f"{dataset} has no column {', '.join(missing)}: the reader can only be checked on frames with the labels "
            f"{', '.join(NEEDED)}."
        )
    if not has_labels([episode]):
        raise ValueError(
            f"{dataset} has frames of {episode.format.frame_width} x {episode.format.frame_height}; expected the "
            f"classic maze's {SCREEN_WIDTH} x {SCREEN_HEIGHT}, which the reader knows."
        )


def truth(episode: Episode, k: int, pellets: np.ndarray) -> Truth:
    """The truth about state `k`, given which pellets stand there."""
    labels = episode.labels
    states = labels["ghost_state"][k].tolist()
    looks = [frozenset({Actor.PACMAN})]
    for colour, state in zip(GHOST_COLOURS, states, strict=True):
        options = {NORMAL: {colour}, FRIGHTENED: {Actor.FRIGHTENED, Actor.EYES}, EATEN: {Actor.EYES}}
        looks.append(frozenset(options[state]))
    places = np.concatenate([labels["player_xy"][k][None], labels["ghost_xy"][k]])
    gap = np.abs(places[:, None] - (to_screen_xy(PELLET_XY) - TILE_SIZE / 2)).max(axis=-1).min(axis=0)
    return Truth(
        kinds=("Pac-Man", *({NORMAL: "normal", FRIGHTENED: "frightened", EATEN: "eaten"}[s] for s in states)),
        looks=tuple(looks),
        xy=to_frame_xy(places),
        covered=_covered(places, [EATEN if look == {Actor.EYES} else NORMAL for look in looks]),
        pellets=pellets,
        near=gap < SPRITE_SIZE,
        pellets_left=int(labels["pellets_left"][k]),
        score=int(labels["score"][k]),
        lives=int(labels["lives"][k]),
    )


def _covered(places: np.ndarray, states: list[int]) -> np.ndarray:
    """The share of each actor behind those after it, which are drawn later; screen px `[5, 2]`."""
    shapes = [silhouette(a) for a in (Actor.PACMAN, Actor.RED, Actor.EYES)]
    mine = [shapes[0], *(shapes[2 if state == EATEN else 1] for state in states[1:])]
    top = np.full((SCREEN_HEIGHT, SCREEN_WIDTH), -1)
    for i, ((x, y), shape) in enumerate(zip(places, mine, strict=True)):
        top[y : y + SPRITE_SIZE, x : x + SPRITE_SIZE][shape] = i
    return np.array([1 - (top == i).sum() / shape.sum() for i, shape in enumerate(mine)])


def pellet_history(episode: Episode) -> np.ndarray:
    """Which pellets stand in each state of an episode that is there from its start, bool `[S, P]`.

    Where a step brought a pellet's 10 points though Pac-Man is seen at none, he ate and died within the step: of those
    around him it is the one whose middle the screen no longer shows in white.
    """
    middles = to_screen_xy(PELLET_XY)
    places = middles - TILE_SIZE / 2
    player, score = episode.labels["player_xy"], episode.labels["score"]
    standing, history = np.ones(len(places), dtype=bool), []
    for k, place in enumerate(player):
        reached = standing & (np.abs(places - place).max(axis=-1) <= EATEN_WITHIN)
        if k and (score[k] - score[k - 1]) % 100 and np.abs(place - player[k - 1]).max() > 2 * TILE_SIZE:
            around = standing & (np.abs(places - player[k - 1]).max(axis=-1) <= 2 * TILE_SIZE)
            column, row = middles.round().astype(int).T
            reached |= around & (episode.raw(k)[row, column].min(axis=-1) < WHITE)
        standing &= ~reached
        history.append(standing.copy())
    return np.array(history)

"""Whether a dataset is one that a world can be measured on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from neural_pacman.episodes import FORMAT_KEY, PUBLIC_FORMAT, DatasetFormat, Episode, read_episodes
from neural_pacman.frames import FRAME_SIZE, to_images
from neural_pacman.world import WorldModel
from training.clips import spread

STATES = 5000
"""Episodes are read until they have so many states, unless the caller says how many episodes."""
LOOKED_AT = 8
LIT = 64
"""Brightness from which a pixel of the background belongs to the maze, and largest difference to be the same."""
MIN_SAME = 0.7
"""Smallest share of the maze's pixels that a frame of the world's game shows: 0.92 and more in recorded play."""


def read_some(dataset: str, count: int | None) -> list[Episode]:
    """The first `count` episodes, or as many as it takes for `STATES` states, or all there are.

    Raises what reading a dataset raises, and ValueError when there are fewer than `count`.
    """
    if count is not None and count < 1:
        raise ValueError(f"{count} episodes were asked for; expected at least 1.")
    episodes: list[Episode] = []
    for episode in read_episodes(dataset):
        episodes.append(episode)
        if len(episodes) == count or (count is None and sum(map(len, episodes)) >= STATES):
            break
    if count is not None and len(episodes) < count:
        raise ValueError(
            f"The dataset {dataset} has {len(episodes)} episodes; {count} were asked for. Ask for at most "
            f"{len(episodes)}, or give a larger dataset."
        )
    return episodes


def check_fit(world: WorldModel, episodes: Sequence[Episode], dataset: str) -> None:
    """Raise ValueError when frames or pace of the dataset are not those of the world's game.

    Actions go by their names: a world or dataset with others is refused when it is read.
    """
    name = world.config.name
    given = episodes[0].format
    if (known := _seeds_format(world)) is not None:
        sizes = [(format.frame_width, format.frame_height) for format in (known, given)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"The world {name} dreams a screen of {sizes[0][0]} x {sizes[0][1]}; the dataset {dataset} has frames "
                f"of {sizes[1][0]} x {sizes[1][1]}. Give recordings of the game that the world was made from."
            )
    if world.config.frames_per_second != given.frames_per_second:
        raise ValueError(
            f"The world {name} dreams {world.config.frames_per_second} frames a second; the dataset {dataset} has "
            f"{given.frames_per_second}. Give recordings of that pace."
        )
    if world.autoencoder.background is not None:
        same = _same_maze(to_images(world.autoencoder.background).reshape(FRAME_SIZE, FRAME_SIZE, 3), episodes)
        if same < MIN_SAME:
            raise ValueError(
                f"The dataset {dataset} shows another game than the world {name}: {same:.0%} of what stands still in "
                f"the world's picture is in its frames; expected at least {MIN_SAME:.0%}. Give recordings of the game "
                "that the world was made from."
            )


def _seeds_format(world: WorldModel) -> DatasetFormat | None:
    """How the recordings that a world carries are stored; None when it carries none."""
    if world.seeds_file is None:
        return None
    metadata = pq.read_schema(world.seeds_file).metadata or {}
    return DatasetFormat.from_json(metadata[FORMAT_KEY]) if FORMAT_KEY in metadata else PUBLIC_FORMAT


def _same_maze(background: np.ndarray, episodes: Sequence[Episode]) -> float:
    """The share of the background's lit pixels that the middle one of eight frames shows as they are, 0 to 1."""
    lit = background.max(axis=-1) >= LIT
    states = [(episode, k) for episode in episodes for k in range(len(episode))]
    shares = []
    for i in spread(len(states), LOOKED_AT):
        episode, k = states[i]
        difference = np.abs(episode.frames(k, k + 1)[0].astype(int) - background).max(axis=-1)
        shares.append(float((difference[lit] < LIT).mean()))
    return float(np.median(shares))

"""Where dreams start: real histories, from a world's own seeds or from any dataset, encoded once and shared."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from neural_pacman.actions import Action
from neural_pacman.episodes import HISTORY, Episode, pad_history, read_episodes, write_rows
from neural_pacman.frames import to_tensor
from neural_pacman.world import WorldModel

KINDS = ("start", "maze", "frightened", "last_life")
"""What a world's own seeds show: an episode's first states, mid-maze, frightened ghosts, the last life."""

STREAMED_EPISODES = 16
"""Episodes read of a dataset that is streamed from the hub."""

STATES_PER_DATASET = 64
"""A dataset gives at least so many seeds, where it has so many full histories, and fewer than twice as many."""

ENCODE_CHUNK = 8
"""Frames encoded at once: bounds the memory of a history of 512 x 512 frames."""


@dataclass(frozen=True)
class Start:
    """A recorded state that a dream can begin at, with what led to it.

    Attributes:
        history: 1 to 32 consecutive states, the last of them the one to begin at.
        episode: the dataset's number of the episode.
        row: index of the state in its episode; 0 is the episode's first state.
        kind: one of `KINDS`, or empty where nobody said.
    """

    history: Episode
    episode: int
    row: int
    kind: str = ""

    @classmethod
    def at(cls, episode: Episode, state: int, kind: str = "") -> Start:
        """The start at one state of an episode; IndexError when the episode has no such state."""
        if not 0 <= state < len(episode):
            raise IndexError(f"Episode {episode.number} has states 0 to {len(episode) - 1}; given {state}.")
        here = slice(max(state - HISTORY + 1, 0), state + 1)
        history = Episode(episode.number, episode.format, episode.images[here], episode.actions[here])
        return cls(history, episode.number, state, kind)


@dataclass(frozen=True)
class Seed:
    """An encoded start: `latents` float32 `[32, 32, 16, 16]`, oldest first, the `actions` int64 `[31]` between, and
    what is `known` after all of its frames but the newest, int16 `[M]`.

    Shared by every dream that begins here: never write to its tensors.
    """

    latents: Tensor
    actions: Tensor
    known: Tensor
    episode: int
    row: int
    kind: str


def stacked(seeds: Sequence[Seed]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents `[B, 32, 32, 16, 16]`, actions `[B, 31]` and what is known `[B, M]` of so many seeds."""
    parts = ((seed.latents, seed.actions, seed.known) for seed in seeds)
    latents, actions, known = (torch.stack(tensors) for tensors in zip(*parts, strict=True))
    return latents, actions, known


class Seeds:
    """The starts of one world, encoded when first asked for and kept.

    `Seeds.of` shares one object among all environments of a process; the constructor serves starts of your own.
    """

    def __init__(self, world: WorldModel, starts: Iterable[Start]) -> None:
        self.world = world
        self._starts = list(starts)
        self._encoded: dict[int, Seed] = {}

    @classmethod
    def of(cls, world: WorldModel, dataset: str | Path | None = None) -> Seeds:
        """The world's own seeds, or evenly spaced states of a dataset (of a streamed hub id: of its first 16 episodes).

        Raises:
            FileNotFoundError: the world carries no seeds and no dataset is given, or there is no such dataset.
            ValueError: the dataset cannot be read, or no episode of it has the 32 states of a full history.
        """
        source = _identity(dataset)
        seeds = _shared.get((id(world), source))
        if seeds is None:
            seeds = cls(world, _own_starts(world) if dataset is None else _dataset_starts(dataset))
            _shared[id(world), source] = seeds
        if seeds not in _latest:
            _latest.append(seeds)
        return seeds

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Seed:
        """Seed `index`, 0 to `len - 1`; IndexError outside."""
        if not 0 <= index < len(self):
            raise IndexError(f"There are seeds 0 to {len(self) - 1}; given {index}.")
        if index not in self._encoded:
            start = self._starts[index]
            frames = start.history.frames(0, len(start.history))
            encoded = encode_history(self.world, frames, start.history.actions[:-1])
            self._encoded[index] = Seed(*encoded, start.episode, start.row, start.kind)
        return self._encoded[index]


_shared: WeakValueDictionary[tuple[int, str], Seeds] = WeakValueDictionary()
"""By the world's identity, which is safe: seeds hold their world, so an entry never outlives it."""

_latest: deque[Seeds] = deque(maxlen=2)
"""Keeps the newest seeds (and with them their worlds) warm from one environment's `close` to the next one's `make`."""


def encode_history(world: WorldModel, frames: np.ndarray, actions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Prepared frames uint8 `[N, 512, 512, 3]` and the `N - 1` actions between them as a history to dream from.

    Returns latents float32 `[32, 32, 16, 16]`, actions int64 `[31]`, and what is known after all frames but the newest,
    int16 `[M]`, on the world's device. Fewer than 32 frames are filled up with the first one and NO_ACTION. ValueError
    for another number of frames or actions.
    """
    given = to_tensor(frames).to(world.device)
    latents = world.encode(given[None], chunk=ENCODE_CHUNK)[0]
    known = world.follow(given[:-1])[0]
    # Padding latents instead of frames encodes the repeated frame once.
    padded, actions = pad_history(latents.float().cpu().numpy(), np.asarray(actions, dtype=np.int64))
    return torch.from_numpy(padded).to(world.device), torch.from_numpy(actions).to(world.device), known


def write_seeds(path: str | Path, starts: Iterable[Start]) -> None:
    """Write starts as a world's `seeds.parquet`: a dataset in `OWN_FORMAT` of one short episode a seed.

    The frames are the upright screens, in lossless WebP. The file is whole or absent. ValueError when there are no
    starts, or when their screens differ in size.
    """
    columns = {"kind": pa.string(), "source_episode": pa.int64(), "source_row": pa.int64()}
    write_rows(path, (row for number, start in enumerate(starts) for row in _seed_rows(number, start)), columns)


def _seed_rows(number: int, start: Start) -> Iterator[dict[str, object]]:
    history = start.history
    for state in range(len(history)):
        # The action that led on from the last state is not part of the seed: the dream's player chooses it.
        action = history.actions[state] if state + 1 < len(history) else Action.NO_ACTION
        yield {
            "episode": number,
            "frame_image": history.raw(state),
            "action": int(action),
            "kind": start.kind,
            "source_episode": start.episode,
            "source_row": start.row,
        }


def _own_starts(world: WorldModel) -> Iterator[Start]:
    if world.seeds_file is None:
        raise FileNotFoundError(
            f"The world {world.config.name} carries no seeds; give a dataset to start from (dataset=...), or your own "
            'frames (reset(options={"frames": ..., "actions": ...})).'
        )
    for episode in read_episodes(world.seeds_file):
        labels = episode.labels
        yield Start(
            replace(episode, labels={}),
            episode=int(labels["source_episode"][-1]),
            row=int(labels["source_row"][-1]),
            kind=str(labels["kind"][-1]),
        )


def _dataset_starts(dataset: str | Path) -> list[Start]:
    """Evenly spaced full histories, found in one pass over a dataset of unknown length."""
    episodes: Iterator[Episode] = read_episodes(dataset)
    if not Path(dataset).exists():
        episodes = islice(episodes, STREAMED_EPISODES)
    starts: list[Start] = []
    seen, stride, longest = 0, 1, 0
    for episode in episodes:
        longest = max(longest, len(episode))
        for state in range(HISTORY - 1, len(episode)):
            if seen % stride == 0:
                starts.append(Start.at(episode, state))
            seen += 1
            if len(starts) == 2 * STATES_PER_DATASET:
                starts, stride = starts[::2], 2 * stride
    if not starts:
        raise ValueError(
            f"The dataset {dataset} has too few states to start from: its longest episode has {longest}; expected at "
            f"least one of {HISTORY} or more."
        )
    return starts


def _identity(dataset: str | Path | None) -> str:
    """One name for one source, wherever the process stands."""
    if dataset is None:
        return ""
    return str(Path(dataset).resolve()) if Path(dataset).exists() else str(dataset)

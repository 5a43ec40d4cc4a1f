"""Recorded play to measure on: every step with the real history that leads to it, and stretches to dream along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neural_pacman.episodes import HISTORY, Episode
from neural_pacman.frames import to_tensor
from neural_pacman.world import WorldModel
from training.sprites import SCREEN_HEIGHT, SCREEN_WIDTH

HORIZONS = (1, 4, 16, 64, 256)
"""Steps after which free dreams are measured."""
REACHES = {16: 1, 64: 3, 256: 6}
"""How far dreams run: all of them to 16 steps, one in three on to 64 and one in six to 256, where play goes on."""
ENCODED_AT_ONCE = 8
ENCODED_AHEAD = 64
"""Steps of a clip whose real frames are kept encoded."""


@dataclass(frozen=True)
class Steps:
    """Consecutive steps of an episode, each with its real history; `states` are what the steps lead to.

    `history` float32 `[B, 32, 32, 16, 16]`, `actions` int64 `[B, 32]`, `real` float32 `[B, 32, 16, 16]`: the states
    themselves, encoded.
    """

    states: range
    history: Tensor
    actions: Tensor
    real: Tensor


@dataclass(frozen=True)
class Clip:
    """A stretch of play. Step 0 is the last state of its history, steps 1 to `ahead` are what followed.

    Attributes:
        episode: where it is from.
        start: the state of the episode that is step 0.
        ahead: how many steps to dream along, one of `REACHES`.
        latents: float32 `[32 + min(ahead, 64), 32, 16, 16]`, its states encoded, on the world's device.
        actions: int64 `[31 + ahead]`, those between the states, there too.
        known: int16 `[1, M]`, what the states before step 0 showed, there too.
    """

    episode: Episode
    start: int
    ahead: int
    latents: Tensor
    actions: Tensor
    known: Tensor

    @classmethod
    def of(cls, world: WorldModel, episode: Episode, start: int, ahead: int, latents: Tensor | None = None) -> Clip:
        """The clip from a state on; `latents` when they are there already."""
        states = clip_states(start, ahead)
        if latents is None:
            latents = encode_states(world, episode, states.start, states.stop)
        actions = torch.from_numpy(episode.actions[states.start : start + ahead]).to(world.device)
        before = to_tensor(episode.frames(states.start, start)).to(world.device)
        return cls(episode, start, ahead, latents, actions, world.follow(before))

    @property
    def name(self) -> str:
        return f"episode {self.episode.number}, state {self.start}"

    def real(self, step: int) -> np.ndarray:
        """The real frame of a step, uint8 `[512, 512, 3]`."""
        return self.episode.frames(self.start + step, self.start + step + 1)[0]

    def label(self, name: str, step: int) -> np.ndarray:
        return self.episode.labels[name][self.start + step]


def clip_states(start: int, ahead: int) -> range:
    """The states that a clip keeps encoded."""
    return range(start - HISTORY + 1, start + min(ahead, ENCODED_AHEAD) + 1)


def walk(world: WorldModel, episode: Episode, size: int) -> Iterator[Steps]:
    """All steps of an episode that have a whole history behind them, `size` at a time; each state is encoded once."""
    if len(episode) <= HISTORY:
        return
    actions = torch.from_numpy(episode.actions).to(world.device)
    kept = encode_states(world, episode, 0, HISTORY)
    for part in batches(range(HISTORY, len(episode)), size):
        kept = torch.cat([kept[-HISTORY:], encode_states(world, episode, part.start, part.stop)])
        history = torch.stack([kept[i : i + HISTORY] for i in range(len(part))])
        led = torch.stack([actions[state - HISTORY : state] for state in part])
        yield Steps(part, history, led, kept[HISTORY:])


def encode_states(world: WorldModel, episode: Episode, first: int, stop: int) -> Tensor:
    """States `first` to `stop - 1` of an episode as latents, float32 `[stop - first, 32, 16, 16]`."""
    # Frames become floats, 3 MB each, a few at a time.
    parts = batches(range(first, stop), ENCODED_AT_ONCE)
    return torch.cat([world.encode(to_tensor(episode.frames(part[0], part[-1] + 1))[None])[0] for part in parts])


def choose_starts(episodes: Sequence[Episode], count: int) -> list[tuple[Episode, int, int]]:
    """`count` starts, or all there are: episode, state, and how far to dream on from there.

    All have a whole history behind them and 16 states ahead. The share that goes on further is spread evenly over the
    states that have so much ahead, the rest over the others. Raises ValueError when there is none.
    """
    least = min(REACHES)
    states = [(i, k) for i, episode in enumerate(episodes) for k in range(HISTORY - 1, len(episode) - least)]
    if not states:
        longest = max((len(episode) for episode in episodes), default=0)
        raise ValueError(
            f"No episode is long enough to measure on: the longest has {longest} states; expected {HISTORY + least} "
            f"({HISTORY} of history and {least} to come)."
        )
    chosen: dict[tuple[int, int], int] = {}
    for reach, share in sorted(REACHES.items(), reverse=True):
        able = [(i, k) for i, k in states if k + reach < len(episodes[i]) and (i, k) not in chosen]
        wanted = -(-count // share) - len(chosen)
        chosen |= {able[at]: reach for at in spread(len(able), max(wanted, 0))}
    return [(episodes[i], k, reach) for (i, k), reach in sorted(chosen.items())]


def spread(total: int, count: int) -> list[int]:
    """`count` of `range(total)`, or all, evenly apart: the middles of equal parts."""
    count = min(count, total)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def has_labels(episodes: Sequence[Episode]) -> bool:
    """Whether the game's own measures can be taken: labels of where everyone is, on the classic maze's screen."""
    return all(
        {"player_xy", "ghost_xy", "ghost_state", "lives"} <= episode.labels.keys() and is_classic(episode)
        for episode in episodes
    )


def is_classic(episode: Episode) -> bool:
    """Whether an episode's screen has the classic maze's size, which the reader needs."""
    return (episode.format.frame_height, episode.format.frame_width) == (SCREEN_HEIGHT, SCREEN_WIDTH)


def batches(items: range, size: int) -> Iterator[range]:
    """`items` in parts of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))

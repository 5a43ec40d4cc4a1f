"""Stretches of recorded play to measure on: 32 states of history, and the 64 that really followed."""

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

AHEAD = 64
"""Steps measured from each history."""
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Clip:
    """A stretch of play. Step 0 is the last state of its history, steps 1 to 64 are what followed.

    Attributes:
        episode: where it is from.
        start: the state of the episode that is step 0.
        latents: float32 `[96, 32, 16, 16]`, all its states encoded, on the world's device.
        actions: int64 `[95]`, those between the states, there too.
    """

    episode: Episode
    start: int
    latents: Tensor
    actions: Tensor

    @classmethod
    def of(cls, world: WorldModel, episode: Episode, start: int) -> Clip:
        first, last = start - HISTORY + 1, start + AHEAD
        latents = encode_states(world, episode, first, last + 1)
        return cls(episode, start, latents, torch.from_numpy(episode.actions[first:last]).to(world.device))

    def real(self, step: int) -> np.ndarray:
        """The real frame of a step, uint8 `[512, 512, 3]`."""
        return self.episode.frames(self.start + step, self.start + step + 1)[0]

    def latent(self, step: int) -> Tensor:
        """The real frame of a step, encoded: float32 `[32, 16, 16]`."""
        return self.latents[HISTORY - 1 + step]

    def windows(self, steps: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What leads to each of `steps` (1 to 64): real histories `[B, 32, 32, 16, 16]` and actions `[B, 32]`."""
        history = torch.stack([self.latents[step - 1 : step - 1 + HISTORY] for step in steps])
        return history, torch.stack([self.actions[step - 1 : step - 1 + HISTORY] for step in steps])


def encode_states(world: WorldModel, episode: Episode, first: int, stop: int) -> Tensor:
    """States `first` to `stop - 1` of an episode as latents, float32 `[stop - first, 32, 16, 16]`."""
    # Frames become floats, 3 MB each, a few at a time.
    parts = batches(range(first, stop), ENCODED_AT_ONCE)
    return torch.cat([world.encode(to_tensor(episode.frames(part[0], part[-1] + 1))[None])[0] for part in parts])


def choose_starts(episodes: Sequence[Episode], count: int) -> list[tuple[Episode, int]]:
    """`count` states, or all, spread evenly over those with a whole history behind and 64 states ahead.

    Raises ValueError when there is none.
    """
    starts = [(episode, k) for episode in episodes for k in range(HISTORY - 1, len(episode) - AHEAD)]
    if not starts:
        longest = max((len(episode) for episode in episodes), default=0)
        raise ValueError(
            f"No episode is long enough to measure on: the longest has {longest} states; expected {HISTORY + AHEAD} "
            f"({HISTORY} of history and {AHEAD} to come)."
        )
    middles = np.linspace(0, len(starts) - 1, 2 * min(count, len(starts)) + 1)[1::2]  # of equal parts
    return [starts[i] for i in np.unique(middles.round().astype(int))]


def has_labels(episodes: Sequence[Episode]) -> bool:
    """Whether the game's own measures can be taken: labels of where Pac-Man is, on the classic maze's screen."""
    return all(
        {"player_xy", "lives"} <= episode.labels.keys()
        and (episode.format.frame_height, episode.format.frame_width) == (SCREEN_HEIGHT, SCREEN_WIDTH)
        for episode in episodes
    )


def batches(items: range, size: int) -> Iterator[range]:
    """`items` in parts of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))

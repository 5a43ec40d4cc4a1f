"""A dream's way, step by step, to go back along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neural_pacman.actions import Action
from neural_pacman.dreams import DreamState
from neural_pacman.episodes import HISTORY

BLOCK_ROWS = 64
"""Rows that memory is taken for at once."""


class Rows:
    """Arrays of one shape and dtype in a row, in blocks of `BLOCK_ROWS`.

    Kept one by one they would settle in the gaps that the networks' large buffers leave behind at every step, and those
    would need new room: with glibc's allocator a tape of 40 kB a step took 3 MB a step.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._count = 0

    def append(self, row: np.ndarray) -> None:
        if self._count == BLOCK_ROWS * len(self._blocks):
            self._blocks.append(np.empty((BLOCK_ROWS, *row.shape), row.dtype))
        self._blocks[-1][self._count % BLOCK_ROWS] = row
        self._count += 1

    def pop(self) -> None:
        self._count -= 1
        if self._count == BLOCK_ROWS * (len(self._blocks) - 1):
            self._blocks.pop()

    def __getitem__(self, index: int) -> np.ndarray:
        return self._blocks[index // BLOCK_ROWS][index % BLOCK_ROWS]


class Tape:
    """One dream from where it began to where the tape stands: 72 kB a step.

    Attributes:
        start: the dream as it began.
        actions: those of the steps.
        rewards: game points that each step brought.
        ends: whether the world thinks that it ended the game.
    """

    def __init__(self, start: DreamState) -> None:
        self.start = start
        self.actions: list[Action] = []
        self.rewards: list[float] = []
        self.ends: list[bool] = []
        self._lives_lost: list[bool] = []
        self._latents = Rows()
        self._settled = Rows()
        self._generators = Rows()
        self._known = Rows()

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.actions)

    def append(self, state: DreamState, action: Action, reward: float, end: bool) -> None:
        """Go on by a step that led to `state`."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.ends.append(end)
        self._lives_lost.append(bool(state.progress["life_lost"][0]))
        self._latents.append(state.engine.latents[-1][0].cpu().numpy())
        self._settled.append(state.engine.latents[-2][0].cpu().numpy())
        self._generators.append(state.engine.generators[0].numpy())
        self._known.append(state.engine.known[0].cpu().numpy())

    def pop(self) -> None:
        """Go back by a step. IndexError where the dream began."""
        for kept in (self.actions, self.rewards, self.ends, self._lives_lost):
            kept.pop()
        for rows in (self._latents, self._settled, self._generators, self._known):
            rows.pop()

    @property
    def points(self) -> float:
        """Game points of all steps."""
        return float(self.start.progress["points"][0]) + sum(self.rewards)

    def latent(self, step: int) -> Tensor:
        """The latent `[1, 32, 16, 16]` that a step led to, 1 to `len`; 0 is where the dream began, -31 its history."""
        if step <= 0:
            return self.start.engine.latents[step - 1]
        return torch.from_numpy(self._latents[step - 1])[None]

    def known(self, step: int) -> Tensor:
        """What was known of the frame before that of a step, int16 `[1, M]`, 0 to `len`."""
        return self.start.engine.known if step == 0 else torch.from_numpy(self._known[step - 1])[None]

    def _before(self, step: int) -> Tensor:
        """The same as the steps after it see it: a dream may have settled before it went on."""
        return self.latent(step) if step < 0 else torch.from_numpy(self._settled[step])[None]

    def state(self) -> DreamState:
        """The dream as it is where the tape stands."""
        steps = len(self)
        if steps == 0:
            return self.start
        led = torch.tensor([self.actions[-HISTORY + 1 :]], device=self.start.engine.actions.device)
        engine = replace(
            self.start.engine,
            # Copies, since what lies on the tape is overwritten when another branch is dreamed.
            latents=(
                *(self._before(step).clone() for step in range(steps - HISTORY + 1, steps)),
                self.latent(steps).clone(),
            ),
            actions=torch.cat([self.start.engine.actions, led], dim=1)[:, -HISTORY + 1 :],
            generators=(torch.from_numpy(self._generators[steps - 1].copy()),),
            known=torch.from_numpy(self._known[steps - 1].copy())[None],
        )
        news = {"step": steps, "points": self.points, "life_lost": self._lives_lost[-1]}
        progress = {name: np.full_like(was, news.get(name, was[0])) for name, was in self.start.progress.items()}
        return replace(self.start, engine=engine, progress=progress)

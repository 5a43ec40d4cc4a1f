"""The dream that is played: one at a time, on a tape that runs both ways, every event of it written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from neural_pacman.actions import Action
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.episodes import Recording
from neural_pacman.frames import to_images
from neural_pacman.session import Begin, DreamOn, Event, Rewind, Step, checksum
from neural_pacman.tape import Tape

Options = Callable[[int], dict[str, Any] | None]
"""The options that a dream is reset with, by its seed."""


class Game:
    """Dreams one after the other in one environment, each from a seed, with the tape of the newest.

    Args:
        env: a `NeuralPacmanEnv` with `obs_type="rgb"` and `obs_size=512`, this game's own.
        options: where the dream of a seed begins, instead of where the seed says.
        observe: what an agent makes of a frame, uint8 `[512, 512, 3]`, and its latent, float32 `[32, 16, 16]`.
        log: is told of every event, once it has come about.
        keep: remember the dreams that were left, for `recordings`.

    Attributes:
        seed: what the dream began with.
        frame: the frame that the tape stands at, uint8 `[512, 512, 3]`.
        steps_in_all: steps dreamed so far, rewound ones too.
    """

    def __init__(
        self,
        env: NeuralPacmanEnv,
        *,
        options: Options | None = None,
        observe: Callable[[np.ndarray, Tensor], np.ndarray] | None = None,
        log: Callable[[Event], None] | None = None,
        keep: bool = False,
    ) -> None:
        self.env = env
        self._options = options
        self._observe = observe
        self._log = log
        self._keep = keep
        self._left: list[Tape] = []
        self._tape: Tape
        self._dreamed_on: int | None = None
        self._seen: dict[int, np.ndarray] = {}
        self.seed = 0
        self.steps_in_all = 0
        self.frame: np.ndarray

    def begin(self, seed: int) -> None:
        """Leave the dream and begin a seed's. ValueError for a seed below 0."""
        options = self._options(seed) if self._options else None
        self.frame, _ = self.env.reset(seed=seed, options=options)
        self.seed = seed
        self._tape = Tape(self.env.get_state())
        if self._keep:
            self._left.append(self._tape)
        self._dreamed_on = None
        self._seen = {}
        self._tell(Begin(seed))

    def step(self, action: Action) -> None:
        """Dream the frame that `action` leads to, over or not."""
        self.frame, reward, end, _, _ = self.env.step(action)
        self.steps_in_all += 1
        self._tape.append(self.env.get_state(), action, float(reward), end)
        self._tell(Step(action, self.env.num_inference_steps, self.checksum))

    def rewind(self) -> bool:
        """Go one step back; what is dreamed from there is a new branch. False where the dream began."""
        if self.steps == 0:
            return False
        self._seen.pop(self.steps, None)
        self._tape.pop()
        if self._dreamed_on is not None and self.steps < self._dreamed_on:
            self._dreamed_on = None
        self.env.set_state(self._tape.state())
        frame = self.env.render()
        assert frame is not None  # as it is with render_mode="rgb_array"
        self.frame = frame
        self._tell(Rewind())
        return True

    def dream_on(self) -> None:
        """Go on past the end; further ends of this dream count for nothing."""
        if self.over:
            self._dreamed_on = self.steps
            self._tell(DreamOn())

    @property
    def steps(self) -> int:
        """How far the tape is from where the dream began."""
        return len(self._tape)

    @property
    def points(self) -> float:
        """Points dreamed along the tape."""
        return self._tape.points

    @property
    def action(self) -> Action | None:
        """The action that led to where the tape stands; None where the dream began."""
        return self._tape.actions[-1] if self.steps else None

    @property
    def checksum(self) -> int:
        """Of the latent that the tape stands at."""
        return checksum(self._tape.latent(self.steps).cpu().numpy())

    @property
    def over(self) -> bool:
        """Whether the dream has ended, and nobody wanted it to go on all the same."""
        return self.steps > 0 and self._tape.ends[-1] and self._dreamed_on is None

    def observations(self, count: int) -> list[np.ndarray]:
        """What the agent sees in the last `count` places of the tape, or as many as there are, newest last.

        RuntimeError when nobody was said to observe.
        """
        if self._observe is None:
            raise RuntimeError("Nobody observes this game; make it with observe=....")
        seen = {}
        for step in range(max(0, self.steps - count + 1), self.steps + 1):
            if step not in self._seen:
                frame = self.frame if step == self.steps else self._decoded(self._tape, step)
                self._seen[step] = self._observe(frame, self._tape.latent(step)[0])
            seen[step] = self._seen[step]
        self._seen = seen
        return list(seen.values())

    def recordings(self) -> Iterator[Recording]:
        """The dreams so far as recorded games, each along the branch that was kept of it; decoded when asked for.

        A dream without a step is none. RuntimeError unless this game was told to `keep` them.
        """
        if not self._keep:
            raise RuntimeError("This game keeps no dreams; make it with keep=True.")
        for tape in self._left:
            if len(tape):
                yield self._recording(tape)

    def _recording(self, tape: Tape) -> Recording:
        return Recording(
            frames=(self._decoded(tape, step) for step in range(len(tape))),
            actions=np.array(tape.actions, np.int64),
            rewards=np.array(tape.rewards),
            # An end that was dreamed past was none.
            dones=np.array([*np.zeros(len(tape) - 1, bool), tape.ends[-1]]),
        )

    def _decoded(self, tape: Tape, step: int) -> np.ndarray:
        known, latent = (tensor.to(self.env.device) for tensor in (tape.known(step), tape.latent(step)))
        return to_images(self.env.world.decode_after(known, latent).shown)[0]

    def _tell(self, event: Event) -> None:
        if self._log:
            self._log(event)

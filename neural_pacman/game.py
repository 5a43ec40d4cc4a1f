"""The dream that is played: one at a time, on a tape that runs both ways, every event of it written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from neural_pacman.actions import Action
from neural_pacman.dreams import DreamState
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.episodes import Recording
from neural_pacman.frames import to_images
from neural_pacman.session import Begin, DreamOn, Event, Rewind, Step, checksum

Options = Callable[[int], dict[str, Any] | None]
"""The options that a dream is reset with, by its seed."""


@dataclass(frozen=True, eq=False)
class Moment:
    """A place on the tape: the dream as it stands there (32 kB), and the step that led to it.

    Attributes:
        state: to come back to.
        action: the one that led here; None where the dream began.
        reward: game points that the step brought.
        end: whether the world thinks that the step ended the game.
        observation: what an agent sees here, if one was said to look on.
    """

    state: DreamState
    action: Action | None = None
    reward: float = 0.0
    end: bool = False
    observation: np.ndarray | None = None

    @property
    def latent(self) -> Tensor:
        """Float32 `[1, 32, 16, 16]`, on the world's device."""
        return self.state.engine.latents[-1]


class Game:
    """Dreams one after the other in one environment, each from a seed, with the tape of the newest.

    Args:
        env: a `NeuralPacmanEnv` with `obs_type="rgb"` and `obs_size=512`, this game's own.
        options: where the dream of a seed begins, instead of where the seed says.
        observe: what an agent makes of a frame, uint8 `[512, 512, 3]`, and its latent, float32 `[32, 16, 16]`; kept
            along the tape.
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
        self._left: list[list[Moment]] = []
        self._tape: list[Moment] = []
        self._dreamed_on: int | None = None
        self.seed = 0
        self.steps_in_all = 0
        self.frame: np.ndarray

    def begin(self, seed: int) -> None:
        """Leave the dream and begin a seed's. ValueError for a seed below 0."""
        options = self._options(seed) if self._options else None
        self.frame, _ = self.env.reset(seed=seed, options=options)
        if self._keep:
            self._left.append(self._tape)
        self.seed = seed
        self._tape = []
        self._dreamed_on = None
        self._record(None)
        self._tell(Begin(seed))

    def step(self, action: Action) -> None:
        """Dream the frame that `action` leads to, over or not."""
        self.frame, reward, end, _, _ = self.env.step(action)
        self.steps_in_all += 1
        newest = self._record(action, float(reward), end)
        self._tell(Step(action, self.env.num_inference_steps, checksum(newest.latent.cpu().numpy())))

    def rewind(self) -> bool:
        """Go one step back; what is dreamed from there is a new branch. False where the dream began."""
        if self.steps == 0:
            return False
        self._tape.pop()
        if self._dreamed_on is not None and self.steps < self._dreamed_on:
            self._dreamed_on = None
        self.env.set_state(self._tape[-1].state)
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
        return len(self._tape) - 1

    @property
    def points(self) -> float:
        """Points dreamed along the tape."""
        return float(self._tape[-1].state.progress["points"][0])

    @property
    def action(self) -> Action | None:
        """The action that led to where the tape stands; None where the dream began."""
        return self._tape[-1].action

    @property
    def checksum(self) -> int:
        """Of the latent that the tape stands at."""
        return checksum(self._tape[-1].latent.cpu().numpy())

    @property
    def over(self) -> bool:
        """Whether the dream has ended, and nobody wanted it to go on all the same."""
        return self._tape[-1].end and self._dreamed_on is None

    def observations(self, count: int) -> list[np.ndarray]:
        """What the agent saw last along the tape, `count` at most, newest last."""
        return [moment.observation for moment in self._tape[-count:] if moment.observation is not None]

    def recordings(self) -> Iterator[Recording]:
        """The dreams so far as recorded games, each along the branch that was kept of it; decoded when asked for.

        A dream without a step is none. Raises ValueError unless this game was told to `keep` them.
        """
        if not self._keep:
            raise ValueError("This game keeps no dreams; make it with keep=True.")
        for tape in [*self._left, self._tape]:
            if len(tape) > 1:
                yield self._recording(tape)

    def _recording(self, tape: Sequence[Moment]) -> Recording:
        return Recording(
            frames=(to_images(self.env.world.decode(moment.latent))[0] for moment in tape[:-1]),
            actions=np.array([moment.action for moment in tape[1:]], np.int64),
            rewards=np.array([moment.reward for moment in tape[1:]]),
            # An end that was dreamed past was none.
            dones=np.array([moment.end and moment is tape[-1] for moment in tape[1:]]),
        )

    def _record(self, action: Action | None, reward: float = 0.0, end: bool = False) -> Moment:
        state = self.env.get_state()
        observation = self._observe(self.frame, state.engine.latents[-1][0]) if self._observe else None
        self._tape.append(Moment(state, action, reward, end, observation))
        return self._tape[-1]

    def _tell(self, event: Event) -> None:
        if self._log:
            self._log(event)

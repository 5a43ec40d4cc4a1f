"""Who moves the game on when no person does: a script, an agent, a recording, a session that was played before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_pacman.actions import Action
from neural_pacman.episodes import HISTORY, Episode, read_episodes
from neural_pacman.frames import psnr
from neural_pacman.game import Game
from neural_pacman.session import Begin, DreamOn, Header, Rewind, Session, Step

if TYPE_CHECKING:
    from neural_pacman.policy import SavedPolicy  # not everybody has Stable-Baselines3


@dataclass(frozen=True, eq=False)
class Beside:
    """What is shown beside the dream: the real frame, uint8 `[512, 512, 3]`, and how like it the dreamed one is.

    `likeness` is the PSNR and its mean since the dream began, dB; None where it begins.
    """

    frame: np.ndarray
    likeness: tuple[float, float] | None


class Mode(ABC):
    """Moves a game.

    Attributes:
        name: who that is, in a word.
        heeds_end: whether it leaves a dream that is over, or goes on in it.
        steps: how many steps there are in all; None for as many as are wanted.
    """

    name: str
    heeds_end = True
    steps: int | None = None

    @abstractmethod
    def move(self, game: Game) -> bool:
        """Make the next move; False when there is none."""

    @property
    def end(self) -> str:
        """What to say when there is no move left."""
        return f"the {self.name} ends here"

    def beside(self, game: Game) -> Beside | None:
        """What is to be shown beside the dream."""
        return None


class Script(Mode):
    """Actions known beforehand."""

    name = "script"

    def __init__(self, actions: Iterable[Action]) -> None:
        self.steps = len(actions) if isinstance(actions, Sized) else None
        self._actions = iter(actions)

    def move(self, game: Game) -> bool:
        action = next(self._actions, None)
        if action is None:
            return False
        game.step(action)
        return True


class Agent(Mode):
    """A Stable-Baselines3 agent, which looks at each frame; `seed` decides what it draws."""

    name = "agent"

    def __init__(self, policy: SavedPolicy, seed: int) -> None:
        self.policy = policy
        self._random = np.random.default_rng(seed)

    def move(self, game: Game) -> bool:
        game.step(self.policy.act(game.observations(self.policy.frame_stack), self._random))
        return True


class Comparison(Mode):
    """A dataset's episodes: the dream begins from one's history and is moved by its actions, so that both can be shown.

    The dream of seed `k` is beside episode `k`, counted from 0; after the last one comes the first again. Raises what
    `read_episodes` raises when an episode is asked for, and ValueError when none has two states.
    """

    name = "recording"
    heeds_end = False

    def __init__(self, dataset: str | Path) -> None:
        self._dataset = dataset
        self._unread: Iterator[Episode] | None = None
        self._episodes: list[Episode] = []
        self._likeness: list[float] = []
        self._start = 0
        self.episode: Episode

    def options(self, seed: int) -> dict[str, Any]:
        """Where the dream of a seed begins: the options of the environment's `reset`."""
        self.episode = self._find(seed)
        self._start = min(HISTORY - 1, self.episode.windows - 1)
        self._likeness = []
        self.steps = self.episode.windows - self._start
        return {
            "frames": self.episode.frames(0, self._start + 1),
            "actions": self.episode.actions[: self._start],
        }

    def move(self, game: Game) -> bool:
        state = self._start + game.steps
        if state >= self.episode.windows:
            return False
        game.step(Action(int(self.episode.actions[state])))
        return True

    def beside(self, game: Game) -> Beside:
        state = self._start + game.steps
        recorded = self.episode.frames(state, state + 1)[0]
        if game.steps == 0:
            return Beside(recorded, None)
        del self._likeness[game.steps - 1 :]  # what was rewound
        self._likeness.append(psnr(game.frame, recorded))
        return Beside(recorded, (self._likeness[-1], float(np.mean(self._likeness))))

    def _find(self, seed: int) -> Episode:
        if self._unread is None:
            self._unread = read_episodes(self._dataset)
        while len(self._episodes) <= seed and (episode := next(self._unread, None)) is not None:
            if episode.windows:
                self._episodes.append(episode)
        if not self._episodes:
            raise ValueError(f"No episode of {self._dataset} has two states; expected recorded play to dream beside.")
        return self._episodes[seed % len(self._episodes)]


class Replay(Mode):
    """A session, event by event; `here` says what it is played again in.

    Attributes:
        differs: the number of the first step whose frame is not the one that was played; None while all of them are.
    """

    name = "session"
    heeds_end = False

    def __init__(self, session: Session, here: Header) -> None:
        self.session = session
        self.here = here
        self.differs: int | None = None
        self.steps = sum(isinstance(event, Step) for event in session.events)
        self._next = 0

    def move(self, game: Game) -> bool:
        if self._next == len(self.session.events):
            return False
        event = self.session.events[self._next]
        self._next += 1
        match event:
            case Begin(seed):
                game.begin(seed)
            case Step(action, denoising_steps, checksum):
                game.env.num_inference_steps = denoising_steps
                game.step(action)
                if self.differs is None and game.checksum != checksum:
                    self.differs = game.steps_in_all
            case Rewind():
                game.rewind()
            case DreamOn():
                game.dream_on()
        return True

    @property
    def end(self) -> str:
        """What there is to say: whether all frames were those that were played, and if not, what is not as it was."""
        if self.differs is None:
            return "the session ends here: every frame was the one that was played"
        was, now = asdict(self.session.header), asdict(self.here)
        changed = ", ".join(f"{name} {was[name]} then, {now[name]} now" for name in was if was[name] != now[name])
        return f"frames differ from step {self.differs} on ({changed or 'the processor or a library may differ'})"

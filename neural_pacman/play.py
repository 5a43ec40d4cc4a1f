"""A person plays the dream in a window; without a display, a script plays it into a video."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from neural_pacman.actions import NUM_ACTIONS, Action
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.renderer import DisplayError, Key, Renderer
from neural_pacman.video import Video

DEMO_SECONDS = 15
DEMO_VIDEO = Path("neural-pacman.mp4")
OVER = "episode over - Enter plays the next one, Esc quits"

STEERING = {"left": Action.LEFT, "right": Action.RIGHT, "up": Action.UP, "down": Action.DOWN}
QUIT = {"escape"}
RESTART = {"r"}
RESTART_WHEN_OVER = {"r", "return", "enter"}


@dataclass(frozen=True)
class Play:
    """Play Pac-Man inside the dream: arrow keys steer, R starts the next dream, Esc quits.

    Without a display (or with --headless) a scripted demo plays, and a video of it is written.
    """

    world: str = "pacman"
    """The world to dream: a shipped one's name, a world folder, or a hub id."""
    seed: int = 0
    """What the first dream begins with: same seed, same dream. Each further dream takes the next number."""
    seed_index: int | None = None
    """Begin every dream from this one of the world's recorded histories, instead of one that the seed picks."""
    headless: bool = False
    """Open no window: let --actions play, and write a video."""
    steps: int | None = None
    """Stop after so many steps. Without it a window stays until it is closed, and a demo lasts 15 seconds."""
    out: Path | None = None
    """The MP4 to write. Without it a window is not recorded, and a demo goes to neural-pacman.mp4."""
    fps: int = 15
    """Steps a second, at most, in a window, and in the video. The game's own pace is 15."""
    num_inference_steps: int | None = None
    """Denoising steps for each frame; without it the world's own number."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, mps."""
    actions: Literal["demo", "random"] = "demo"
    """Who plays without a window: a script that moves about as a person would, or dice."""


def demo_actions(rng: np.random.Generator) -> Iterator[Action]:
    """Somebody strolling about: a turn every half second or so, keys held until the corner and then let go.

    It sees nothing of the game. Holding a key across the direction of travel turns Pac-Man at the next junction that
    allows it, and a wall in that direction changes nothing, so blind turns from axis to axis cover much of the maze.
    """
    across = {
        Action.LEFT: (Action.UP, Action.DOWN),
        Action.RIGHT: (Action.UP, Action.DOWN),
        Action.UP: (Action.LEFT, Action.RIGHT),
        Action.DOWN: (Action.LEFT, Action.RIGHT),
    }
    direction = Action.LEFT
    while True:
        yield from [direction] * int(rng.integers(4, 10))
        yield from [Action.NO_ACTION] * int(rng.integers(0, 5))
        direction = across[direction][int(rng.integers(2))]


def random_actions(rng: np.random.Generator) -> Iterator[Action]:
    """Any of the five actions, each as likely, anew at every step."""
    while True:
        yield Action(int(rng.integers(NUM_ACTIONS)))


PLAYERS: dict[str, Callable[[np.random.Generator], Iterator[Action]]] = {
    "demo": demo_actions,
    "random": random_actions,
}


class Dream:
    """One dream after the other in the same environment, and the count of what happens in them.

    Attributes:
        frame: the newest dreamed frame, uint8 `[512, 512, 3]`. Each is written into the video, if there is one.
        seed: what this dream began with.
        points: points dreamed in this dream.
        steps: steps taken in this dream.
        steps_in_all: steps taken in all dreams so far.
        over: whether this dream has ended; then only `restart` goes on.
    """

    def __init__(
        self, env: gym.Env[np.ndarray, Any], seed: int, seed_index: int | None = None, video: Video | None = None
    ) -> None:
        self._env = env
        self._options = None if seed_index is None else {"seed_index": seed_index}
        self._video = video
        self.steps_in_all = 0
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        self.seed = seed
        self.points = 0.0
        self.steps = 0
        self.over = False
        frame, _ = self._env.reset(seed=seed, options=self._options)
        self._keep(frame)

    def _keep(self, frame: np.ndarray) -> None:
        self.frame = frame
        if self._video:
            self._video.write(frame)

    def restart(self) -> None:
        """Leave this dream and begin the next seed's."""
        self._begin(self.seed + 1)

    def step(self, action: Action) -> None:
        """Dream the frame that `action` leads to."""
        frame, reward, self.over, _, _ = self._env.step(action)
        self.points += float(reward)
        self.steps += 1
        self.steps_in_all += 1
        self._keep(frame)


class Steering:
    """Which way the arrow keys point: the one pressed last of those held, as in the arcade."""

    def __init__(self) -> None:
        self._held: list[Action] = []
        self._tapped: Action | None = None

    def feed(self, key: Key) -> None:
        """Take notice of a key; any but the arrows changes nothing."""
        action = STEERING.get(key.name)
        if action is None:
            return
        if action in self._held:
            self._held.remove(action)
        if key.down:
            self._held.append(action)
            self._tapped = action

    def take(self) -> Action:
        """The action for the step about to be made. A key tapped since the last step counts, though it is up again."""
        tapped, self._tapped = self._tapped, None
        if tapped is not None:
            return tapped
        return self._held[-1] if self._held else Action.NO_ACTION


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or a polite kill) into an event, so that a loop ends between two steps, its video whole.

    The second one interrupts as usual.
    """
    asked = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def ask(*_: object) -> None:
        asked.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield asked
    finally:
        restore()


def play(settings: Play) -> None:
    """Play as `settings` say, until the person or the number of steps ends it.

    Raises:
        ValueError: a setting outside its range, an unknown world or device.
        OSError: the video cannot be written where it should go; said before anything is dreamed.
    """
    for name, least in (("seed", 0), ("seed_index", 0), ("steps", 1), ("fps", 1), ("num_inference_steps", 1)):
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; expected {least} or more.")
    with ExitStack() as stack:
        renderer = None if settings.headless else open_window(settings)
        path = settings.out or (None if renderer else DEMO_VIDEO)
        if renderer:
            stack.enter_context(renderer)
            renderer.show(np.zeros((1, 1, 3), np.uint8), "loading ...")  # else the window stays blank for seconds
        video = stack.enter_context(Video(path, settings.fps)) if path else None
        env = NeuralPacmanEnv(
            world=settings.world,
            render_mode="rgb_array",
            num_inference_steps=settings.num_inference_steps,
            device=settings.device,
        )
        stack.callback(env.close)
        about = f"{env.world.config.name} on {env.device}"
        print(f"Dreaming {about}.")
        dream = Dream(env, settings.seed, settings.seed_index, video)
        if renderer:
            play_in_window(settings, dream, renderer, about)
        else:
            play_script(settings, dream)
    if video:
        print(f"Wrote {video.path}: {video.frames} frames, {video.frames / video.fps:.1f} s.")


def open_window(settings: Play) -> Renderer | None:
    """The window to play in, or None, with a word on why, where none can be opened."""
    try:
        return Renderer(f"Neural Pac-Man: {settings.world}", settings.fps)
    except DisplayError as reason:
        print(f"No window: {reason}. A scripted demo plays into a video instead.")
        return None


def play_in_window(settings: Play, dream: Dream, renderer: Renderer, about: str) -> None:
    """Let a person play until they quit or `settings.steps` are done. `about` is for the title: which world, where."""
    steering = Steering()
    with interruptible() as asked:
        while not asked.is_set() and dream.steps_in_all != settings.steps:
            pace = f"{renderer.rate:.0f} of {settings.fps} fps"
            renderer.title = f"{dream.points:.0f} points   step {dream.steps}   {pace}   {about}"
            renderer.show(dream.frame, OVER if dream.over else "")
            # Read as late as can be: after the wait for the next step, just before it.
            pressed = set()
            for key in renderer.take_keys():
                steering.feed(key)
                if key.down:
                    pressed.add(key.name)
            if renderer.closed or pressed & QUIT:
                return
            if pressed & (RESTART_WHEN_OVER if dream.over else RESTART):
                dream.restart()
            elif not dream.over:
                dream.step(steering.take())


def play_script(settings: Play, dream: Dream) -> None:
    """Let `settings.actions` play for `settings.steps`, one dream after the other, under a progress bar."""
    total = settings.steps or DEMO_SECONDS * settings.fps
    player = PLAYERS[settings.actions](np.random.default_rng(settings.seed))
    with interruptible() as asked, tqdm(total=total, unit=" frames", desc="Dreaming") as bar:
        while not asked.is_set() and dream.steps_in_all < total:
            if dream.over:
                dream.restart()
            dream.step(next(player))
            bar.set_postfix_str(f"{dream.points:.0f} points", refresh=False)
            bar.update()
    if asked.is_set():
        print("Stopped early; the video ends here.")

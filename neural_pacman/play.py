"""A person plays the dream in a window; without a display, or when asked to, a script plays it into a video."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from neural_pacman.files import check_writable
from neural_pacman.panel import natural_size
from neural_pacman.play_window import PlayWindow
from neural_pacman.players import actions_from
from neural_pacman.renderer import DisplayError, Renderer
from neural_pacman.session import Session, SessionLog
from neural_pacman.video import Video

if TYPE_CHECKING:  # it brings PyTorch, and the window is to open before that
    from neural_pacman.stage import Stage

DEMO_SECONDS = 15
DEMO_VIDEO = Path("neural-pacman.mp4")


@dataclass(frozen=True)
class Play:
    """Play Pac-Man inside the dream: arrow keys or WASD steer, Backspace rewinds, H shows all keys, Esc quits.

    Without a display (or with --headless) a scripted demo plays, and a video of it is written.
    """

    world: str = "pacman"
    """The world to dream: a shipped one's name, a world folder, or a hub id."""
    seed: int = 0
    """What the first dream begins with: same seed, same dream. The next dream takes the next number."""
    seed_index: int | None = None
    """Begin every dream from this one of the world's recorded histories, instead of one that the seed picks."""
    agent: Path | None = None
    """Let a Stable-Baselines3 agent play: the agent.zip of a run of agents.train. It is read without unpickling."""
    compare: str | None = None
    """Dream beside a recording: a dataset (a folder, a file or a hub id) whose episode number --seed, counted from 0,
    gives the start and the actions. Both are shown, with the PSNR."""
    replay: Path | None = None
    """Play a session again that --session wrote, with exactly the same frames."""
    session: Path | None = None
    """Write down the session, so that --replay can play it again: a name that ends in .jsonl."""
    save: Path | None = None
    """Save what was played as a dataset to train on, without what was rewound: a name that ends in .parquet."""
    captures: Path = Path()
    """Folder for the pictures, videos and GIFs that are taken with the keys."""
    headless: bool = False
    """Open no window: let --actions, or one of the above, play, and write a video."""
    actions: str | None = None
    """Who plays without a window: demo (a script that moves about as a person would, unless another is named), random
    (dice), or a text file with an action (LEFT, RIGHT, UP, DOWN, NO_ACTION) on each line."""
    steps: int | None = None
    """Stop after so many steps. Without it a window stays until it is closed, and a demo lasts 15 seconds."""
    out: Path | None = None
    """The video to write: a name that ends in .mp4 or .gif. Without it a window is not filmed, and a demo goes to
    neural-pacman.mp4."""
    fps: int = 15
    """Steps a second, at most, in a window, and in the video. The game's own pace is 15."""
    num_inference_steps: int | None = None
    """Denoising steps for each frame; without it the world's own number."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, mps."""

    def check(self) -> None:
        """Raise ValueError for a setting out of its range, or two that exclude each other."""
        for name, least in (("seed", 0), ("seed_index", 0), ("steps", 1), ("fps", 1), ("num_inference_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; expected {least} or more.")
        chosen = [f"--{name}" for name in ("agent", "compare", "replay") if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise ValueError(f"Given {' and '.join(chosen)}; expected one who plays.")
        for player, names in DECIDED.items():
            for name in names:
                if getattr(self, player) is not None and getattr(self, name) is not None:
                    option = f"--{name.replace('_', '-')}"
                    raise ValueError(f"Given --{player} and {option}; leave {option} out, --{player} decides it.")
        if self.actions is not None and (chosen or not self.headless):
            with_what = f"and {chosen[0]}" if chosen else "without --headless"
            raise ValueError(f"Given --actions {with_what}; expected it with --headless, as the one who plays.")


DECIDED = {"compare": ("seed_index", "session"), "replay": ("seed_index", "num_inference_steps")}
"""Settings that another one decides. (A session does not know a recording that it could be played again from.)"""

Report = Callable[[float, str], None]
"""Told how far loading is, 0 to 1, and what comes next."""

Load = Callable[[Report], "Stage"]


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or a polite kill) into an event, so that a loop ends between two steps, its video whole.

    The second one interrupts as usual.
    """
    asked = threading.Event()
    # Windows has no hang-up, which is what a closed terminal sends.
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

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


@contextmanager
def logged(path: Path) -> Iterator[SessionLog]:
    """The log of a session, of which is said in the end where it is, if it was kept."""
    with SessionLog(path) as log:
        yield log
    if log.steps:
        print(f"Wrote {log.path}: {log.events} events.")


def play(settings: Play) -> None:
    """Play as `settings` say, until the person or the number of steps ends it.

    Raises:
        ValueError: a setting outside its range, an unknown world or device, a session of another world, a damaged file.
        OSError: something is not there, or cannot be written where it should go; said before anything is dreamed.
    """
    settings.check()
    session = Session.read(settings.replay) if settings.replay else None
    if settings.save:
        check_writable(settings.save, "dataset", ".parquet")
    with interruptible() as asked, ExitStack() as stack:  # in this order: what was played is saved uninterrupted
        renderer = None if settings.headless else open_window(settings)
        if renderer:
            stack.enter_context(renderer)
        scripted = renderer is None and not (settings.agent or settings.compare or session)
        actions = actions_from(settings.actions or "demo", np.random.default_rng(settings.seed)) if scripted else None
        path = settings.out or (None if renderer else DEMO_VIDEO)
        video = stack.enter_context(Video(path, settings.fps)) if path else None
        log = stack.enter_context(logged(settings.session)) if settings.session else None

        def load(report: Report) -> Stage:
            report(0.0, "starting PyTorch")
            from neural_pacman.stage import set_stage

            stage = set_stage(settings, session, actions, video, log, report)
            stack.callback(stage.close)
            report(0.8, "the first dream")
            stage.start(settings.seed)
            return stage

        if renderer:
            PlayWindow(settings, renderer, load).run(asked.is_set)
        else:
            play_headless(settings, load, asked.is_set)


def open_window(settings: Play) -> Renderer | None:
    """The window to play in, or None, with a word on why, where none can be opened."""
    size = natural_size(frames=2 if settings.compare else 1, captions=settings.compare is not None)
    try:
        return Renderer(f"Neural Pac-Man: {settings.world}", size=size)
    except DisplayError as reason:
        print(f"No window: {reason}. It is played into a video instead.")
        return None


def play_headless(settings: Play, load: Load, stop: Callable[[], bool]) -> None:
    """Let the mode play, under a progress bar: for `settings.steps`, to its end, or until the video cannot go on."""
    stage = load(lambda share, what: None)
    assert stage.mode is not None
    limit = settings.steps or (DEMO_SECONDS * settings.fps if stage.mode.steps is None else None)
    shown = stage.shown()
    stopped = stop()
    with tqdm(total=limit or stage.mode.steps, unit=" frames", desc="Dreaming") as bar:
        while not (stopped or shown.steps_in_all == limit or shown.ended or shown.note):
            restart = shown.over and stage.mode.heeds_end
            shown = stage.begin(shown.seed + 1) if restart else stage.move()
            bar.set_postfix_str(f"{shown.points:.0f} points", refresh=False)
            bar.update(shown.steps_in_all - bar.n)
            stopped = stop()
    if shown.ended:
        print(f"{stage.mode.end.capitalize()}.")
    if stopped:
        print("Stopped early; the video ends here.")

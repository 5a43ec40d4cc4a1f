"""A person plays in a window. The dream is dreamed beside it, so that the window answers however slow the dream is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from neural_pacman.actions import Action
from neural_pacman.controls import CONTROLS, HELP, STEERING, Control, Steering
from neural_pacman.panel import Card, Panel, View
from neural_pacman.renderer import Key, Renderer

if TYPE_CHECKING:  # they bring PyTorch, and the window is to open before that
    from neural_pacman.play import Load, Play
    from neural_pacman.stage import Shown, Stage

LOOK = 1 / 60
"""Seconds, at most, between two looks at the keys."""
REDRAW = 0.1
"""Seconds, at most, between two drawings of the window, though nothing happened."""
DENOISING_STEPS = {Control.DENOISE_1: 1, Control.DENOISE_2: 2, Control.DENOISE_4: 4}
REWIND_PACE = 2
"""How much faster than the game time runs backwards."""
NOTE_SECONDS = 4.0
END_SECONDS = 2.0
"""How long an agent leaves a dream that is over on the screen."""
RATE_STEPS = 15
"""Steps that the rate is measured over."""
SLOW = 0.9
"""Share of the pace asked for below which the machine counts as too slow for it."""
PACES = (1, 2, 4, 8, 15, 30, 60)
"""Steps a second that the slower and faster keys choose from."""

Work = Callable[[], "Shown"]

WELCOME = "A neural network dreams this game, frame by frame. There is no game underneath."


class PlayWindow:
    """Plays in `renderer` what `load` sets on the stage, until the person or the number of steps ends it.

    From the moment it is loaded the stage belongs to another thread, which is given one piece of work at a time and
    hands back what is then to be seen. The keys are read right before a step is given.

    All of PyTorch's work is that thread's, loading as well. OpenMP (libgomp) gives each thread that calls on it helpers
    of its own, and as soon as there are more than cores, none of them waits awake for the next little piece: on two
    cores a step then took twice as long.
    """

    def __init__(self, settings: Play, renderer: Renderer, load: Load) -> None:
        self._settings = settings
        self._renderer = renderer
        self._load = load
        self._steering = Steering()
        self._stage: Stage | None = None
        self._shown: Shown | None = None
        self._loading = (0.0, "")
        self._orders: deque[Work] = deque()
        self._seed = settings.seed  # of the dream that was asked for last, begun or not
        self._human = not (settings.agent or settings.compare or settings.replay)
        self._begun = not self._human
        self._pace = float(settings.fps)
        self._due = 0.0
        self._paused = self._single = self._rewinding = self._help = self._quit = False
        self._panel = self._smooth = True
        self._note, self._note_until = "", 0.0
        self._times: deque[float] = deque(maxlen=RATE_STEPS + 1)
        self._stale = True

    def run(self, stop: Callable[[], bool]) -> None:
        """Play; `stop` is asked between two looks at the keys."""
        drawn = 0.0
        with ThreadPoolExecutor(1, "dream") as worker:
            job: Future[Shown] | None = worker.submit(self._start)
            while not (stop() or self._quit or self._renderer.closed or self._done):
                if job is not None and job.done():
                    self._take(job.result())
                    job = None
                for key in self._renderer.take_keys():
                    self._feed(key)
                if job is None and (work := self._next()) is not None:
                    job = worker.submit(work)
                if self._stale or time.perf_counter() - drawn > REDRAW:
                    self._renderer.draw(self._view())
                    self._stale, drawn = False, time.perf_counter()
                self._wait(job)
            self._renderer.close()  # the last piece of work may take its time, and needs no window
            if job is not None:
                job.result()  # an error in the last piece of work is an error too

    @property
    def _done(self) -> bool:
        return self._shown is not None and self._shown.steps_in_all == self._settings.steps

    @property
    def _over(self) -> bool:
        """Whether the dream waits for somebody to say how to go on."""
        assert self._shown is not None and self._stage is not None
        heeded = self._human or self._stage.mode is None or self._stage.mode.heeds_end
        return self._shown.ended or (self._shown.over and heeded)

    def _start(self) -> Shown:
        self._stage = self._load(self._report)
        return self._stage.shown()

    def _report(self, share: float, what: str) -> None:
        self._loading, self._stale = (share, what), True

    def _take(self, shown: Shown) -> None:
        """Make what came back from the stage the newest there is."""
        now = time.perf_counter()
        if self._shown is not None and shown.steps_in_all > self._shown.steps_in_all:
            self._times.append(now)
        if shown.note:
            self._tell(shown.note)
        self._shown, self._stale = shown, True

    def _next(self) -> Work | None:
        """The work that is due by now."""
        if self._stage is None or self._done:
            return None
        if self._orders:
            return self._orders.popleft()
        now = time.perf_counter()
        if not self._begun or self._help:
            return None
        if self._rewinding:
            self._times.clear()
            return self._stage.rewind if self._is_due(now, REWIND_PACE * self._pace) else None
        if self._over:
            return None if self._human or self._paused else self._after_the_end(now)
        if self._single:
            self._single = False
        elif self._paused or not self._is_due(now, self._pace):
            return None
        return partial(self._stage.step, self._steering.take()) if self._human else self._stage.move

    def _after_the_end(self, now: float) -> Work | None:
        """What an agent does in a dream that is over: a moment later it begins the next."""
        assert self._stage is not None and self._shown is not None
        if self._shown.ended or now < self._due + END_SECONDS:
            return None
        self._seed = self._shown.seed + 1
        return partial(self._stage.begin, self._seed)

    def _is_due(self, now: float, pace: float) -> bool:
        """Whether the next frame is due, and if so, when the one after it will be."""
        if now < self._due:
            return False
        self._due = max(self._due, now - 1 / pace) + 1 / pace  # a late one does not make the next one late
        return True

    def _wait(self, job: Future[Shown] | None) -> None:
        """Wait for the job, the next frame or the next look at the keys, whichever comes first."""
        if job is not None:
            wait([job], timeout=LOOK)
        else:
            time.sleep(min(LOOK, max(0.001, self._due - time.perf_counter())))

    def _feed(self, key: Key) -> None:
        """Do what a key asks for."""
        self._stale = True
        self._steering.feed(key.name, key.down)
        control = CONTROLS.get(key.name)
        if control is Control.REWIND:
            self._rewinding = key.down and self._begun and self._allowed()
        if not key.down:
            return
        if control is Control.QUIT:
            self._quit = True
        elif not self._begun:  # while it is still loading, too
            self._begun = control in (Control.GO, Control.PAUSE) or key.name in STEERING
        elif control is not None and self._shown is not None:
            self._obey(control, self._shown)

    def _obey(self, control: Control, shown: Shown) -> None:
        stage = self._stage
        assert stage is not None
        match control:
            case Control.GO if self._over:
                self._begin(shown.seed + 1)
            case Control.NEXT_SEED:
                self._begin(self._seed + 1)
            case Control.SAME_SEED:
                self._begin(self._seed)
            case Control.DREAM_ON if shown.over and self._allowed():
                self._orders.append(stage.dream_on)
            case Control.PAUSE:
                self._paused = not self._paused
                self._times.clear()
            case Control.STEP:
                self._paused = self._single = True
                self._times.clear()
            case Control.SLOWER:
                self._pace = max((pace for pace in PACES if pace < self._pace), default=self._pace)
            case Control.FASTER:
                self._pace = min((pace for pace in PACES if pace > self._pace), default=self._pace)
            case Control.DENOISE_1 | Control.DENOISE_2 | Control.DENOISE_4 if self._allowed():
                self._orders.append(partial(stage.set_denoising_steps, DENOISING_STEPS[control]))
            case Control.HAND_OVER:
                if self._settings.agent:
                    self._human = not self._human
                else:
                    self._tell("no agent is here: bring one with --agent")
            case Control.RECORD_MP4:
                self._orders.append(lambda: stage.toggle_video(self._free_name(".mp4")))
            case Control.RECORD_GIF:
                self._orders.append(lambda: stage.toggle_video(self._free_name(".gif")))
            case Control.SCREENSHOT:
                self._orders.append(lambda: stage.take_picture(self._free_name(".png")))
            case Control.SCALING:
                self._smooth = not self._smooth
            case Control.PANEL:
                self._panel = not self._panel
            case Control.HELP:
                self._help = not self._help
                self._times.clear()

    def _begin(self, seed: int) -> None:
        if self._allowed():
            assert self._stage is not None
            self._steering.forget()
            self._seed = seed
            self._orders.append(partial(self._stage.begin, seed))

    def _allowed(self) -> bool:
        """Whether the person may change what happens; if not, say so."""
        if self._settings.replay:
            self._tell("a session is played as it was")
        return not self._settings.replay

    def _tell(self, note: str) -> None:
        self._note, self._note_until = note, time.perf_counter() + NOTE_SECONDS

    def _free_name(self, suffix: str) -> Path:
        """The first name in the folder of captures that nobody has yet."""
        names = (self._settings.captures / f"neural-pacman-{number:03d}{suffix}" for number in count(1))
        return next(name for name in names if not name.exists())

    @property
    def _rate(self) -> float:
        """Frames a second dreamed lately; 0.0 until there are a few."""
        return (len(self._times) - 1) / (self._times[-1] - self._times[0]) if len(self._times) > 2 else 0.0

    def _view(self) -> View:
        shown = self._shown
        if shown is None:
            return View(card=self._title(self._loading[1], self._loading[0]))
        card = None
        if not self._begun:
            card = self._title("press Enter to play")
        elif self._help:
            card = Card("Keys", keys=HELP, footer="H: on with the game")
        return View(
            frames=shown.frames,
            captions=shown.captions,
            panel=self._side(shown) if self._panel else None,
            banner=self._banner(shown),
            card=card,
            smooth=self._smooth,
        )

    def _title(self, footer: str, progress: float | None = None) -> Card:
        return Card("Neural Pac-Man", WELCOME, HELP, progress, footer)

    def _banner(self, shown: Shown) -> str:
        assert self._stage is not None
        if self._note and time.perf_counter() < self._note_until:
            return self._note
        if shown.ended:
            return self._stage.mode.end if self._stage.mode else ""
        if self._over:
            return "episode over - Enter: the next   R: again   C: dream on"
        if self._rewinding:
            return "rewinding" if shown.steps else "the dream began here"
        return "paused - Space: go on   . a single step" if self._paused else ""

    def _side(self, shown: Shown) -> Panel:
        assert self._stage is not None
        env = self._stage.game.env
        rate = self._rate
        return Panel(
            world=env.world.config.name,
            seed=shown.seed,
            device=str(env.device),
            denoising_steps=shown.denoising_steps,
            points=shown.points,
            step=shown.steps,
            rate=rate,
            pace=self._pace,
            player="you" if self._human or self._stage.mode is None else self._stage.mode.name,
            action=Action.NO_ACTION if shown.action is None else shown.action,
            held=self._steering.held,
            slow=0 < rate < SLOW * self._pace,
            psnr=shown.likeness,
            recording="  ".join(f"{kind.upper()} {seconds:.0f} s" for kind, seconds in shown.filming),
        )

"""What is on: the game, who moves it, and all that is kept of it (videos, pictures, the session, a dataset)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from neural_pacman.actions import Action
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.episodes import write_episodes
from neural_pacman.files import UnfinishedFile
from neural_pacman.game import Game
from neural_pacman.modes import Agent, Comparison, Mode, Replay, Script
from neural_pacman.progress import progress_bar
from neural_pacman.session import Header, Session, SessionLog
from neural_pacman.video import Video

if TYPE_CHECKING:
    from neural_pacman.play import Play, Report

FILM = "film"
"""The video of all of it, among those that the keys begin and end, which are known by their endings."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What there is to see at one moment.

    Attributes:
        frames: uint8 `[512, 512, 3]`: the dream's; beside a recording, the recording's before it.
        captions: of the frames, when there are two.
        seed: what the dream began with.
        points, steps: dreamed so far along the tape.
        steps_in_all: dreamed so far, rewound ones too.
        action: the one that led here; None where the dream began.
        over: whether the dream is over.
        denoising_steps: a frame.
        likeness: PSNR of the dream to the recording and its mean since the dream began, dB.
        ended: whether whoever moves the game has no move left.
        filming: of each video that is being made, its ending ("mp4", "gif") and its length in seconds.
        note: what went wrong meanwhile; the game goes on.
    """

    frames: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    seed: int
    points: float
    steps: int
    steps_in_all: int
    action: Action | None
    over: bool
    denoising_steps: int
    likeness: tuple[float, float] | None
    ended: bool
    filming: tuple[tuple[str, float], ...]
    note: str


class Stage:
    """A game and who moves it, and what is filmed of it. Every method returns what is then to be seen.

    Args:
        game: not begun yet.
        mode: who moves it when no person does; None for nobody.
        film: a video of all of it.
        fps: of videos that are begun later.
        save: where the dreams go as a dataset, in the end; `game` must keep them.
    """

    def __init__(
        self, game: Game, mode: Mode | None, film: Video | None = None, fps: int = 15, save: Path | None = None
    ) -> None:
        self.game = game
        self.mode = mode
        self._videos = {FILM: film} if film else {}
        self._fps = fps
        self._save = save
        self._unfilmed: Shown | None = None
        self._ended = False
        self._note = ""
        self._lost: OSError | None = None

    def start(self, seed: int) -> Shown:
        """Begin with the dream of a seed, or as the session that is replayed began.

        Whoever looks at that alone leaves no film of it: the first frame is written with the second.
        """
        if isinstance(self.mode, Replay):
            self.mode.move(self.game)
        else:
            self.game.begin(seed)
        self._unfilmed = self.shown()
        return self._unfilmed

    def begin(self, seed: int) -> Shown:
        """Begin the dream of a seed."""
        self._ended = False
        self.game.begin(seed)
        return self._film()

    def step(self, action: Action) -> Shown:
        """Dream a step under a person's action."""
        self.game.step(action)
        return self._film()

    def move(self) -> Shown:
        """Let the mode make its next move."""
        assert self.mode is not None
        self._ended = not self.mode.move(self.game)
        return self.shown() if self._ended else self._film()

    def rewind(self) -> Shown:
        """Go a step back, as far as there is one."""
        self._ended = False
        return self._film() if self.game.rewind() else self.shown()

    def dream_on(self) -> Shown:
        """Go on in a dream that is over."""
        self.game.dream_on()
        return self.shown()

    def set_denoising_steps(self, steps: int) -> Shown:
        """Draw the frames to come in so many denoising steps."""
        self.game.env.num_inference_steps = steps
        return self.shown()

    def toggle_video(self, path: Path) -> Shown:
        """Begin a video, or end the one with the same ending that was begun in this way."""
        if path.suffix in self._videos:
            self._end_video(path.suffix)
            return self.shown()
        try:
            self._videos[path.suffix] = Video(path, self._fps)
        except (OSError, ValueError) as error:
            self._note = str(error)
        else:
            self._write(path.suffix, self.shown())
        return self.shown()

    def take_picture(self, path: Path) -> Shown:
        """Write what is to be seen as a PNG."""
        try:
            with UnfinishedFile(path, "picture", ".png") as partial:
                Image.fromarray(picture(self.shown())).save(partial)
        except OSError as error:
            self._note = str(error)
        else:
            self._note = f"wrote {path.name}"
            print(f"Wrote {path.absolute()}.")
        return self.shown()

    def shown(self) -> Shown:
        """What is to be seen now; a note is told once."""
        game = self.game
        beside = self.mode.beside(game) if self.mode else None
        note, self._note = self._note, ""
        return Shown(
            frames=(beside.frame, game.frame) if beside else (game.frame,),
            captions=("the recording", "the dream") if beside else (),
            seed=game.seed,
            points=game.points,
            steps=game.steps,
            steps_in_all=game.steps_in_all,
            action=game.action,
            over=game.over,
            denoising_steps=game.env.num_inference_steps,
            likeness=beside.likeness if beside else None,
            ended=self._ended,
            filming=tuple((video.path.suffix[1:], video.frames / video.fps) for video in self._videos.values()),
            note=note,
        )

    def close(self) -> None:
        """End the videos, save the dreams, release the environment, and print what was written.

        Raises OSError for what could not be written, once all the rest is; for a video that was lost on the way, too.
        """
        with ExitStack() as stack:
            stack.callback(self._complain)
            stack.callback(self.game.env.close)
            if self._save:
                stack.callback(self._save_dreams, self._save)
            for video in self._videos.values():
                stack.callback(self._finish, video)
            self._videos = {}

    def _film(self) -> Shown:
        first, self._unfilmed = self._unfilmed, None
        if first is not None:
            self._write(FILM, first)
        newest = self.shown()
        for which in list(self._videos):
            self._write(which, newest)
        return newest

    def _write(self, which: str, shown: Shown) -> None:
        """Add what is shown to a video. One that cannot be written any more is given up, and the game goes on."""
        if which not in self._videos:
            return
        try:
            self._videos[which].write(picture(shown))
        except OSError as error:
            self._note, self._lost = str(error), error
            del self._videos[which]

    def _end_video(self, which: str) -> None:
        video = self._videos.pop(which)
        try:
            self._finish(video)
        except OSError as error:
            self._note, self._lost = str(error), error
        else:
            self._note = f"wrote {video.path.name}"

    def _complain(self) -> None:
        if self._lost:  # a note is gone after seconds, and without a window nobody sees it
            raise self._lost

    def _finish(self, video: Video) -> None:
        video.close()
        if video.frames:
            print(f"Wrote {video.path}: {video.frames} frames, {video.frames / video.fps:.1f} s.")

    def _save_dreams(self, path: Path) -> None:
        dreams = list(self.game.recordings())
        if not dreams:
            print(f"No step was played: there is nothing to save in {path}.")
            return
        states = sum(len(dream.actions) for dream in dreams)
        with progress_bar(total=states, desc=f"saving {path.name}", unit="frame", leave=False) as bar:

            def counted(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
                for frame in frames:
                    bar.update()
                    yield frame

            write_episodes(path, (replace(dream, frames=counted(dream.frames)) for dream in dreams))
        print(f"Wrote {path.absolute()}: {len(dreams)} episodes, {states} frames.")


def set_stage(
    settings: Play,
    session: Session | None,
    actions: Iterable[Action] | None,
    video: Video | None,
    log: SessionLog | None,
    report: Report,
) -> Stage:
    """Load all that `settings` ask for, reporting how far it is.

    Raises ValueError for a session of another world, and what loading worlds, agents and datasets raises.
    """
    mode: Mode | None = Script(actions) if actions is not None else None
    observe = options = None
    if settings.agent:
        from neural_pacman.policy import SavedPolicy  # not everybody has Stable-Baselines3

        policy = SavedPolicy.load(settings.agent)
        mode, observe = Agent(policy, settings.seed), policy.observe
    if session:
        torch.set_num_threads(session.header.threads)  # on which the last bits of a frame depend
    report(0.5, "loading the world")
    env = NeuralPacmanEnv(
        world=settings.world,
        render_mode="rgb_array",
        num_inference_steps=settings.num_inference_steps,
        device=settings.device,
    )
    here = Header(
        world=env.world.config.name,
        world_hash=env.world.hash,
        seed_index=session.header.seed_index if session else settings.seed_index,
        device=str(env.device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    print(f"Dreaming {here.world} on {here.device}.")
    if session:
        if session.header.world_hash != here.world_hash:
            raise ValueError(
                f"The session was played in another world ({session.header.world}, hash "
                f"{session.header.world_hash[:12]}) than this one ({here.world}, {here.world_hash[:12]}); say with "
                "--world where that one is."
            )
        mode = Replay(session, here)
    if log:
        log.write(here)
    if settings.compare:
        mode = comparison = Comparison(settings.compare)
        options = comparison.options
    elif here.seed_index is not None:
        options = lambda seed: {"seed_index": here.seed_index}  # noqa: E731
    game = Game(env, options=options, observe=observe, log=log.write if log else None, keep=settings.save is not None)
    return Stage(game, mode, video, settings.fps, settings.save)


def picture(shown: Shown) -> np.ndarray:
    """All frames that are shown, side by side in one, uint8 `[512, W, 3]`."""
    return np.concatenate(shown.frames, axis=1)

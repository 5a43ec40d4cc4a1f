"""Dreams of a thousand steps, judged by the game's rules: `python -m training.long_runs --world W`.

Each run begins at one of the world's own seeds and is played by seeded sticky keys. Every frame is read, and the rules,
the announced rewards, lost lives and ends are held against what is seen. Where the world announces an end the run goes
on from another seed. `--real D` adds the same figures of recorded episodes: what the reader itself gets wrong.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_pacman.command import command
from neural_pacman.engine import DreamEngine
from neural_pacman.episodes import Episode, read_episodes
from neural_pacman.frames import FRAME_SIZE
from neural_pacman.progress import progress_bar
from neural_pacman.seeds import Seeds
from neural_pacman.world import WorldModel
from training.branches import any_key, two_generators
from training.cache import write_json
from training.clips import batches
from training.figures import Report
from training.long_report import Dream, report_dreams, table
from training.reader import WALL, Reading, read
from training.sprites import SCALE, SIDE_BAR, SPRITE_SIZE

SHOWN_STEPS = (0, 16, 64, 256, 1000)
"""Steps whose frames are kept for a contact sheet."""
PIXEL_TOLERANCE = 64
"""Largest error of a colour channel in a right pixel."""


@dataclass(frozen=True)
class LongDreams:
    """`dreams` of all runs, and frames of the first few: uint8 `[shown, 512, 512, 3]` by step."""

    dreams: list[Dream]
    frames: dict[int, np.ndarray]


def dream_long(
    world: WorldModel,
    seeds: int = 20,
    steps: int = 1000,
    *,
    batch_size: int = 20,
    num_inference_steps: int | None = None,
    seed: int = 0,
    sticky: float = 0.9,
    workers: int = 0,
    shown: int = 4,
) -> LongDreams:
    """Dream `seeds` runs of `steps` steps each, and read every frame.

    Args:
        world: the world, with seeds of its own.
        seeds: how many runs; each begins at a seed of its own, as far as there are so many.
        steps: dreamed in each run.
        batch_size: runs in one forward pass.
        num_inference_steps: denoising steps a frame; None takes the world's own number.
        seed: of the choice of seeds, the actions and the noise.
        sticky: probability that an action is kept from one step to the next.
        workers: processes that read frames, of one thread each; 0 reads them here.
        shown: of how many runs the frames at `SHOWN_STEPS` are kept.

    Raises FileNotFoundError for a world without seeds, ValueError when there are no runs or no steps.
    """
    if seeds < 1 or steps < 1:
        raise ValueError(f"Given {seeds} runs of {steps} steps; expected at least one of each.")
    starts = Seeds.of(world)
    order = np.random.default_rng(seed).permutation(len(starts))
    dreams: list[Dream] = []
    frames: dict[int, list[np.ndarray]] = {step: [] for step in SHOWN_STEPS if step <= steps}
    with _readers(workers) as readers, progress_bar(total=seeds * steps, desc="long runs", unit="step") as bar:
        for part in batches(range(seeds), batch_size):
            first = [int(order[run % len(order)]) for run in part]
            players = [np.random.default_rng([seed, run]) for run in part]
            generators = [torch.Generator().manual_seed(1_000_003 * seed + run) for run in part]
            engine = DreamEngine(world, len(part), num_inference_steps)
            begun = [starts[index] for index in first]
            engine.reset(torch.stack([s.latents for s in begun]), torch.stack([s.actions for s in begun]), generators)
            actions = [any_key(player) for player in players]
            pictures = engine.decode()
            running = [Dream(run, index) for run, index in zip(part, first, strict=True)]
            mazes = list(pictures)  # as each dream began
            for dream, picture in zip(running, pictures, strict=True):
                readers.read(picture, dream.readings)
            _show(frames, 0, part, pictures, shown)
            for step in range(1, steps + 1):
                actions = [
                    action if player.random() < sticky else any_key(player)
                    for action, player in zip(actions, players, strict=True)
                ]
                outcome = engine.step(actions)
                before, pictures = pictures, engine.decode()
                over = [int(i) for i in np.flatnonzero(outcome.end)]
                for i in over:
                    running[i].maze_right, running[i].ended = maze_right(before[i], mazes[i]), True
                    dreams.append(running[i])
                    running[i] = Dream(part[i], int(players[i].integers(len(starts))))
                if over:
                    anew = [starts[running[i].seed] for i in over]
                    latents, led = torch.stack([s.latents for s in anew]), torch.stack([s.actions for s in anew])
                    engine.reset(latents, led, [generators[i] for i in over], over)
                    pictures = engine.decode()
                for i, picture in enumerate(pictures):
                    readers.read(picture, running[i].readings)
                    if i in over:
                        mazes[i] = picture
                    else:
                        running[i].points.append(float(outcome.points[i]))
                        running[i].lives_lost.append(bool(outcome.life_lost[i]))
                _show(frames, step, part, pictures, shown)
                bar.update(len(part))
            for i, dream in enumerate(running):
                dream.maze_right = maze_right(pictures[i], mazes[i])
            dreams += running
    return LongDreams(dreams, {step: np.stack(kept) for step, kept in frames.items()})


def read_recording(episodes: Sequence[Episode], workers: int = 0) -> list[Dream]:
    """Recorded episodes, read as dreams are; what they announce is what their labels say, where they have any."""
    recordings = []
    total = sum(len(episode) for episode in episodes)
    with _readers(workers) as readers, progress_bar(total=total, desc="real frames", unit="frame") as bar:
        for episode in episodes:
            last = len(episode) - 1
            recording = Dream(run=episode.number, seed=0)
            for state in range(len(episode)):
                readers.read(episode.frames(state, state + 1)[0], recording.readings)
                bar.update(1)
            if episode.rewards is not None and "lives" in episode.labels:
                recording.points = [float(points) for points in episode.rewards[:last]]
                recording.lives_lost = [bool(less) for less in np.diff(episode.labels["lives"]) < 0]
            recordings.append(recording)
    return recordings


class _Readers:
    """Reads frames in order, here or in other processes, and adds each reading to the list that waits for it."""

    AHEAD = 8
    """Frames a process may have waiting: more would fill the memory."""

    def __init__(self, pool: ProcessPoolExecutor | None, workers: int) -> None:
        self._pool, self._limit = pool, self.AHEAD * workers
        self._waiting: deque[tuple[Future[Reading], list[Reading]]] = deque()

    def read(self, picture: np.ndarray, into: list[Reading]) -> None:
        if self._pool is None:
            into.append(read(picture))
            return
        self._waiting.append((self._pool.submit(read, picture), into))
        while len(self._waiting) > self._limit:
            self._take()

    def finish(self) -> None:
        while self._waiting:
            self._take()

    def _take(self) -> None:
        future, into = self._waiting.popleft()
        into.append(future.result())


@contextmanager
def _readers(workers: int) -> Iterator[_Readers]:
    """Readers whose work is all done when the block is left."""
    if workers < 1:
        yield _Readers(None, 0)
        return
    # Not forked: torch's threads do not survive it.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        readers = _Readers(pool, workers)
        yield readers
        readers.finish()


@cache
def _wall_pixels() -> np.ndarray:
    """Which pixels of a prepared frame lie in tiles that nobody walks on, bool `[512, 512]`."""
    side = np.arange(FRAME_SIZE)
    x, y = (np.stack([side, side], axis=-1) / SCALE - (SIDE_BAR, 0)).T // SPRITE_SIZE
    rows, columns = WALL.shape
    inside = (y < rows)[:, None] & (x >= 0) & (x < columns)
    return inside & WALL[y.astype(int).clip(0, rows - 1)[:, None], x.astype(int).clip(0, columns - 1)]


def maze_right(frame: np.ndarray, real: np.ndarray) -> float:
    """The share of a frame's pixels in tiles that nobody walks on, so walls and ground alone, that are as in another.

    Both frames are uint8 `[512, 512, 3]`.
    """
    error = np.abs(frame.astype(np.int16) - real).max(axis=-1)
    return float((error[_wall_pixels()] <= PIXEL_TOLERANCE).mean())


def _show(frames: dict[int, list[np.ndarray]], step: int, runs: range, pictures: np.ndarray, shown: int) -> None:
    if step in frames:
        frames[step] += [picture.copy() for run, picture in zip(runs, pictures, strict=True) if run < shown]


@dataclass
class LongRuns:
    """Dream long runs of a world, and judge them by the game's rules."""

    world: str
    """A shipped world's name, a world's folder, or a hub id."""
    out: Path = Path("long_runs.json")
    """Where the figures go."""
    seeds: int = 20
    """Runs, each from a seed of its own."""
    steps: int = 1000
    """Steps of each run."""
    real: str | None = None
    """A recorded dataset that is read and judged in the same way: what the reader itself gets wrong."""
    real_episodes: int = 12
    """Episodes of it, from its beginning."""
    branches: int = 20
    """Runs that are dreamed twice, with other noise."""
    batch_size: int = 20
    """Dreams in one forward pass."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; the world's own number by default."""
    workers: int = 0
    """Processes that read frames; 0 reads them between the steps."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    seed: int = 0
    """Seed of everything that is random."""


def main(config: LongRuns) -> None:
    config.out.parent.mkdir(parents=True, exist_ok=True)  # now, not after an hour of dreaming
    world = WorldModel.from_pretrained(config.world, device=config.device)
    settings: dict[str, Any] = {"num_inference_steps": config.num_inference_steps, "seed": config.seed}
    dreams = dream_long(
        world, config.seeds, config.steps, batch_size=config.batch_size, workers=config.workers, **settings
    )
    report: Report = {
        "world": {"name": world.config.name, "hash": world.hash},
        "conditions": {"seeds": config.seeds, "steps": config.steps, "batch_size": config.batch_size, **settings},
        "dream": report_dreams(dreams.dreams),
        "two_generators": two_generators(world, config.branches, **settings),
    }
    if config.real is not None:
        episodes = list(islice(read_episodes(config.real), config.real_episodes))
        report["real"] = {"dataset": config.real, **report_dreams(read_recording(episodes, config.workers))}
    write_json(config.out, report)
    for kind in ("dream", "real"):
        if kind in report:
            print(f"\n{kind}")
            for name, figure in table(report[kind]):
                print(f"  {name:40} {figure}")
    parted = report["two_generators"]
    differ = "-" if parted["ghosts_differ"] is None else f"{parted['ghosts_differ']:.0%}"
    print(f"\ntwo generators: ghosts differ after {parted['steps']} steps in {differ} of {parted['n']} runs")
    print(f"Report: {config.out}")


if __name__ == "__main__":
    command(main, LongRuns)

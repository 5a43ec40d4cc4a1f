"""Dreams of a thousand steps, judged by the game's rules: `python -m training.long_runs --world W`.

Each run begins at one of the world's own seeds and is played by seeded sticky keys. Every frame is read, and the rules,
the announced rewards, lost lives and ends are held against what is seen. Where the world announces an end the run goes
on from another seed. `--real D` adds the same figures of recorded episodes: what the reader itself gets wrong.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
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
from neural_pacman.seeds import Seeds, stacked
from neural_pacman.world import WorldModel
from training.branches import any_key, two_generators
from training.cache import write_json
from training.clips import batches
from training.figures import Report
from training.long_report import Dream, report_dreams, table
from training.reader import WALL, read
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
        workers: processes of one thread each that dream a run at a time, on a CPU; with 0, or on another device, runs
            are dreamed here.
        shown: of how many runs the frames at `SHOWN_STEPS` are kept.

    Raises FileNotFoundError for a world without seeds, ValueError when there are no runs or no steps.
    """
    if seeds < 1 or steps < 1:
        raise ValueError(f"Given {seeds} runs of {steps} steps; expected at least one of each.")
    alone = workers > 0 and world.device.type == "cpu"
    parts = [
        _Runs(runs, steps, num_inference_steps, seed, sticky, shown)
        for runs in batches(range(seeds), 1 if alone else batch_size)
    ]
    starts = Seeds.of(world)
    with progress_bar(total=seeds * steps, desc="long runs", unit="step") as bar:
        if alone:
            # Not forked: torch's threads do not survive it.
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, spawn, _start_worker, (world,)) as pool:
                dreamed = []
                for one in pool.map(_dream_alone, parts):
                    dreamed.append(one)
                    bar.update(steps)
        else:
            dreamed = [part.dream(world, starts, bar.update) for part in parts]
    kept = {step: np.concatenate([one.frames[step] for one in dreamed]) for step in dreamed[0].frames}
    return LongDreams([dream for one in dreamed for dream in one.dreams], kept)


@dataclass(frozen=True)
class _Runs:
    """Some of the runs, by number; what the others are, `dream_long` says."""

    runs: range
    steps: int
    num_inference_steps: int | None
    seed: int
    sticky: float
    shown: int

    def dream(self, world: WorldModel, starts: Seeds, done: Callable[[int], object]) -> LongDreams:
        """Dream them in one batch, and tell how many steps are `done`."""
        order = np.random.default_rng(self.seed).permutation(len(starts))
        first = [int(order[run % len(order)]) for run in self.runs]
        players = [np.random.default_rng([self.seed, run]) for run in self.runs]
        generators = [torch.Generator().manual_seed(1_000_003 * self.seed + run) for run in self.runs]
        engine = DreamEngine(world, len(self.runs), self.num_inference_steps)
        latents, led, known = stacked([starts[index] for index in first])
        engine.reset(latents, led, generators, known=known)
        actions = [any_key(player) for player in players]
        pictures = engine.decode()
        running = [Dream(run, index) for run, index in zip(self.runs, first, strict=True)]
        mazes = list(pictures)  # as each dream began
        for dream, picture in zip(running, pictures, strict=True):
            dream.readings.append(read(picture))
        dreams: list[Dream] = []
        frames = {0: self._shown(pictures)}
        for step in range(1, self.steps + 1):
            actions = [
                action if player.random() < self.sticky else any_key(player)
                for action, player in zip(actions, players, strict=True)
            ]
            outcome = engine.step(actions)
            before, pictures = pictures, engine.decode()
            over = [int(i) for i in np.flatnonzero(outcome.end)]
            for i in over:
                running[i].maze_right, running[i].ended = maze_right(before[i], mazes[i]), True
                dreams.append(running[i])
                running[i] = Dream(self.runs[i], int(players[i].integers(len(starts))))
            if over:
                latents, led, known = stacked([starts[running[i].seed] for i in over])
                engine.reset(latents, led, [generators[i] for i in over], over, known)
                pictures = engine.decode()
            for i, picture in enumerate(pictures):
                running[i].readings.append(read(picture))
                if i in over:
                    mazes[i] = picture
                else:
                    running[i].points.append(float(outcome.points[i]))
                    running[i].lives_lost.append(bool(outcome.life_lost[i]))
            if step in SHOWN_STEPS:
                frames[step] = self._shown(pictures)
            done(len(self.runs))
        for i, dream in enumerate(running):
            dream.maze_right = maze_right(pictures[i], mazes[i])
        return LongDreams(dreams + running, frames)

    def _shown(self, pictures: np.ndarray) -> np.ndarray:
        """Of these, those that are kept."""
        return pictures[[run < self.shown for run in self.runs]].copy()


_world: WorldModel
"""The world of a process that dreams runs for another one."""


def _start_worker(world: WorldModel) -> None:
    global _world
    _world = world
    torch.set_num_threads(1)


def _dream_alone(part: _Runs) -> LongDreams:
    return part.dream(_world, Seeds.of(_world), lambda steps: None)


def read_recording(episodes: Sequence[Episode]) -> list[Dream]:
    """Recorded episodes, read as dreams are; what they announce is what their labels say, where they have any."""
    recordings = []
    total = sum(len(episode) for episode in episodes)
    with progress_bar(total=total, desc="real frames", unit="frame") as bar:
        for episode in episodes:
            last = len(episode) - 1
            recording = Dream(run=episode.number, seed=0)
            for state in range(len(episode)):
                recording.readings.append(read(episode.frames(state, state + 1)[0]))
                bar.update(1)
            if episode.rewards is not None and "lives" in episode.labels:
                recording.points = [float(points) for points in episode.rewards[:last]]
                recording.lives_lost = [bool(less) for less in np.diff(episode.labels["lives"]) < 0]
            recordings.append(recording)
    return recordings


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
    """Processes that dream one run at a time on a CPU, on one thread each; 0 dreams `batch_size` at a time here."""
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
        report["real"] = {"dataset": config.real, **report_dreams(read_recording(episodes))}
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

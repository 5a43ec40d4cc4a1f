"""Measure a world on recorded play: `python -m training.evaluate --world W --dataset D --out REPORT`.

Every figure stands beside its baseline and the number of cases behind it. PSNR is of rounded uint8 RGB, the whole
prepared frame against the real one (never its reconstruction), dB a frame, then averaged.

- **Teacher-forced**: the history is real, one step is dreamed, at every state of the episodes read. Likeness beside
  repeating the last frame, at 1, 2 and 4 denoising steps too, whether the dream turns Pac-Man where the player turned
  him, rewards, lost lives and ends.
- **Free-running**: the dream lives on its own frames under the recorded actions. Likeness by horizon, the distance of
  dreamed from real clips, whether Pac-Man and the ghosts are still there, since a model that fades out what moves
  scores well on PSNR, whether Pac-Man goes where he is told to, and where everyone is.

- **On its own**: past any recording, 1,000 steps of seeded sticky keys held against the game's rules, and whether the
  noise decides where ghosts go.

Cases are spread evenly over the dataset and the noise is seeded, so the same world gives the same report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural_pacman.command import command
from neural_pacman.episodes import HISTORY, Episode
from neural_pacman.progress import progress_bar
from neural_pacman.world import WorldModel
from neural_pacman.world_folder import replacing
from training.bars import bars
from training.branches import two_generators
from training.clips import Clip, choose_starts, clip_states, has_labels, spread, walk
from training.courses import Courses
from training.curves import save_curves
from training.figures import Report
from training.fit import check_fit, read_some
from training.free_running import FreeRunning, dream_on, few_step_dreams
from training.long_report import report_dreams
from training.long_runs import dream_long, read_recording
from training.perceptual import lpips_missing
from training.pictures import Pictures, save_long_sheet
from training.report import NO_LABELS, NO_SEEDS, markdown
from training.step_time import step_time
from training.summary import summary
from training.teacher_forced import DENOISING_STEPS, TeacherForced, compare_counts, find_turns

FEW_STEP_HORIZON = 16
FIGURES = "report.json"
"""What makes a folder a report."""

UNSAID = ("world", "dataset", "out", "device", "workers", "quick")
"""Options that a report says elsewhere, or that do not change its figures."""

QUICK: dict[str, Any] = {
    **{"episodes": 2, "rollouts": 6, "windows": 12, "few_step_windows": 6, "turns": 6, "videos": 1},
    **{"long_seeds": 2, "long_steps": 200, "real_states": 200, "branches": 4, "workers": 0, "timed_steps": 20},
}


@dataclass
class Evaluation:
    """Measure a world on recorded episodes that it has not seen."""

    world: str
    """A shipped world's name, a world's folder, or a hub id."""
    dataset: str
    """A folder of parquet files, one parquet file, or a hub id. Without labels the game's own measures are left out."""
    out: Path = Path("report")
    """The folder to write: report.json, report.md, curves, contact sheets and videos. A former report is replaced."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    episodes: int | None = None
    """Episodes read, from the dataset's beginning; by default as many as it takes to 5,000 states."""
    rollouts: int = 48
    """Histories that dreams run free from: to 16 steps, one in three to 64, one in six to 256."""
    windows: int = 150
    """Teacher-forced steps whose frames are compared; rewards, lost lives and ends are judged at every step."""
    few_step_windows: int = 100
    """Teacher-forced steps dreamed with 1, 2 and 4 denoising steps."""
    turns: int = 60
    """Turns at which all five actions are dreamed."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; the world's own number by default."""
    batch_size: int = 16
    """Dreams in one forward pass."""
    sheet_rows: int = 6
    """Histories on each contact sheet."""
    videos: int = 2
    """The longest dreams that become videos beside the real game."""
    long_seeds: int = 20
    """Runs from the world's own seeds, played by seeded sticky keys and held against the game's rules; 0 leaves them
    out. They take two thirds of the time and more."""
    long_steps: int = 1000
    """Steps of each of those runs."""
    real_states: int = 5000
    """Recorded frames held against the same rules, whole episodes: what the reader itself gets wrong."""
    branches: int = 20
    """Histories with a ghost at a junction that are dreamed on twice, with other noise; 0 leaves them out."""
    timed_steps: int = 300
    """Steps of the environment that are timed on this machine; 0 leaves them out."""
    workers: int = 2
    """Processes that dream long runs, one at a time on one thread each, on a CPU; 0 dreams them here."""
    seed: int = 0
    """Seed of all noise."""
    quick: bool = False
    """A small look: 2 episodes, 6 histories, 12 steps compared, 6 turns, 1 video, 2 runs of 200 steps."""


def evaluate(config: Evaluation) -> Report:
    """Measure, write the report's folder, and return its figures.

    Raises what reading a world or a dataset raises, and ValueError when the two do not fit, when there are fewer
    episodes than asked for or none is long enough, or when `out` holds something else than a report.
    """
    if config.quick:
        config = replace(config, **QUICK)
    with replacing(config.out, FIGURES, "report") as folder:
        world = WorldModel.from_pretrained(config.world, device=config.device)
        episodes = read_some(config.dataset, config.episodes)
        check_fit(world, episodes, config.dataset)
        labelled = has_labels(episodes)
        forced, clips = _teacher_forced(world, episodes, labelled, config)
        free = _free_running(world, clips, labelled, folder, config)
        report: Report = {
            "world": {"name": world.config.name, "hash": world.hash},
            "dataset": Path(config.dataset).name if Path(config.dataset).exists() else config.dataset,
            "conditions": _conditions(world, episodes, clips, labelled, config),
            **forced,
            **{name: figures for name, figures in free.items() if name != "denoising_steps"},
        }
        report["denoising_steps"] |= free["denoising_steps"]
        if labelled and world.seeds_file is not None:
            report |= _on_its_own(world, episodes, folder, config)
        if config.timed_steps and world.seeds_file is not None:
            report["step_time"] = step_time(
                config.world, config.timed_steps, num_inference_steps=config.num_inference_steps, device=config.device
            )
        report["bars"] = bars(report)
        report["summary"] = summary(report)
        save_curves(report["free_running"], folder / "curves.png")
        (folder / "report.md").write_text(markdown(report), encoding="utf-8")
        (folder / FIGURES).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _conditions(
    world: WorldModel, episodes: Sequence[Episode], clips: Sequence[Clip], labelled: bool, config: Evaluation
) -> Report:
    return {
        "episodes": len(episodes),
        "states": sum(map(len, episodes)),
        "labels": labelled,
        "seeds": world.seeds_file is not None,
        "options": {
            field.name: getattr(config, field.name)
            for field in fields(config)
            if field.name not in UNSAID and getattr(config, field.name) != field.default
        },
        "rollouts": len(clips),
        "num_inference_steps": config.num_inference_steps or world.config.num_inference_steps,
        "history_noise": world.config.history_noise,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "device": str(world.device),
        "threads": torch.get_num_threads(),
        "lpips": lpips_missing() or "measured",
    }


def _teacher_forced(
    world: WorldModel, episodes: Sequence[Episode], labelled: bool, config: Evaluation
) -> tuple[Report, list[Clip]]:
    """Walk all episodes a step at a time; on the way, keep what free dreams will start from."""
    starts = choose_starts(episodes, config.rollouts)
    states = [(i, state) for i, episode in enumerate(episodes) for state in range(HISTORY, len(episode))]
    turns = [(i, state) for i, episode in enumerate(episodes) for state in find_turns(episode)] if labelled else []
    shown = {states[i] for i in spread(len(states), config.windows)}
    few = {states[i] for i in spread(len(states), config.few_step_windows)}
    turning = {turns[i] for i in spread(len(turns), config.turns)}
    measured = TeacherForced(world, labelled, config.num_inference_steps, config.seed)
    clips: list[Clip] = []
    with progress_bar(total=len(states), desc="teacher-forced", unit="step") as bar:
        for i, episode in enumerate(episodes):
            here = [(start, ahead) for owner, start, ahead in starts if owner is episode]
            wanted = {state for start, ahead in here for state in clip_states(start, ahead)}
            latents: dict[int, Tensor] = {}
            for steps in walk(world, episode, config.batch_size):
                marks = ({state for at, state in chosen if at == i} for chosen in (shown, few, turning))
                measured.measure(episode, steps, *marks)
                first = steps.states.start
                if first == HISTORY:
                    latents.update(zip(range(HISTORY), steps.history[0], strict=True))
                latents.update((state, steps.real[state - first]) for state in steps.states if state in wanted)
                bar.update(len(steps.states))
            for start, ahead in here:
                real = torch.stack([latents[state] for state in clip_states(start, ahead)])
                clips.append(Clip.of(world, episode, start, ahead, real))
            if episode.dones is not None and episode.dones[-1] and len(episode) >= HISTORY:
                measured.measure_end(episode)
    return measured.report(), clips


def _free_running(world: WorldModel, clips: Sequence[Clip], labelled: bool, folder: Path, config: Evaluation) -> Report:
    """Dream along all clips, and along some with other numbers of denoising steps; draw the pictures."""
    measured, courses = FreeRunning(world, labelled), Courses(clips)
    with Pictures(folder, clips, config.sheet_rows, config.videos) as pictures:
        viewers = (measured, pictures, courses) if labelled else (measured, pictures)
        for dreamed in dream_on(
            world,
            clips,
            lambda clip, step: any(viewer.looks_at(clip, step) for viewer in viewers),
            config.batch_size,
            config.num_inference_steps,
            config.seed,
        ):
            for viewer in viewers:
                viewer.see(dreamed)
        names = pictures.names
    pictures.save_sheets()
    few = few_step_dreams(world, clips, DENOISING_STEPS, FEW_STEP_HORIZON, config.batch_size, config.seed)
    return {
        **measured.report(),
        **(courses.report() if labelled else {}),
        "denoising_steps": {f"step_{FEW_STEP_HORIZON}": compare_counts(few)},
        "pictures": names,
    }


def _on_its_own(world: WorldModel, episodes: Sequence[Episode], folder: Path, config: Evaluation) -> Report:
    """Dream on where no recording leads, and read real frames in the same way."""
    report: Report = {}
    steps, seed = config.num_inference_steps, config.seed
    if config.branches:
        report["two_generators"] = two_generators(world, config.branches, num_inference_steps=steps, seed=seed)
    if config.long_seeds:
        dreams = dream_long(
            world,
            config.long_seeds,
            config.long_steps,
            num_inference_steps=steps,
            seed=seed,
            workers=config.workers,
        )
        report["long_runs"] = {
            "dream": report_dreams(dreams.dreams),
            "real": report_dreams(read_recording(_some(episodes, config.real_states))),
            "seeds": config.long_seeds,
            "steps": config.long_steps,
        }
        save_long_sheet(dreams.frames, folder)
    return report


def _some(episodes: Sequence[Episode], states: int) -> list[Episode]:
    """The first episodes that have so many states together, or all."""
    some: list[Episode] = []
    for episode in episodes:
        if sum(map(len, some)) < states:
            some.append(episode)
    return some


def main(config: Evaluation) -> None:
    report = evaluate(config)
    width = max(map(len, report["summary"]))
    for name, figure in report["summary"].items():
        print(f"{name:{width}}  {figure}")
    if not report["conditions"]["labels"]:
        print(NO_LABELS)
    if not report["conditions"]["seeds"]:
        print(NO_SEEDS)
    print(f"Report: {config.out / 'report.md'}")


if __name__ == "__main__":
    command(main, Evaluation)

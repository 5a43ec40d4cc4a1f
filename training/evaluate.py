"""Measure a world on recorded play: `python -m training.evaluate --world W --dataset D`.

Every figure stands beside its baseline and the number of cases behind it. PSNR is of rounded uint8 RGB, the whole
prepared frame against the real one (never its reconstruction), dB a frame, then averaged.

- **Teacher-forced**: the history is real, one step is dreamed. PSNR beside repeating the last frame, whether the dream
  turns Pac-Man where the player turned him, rewards, lost lives and ends.
- **Free-running**: the dream lives on its own frames under the recorded actions. PSNR by horizon, and whether
  Pac-Man and the ghosts are still there, since a model that fades out what moves scores well on PSNR.

Cases are spread evenly over the dataset and the noise is seeded, so the same world gives the same report.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from neural_pacman.episodes import HISTORY, read_episodes
from neural_pacman.world import WorldModel
from training.clips import AHEAD, Clip, choose_starts, has_labels
from training.contact_sheet import contact_sheet, save_image
from training.figures import Report
from training.free_running import KEPT_STEPS, dream_on, report_dreams
from training.teacher_forced import TeacherForced, spread_turns


@dataclass
class Evaluation:
    """Measure a world on recorded episodes that it has not seen."""

    world: str
    """A shipped world's name, a world's folder, or a hub id."""
    dataset: str
    """A folder of parquet files, one parquet file, or a hub id. Without labels the game's own measures are left out."""
    out: Path = Path("report.json")
    """Where the figures go; the contact sheet goes beside it as a PNG of the same name."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    rollouts: int = 24
    """Histories that dreams run free from; the teacher-forced cases are taken from the same stretches of play."""
    windows: int = 300
    """Teacher-forced steps whose PSNR is measured. Rewards are judged at every step, 64 a rollout."""
    turns: int = 100
    """Turns at which all five actions are dreamed."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; the world's own number by default."""
    batch_size: int = 16
    """Dreams in one forward pass."""
    max_episodes: int = 100
    """Episodes read, from the dataset's beginning."""
    sheet_rows: int = 6
    """Histories on the contact sheet."""
    seed: int = 0
    """Seed of all noise."""


def evaluate(config: Evaluation) -> Report:
    """Measure, write the report and the contact sheet, and return the report.

    Raises what reading a world or a dataset raises, and ValueError when no episode is long enough.
    """
    began = time.monotonic()
    config.out.parent.mkdir(parents=True, exist_ok=True)  # now, not after minutes of measuring
    world = WorldModel.from_pretrained(config.world, device=config.device)
    episodes = list(islice(read_episodes(config.dataset), config.max_episodes))
    starts = choose_starts(episodes, config.rollouts)
    labelled = has_labels(episodes)
    turns = spread_turns(starts, config.turns) if labelled else [[] for _ in starts]
    shown = [_spread(part) for part in _shares(config.windows, len(starts))]

    steps = TeacherForced(world, config.batch_size, config.num_inference_steps, config.seed)
    clips = []
    for i in tqdm(range(len(starts)), "teacher-forced", unit="clip", dynamic_ncols=True):
        clips.append(Clip.of(world, *starts[i]))
        steps.measure(clips[i], shown[i], turns[i])
    ended = [episode for episode in episodes if episode.dones is not None and episode.dones[-1]]
    for episode in tqdm(ended[: config.rollouts], "ends", unit="episode", dynamic_ncols=True):
        if len(episode) >= HISTORY:
            steps.measure_end(episode)
    dreams = dream_on(world, clips, config.batch_size, config.num_inference_steps, config.seed)

    report: Report = {
        "world": {"name": world.config.name, "hash": world.hash},
        "dataset": config.dataset,
        "conditions": {
            "episodes": len(episodes),
            "labels": labelled,
            "rollouts": len(clips),
            "num_inference_steps": config.num_inference_steps or world.config.num_inference_steps,
            "history_noise": world.config.history_noise,
            "batch_size": config.batch_size,
            "seed": config.seed,
            "device": str(world.device),
        },
        **steps.report(),
        "free_running": report_dreams(world, clips, dreams, labelled),
    }
    report["summary"] = {name: f"{figure}, {cases}" for name, figure, cases in table(report)}
    report["conditions"]["seconds"] = round(time.monotonic() - began, 1)
    save_image(_draw(clips, dreams, config.sheet_rows), config.out.with_suffix(".png"))
    partial = config.out.with_name(f".{config.out.name}.partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, config.out)
    return report


def _spread(count: int) -> list[int]:
    """`count` of a clip's 64 steps, evenly apart."""
    return np.unique(np.linspace(1, AHEAD, count).round().astype(int)).tolist()


def _draw(clips: Sequence[Clip], dreams: dict[int, np.ndarray], rows: int) -> Image.Image:
    """The contact sheet of `rows` dreams, spread evenly over all."""
    chosen = np.linspace(0, len(clips) - 1, min(rows, len(clips))).round().astype(int)
    real = np.stack([[clips[i].real(step) for step in KEPT_STEPS] for i in chosen])
    dreamed = np.stack([[dreams[step][i] for step in KEPT_STEPS] for i in chosen])
    names = [f"ep. {clips[i].episode.number}, state {clips[i].start}" for i in chosen]
    return contact_sheet(real, dreamed, KEPT_STEPS, names)


def _shares(total: int, parts: int) -> list[int]:
    """`total` as `parts` whole numbers that differ by one at most."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def table(report: Report) -> list[tuple[str, str, str]]:
    """The report in short: what was measured, the figure with what belongs beside it, and the number of cases."""
    step, ends = report["one_step"], report["ends"]
    rows = [
        ("autoencoder PSNR", _db(report["autoencoder"]["psnr"]), f"{report['autoencoder']['n']} frames"),
        ("one-step PSNR", f"{_db(step['psnr'])} (repeat-last {_db(step['repeat_last'])})", f"{step['n']} steps"),
    ]
    if turns := report.get("turns"):
        rows.append(("turns: true action best of 5", _percent(turns["better_than_each_other"]), f"{turns['n']} turns"))
    for horizon, part in report["free_running"].items():
        figure = f"{_db(part['psnr'])} (repeat-last {_db(part['repeat_last'])})"
        rows.append((f"free-running PSNR, step {horizon}", figure, f"{part['n']} runs"))
    for horizon, part in report["free_running"].items():
        if cast := part.get("cast"):
            beside = f"real {_percent(cast['real'])}, reconstructed {_percent(cast['reconstruction'])}"
            figure = f"{_percent(cast['dream'])} ({beside}; where real {_percent(cast['dream_where_real'])})"
            rows.append((f"Pac-Man and 3 ghosts whole, step {horizon}", figure, f"{cast['n']} runs"))
        if places := part.get("pacman_in_place"):
            figure = f"{_percent(places['dream'])} (repeat-last {_percent(places['repeat_last'])})"
            rows.append((f"Pac-Man within a tile of the real one, step {horizon}", figure, f"{places['n']} runs"))
    if rewards := report.get("rewards"):
        rows += [
            (f"{name} recalled", _found(rewards[key]), f"{rewards[key]['real']} eaten")
            for name, key in (("pellets (10)", "pellets"), ("power pellets (100)", "power_pellets"))
        ]
    if lives := report.get("lives_lost"):
        rows.append(("lost lives found", _found(lives), f"{lives['real']} lost in {lives['n']} steps"))
    rows.append(("ends found", _found(ends), f"{ends['real']} ends in {ends['n']} steps"))
    return rows


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} dB"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _found(detection: Report) -> str:
    return f"{_percent(detection['recall'])} (precision {_percent(detection['precision'])})"


def main(config: Evaluation) -> None:
    report = evaluate(config)
    rows = table(report)
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, figure, cases in rows:
        print(f"{name:{widths[0]}}  {figure:{widths[1]}}  {cases}")
    if not report["conditions"]["labels"]:
        print("The dataset has no labels of the classic maze: turns and actors were left out.")
    print(f"Report: {config.out}; contact sheet: {config.out.with_suffix('.png')}")


if __name__ == "__main__":
    main(tyro.cli(Evaluation))

"""From a dataset to a world: `python -m training --dataset D --size compact --out W`.

Chooses the seeds, trains the autoencoder, encodes the cache, trains the denoiser and the outcome model, and puts the
world together. Every stage lives in a folder beside the world (`W.run`) and takes up where it was stopped: run the same
command again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro
from rich.console import Console
from rich.table import Table

from neural_pacman.autoencoder import AUTOENCODERS, LATENT_CHANNELS, LATENT_SIZE, FrameAutoencoder
from neural_pacman.denoiser import DENOISERS, Denoiser
from neural_pacman.episodes import HISTORY, parquet_files
from neural_pacman.frames import FRAME_SIZE
from neural_pacman.outcome import OUTCOMES, OutcomeModel
from neural_pacman.seeds import write_seeds
from training import autoencoder, denoiser, outcome
from training.assemble import Assembly, assemble
from training.autoencoder import AutoencoderLoss, AutoencoderTraining, episodes_of
from training.cache import FRAME_BYTES, CacheBuilding, build_cache, write_json
from training.denoiser import DenoiserLoss, DenoiserTraining
from training.loop import EXPORT, LoopConfig, Trainer
from training.outcome import OutcomeLoss, OutcomeTraining
from training.seeds import choose_seeds

SHARES = {"autoencoder": 0.35, "denoiser": 0.6, "outcome": 0.05}
"""How a budget is divided among the stages that learn, after what the cache takes."""


@dataclass
class WorldTraining:
    """Train a whole world on recorded play."""

    dataset: tuple[str, ...]
    """Folders of parquet files, parquet files or hub ids; seeds come from the first."""
    out: Path
    """The world folder to write. Runs, curves and the cache go to a folder beside it, `OUT.run`."""
    size: str = "compact"
    """tiny, compact or full."""
    budget: str | None = None
    """Time to divide among the stages, such as 90m or 2h; without it each stage does all its steps."""
    held_out: tuple[int, ...] = ()
    """Episodes of the first dataset to take the seeds from and never to train on; chosen by default."""
    steps: int | None = None
    """Steps of every stage, for a quick trial."""
    batch_size: int | None = None
    """Examples a step in every stage; each stage's own by default."""
    frames_in_memory: int = 6000
    """Frames that the autoencoder learns from, kept decoded (0.8 MB each)."""
    dry_run: bool = False
    """Say what each stage will take, and stop."""
    seed: int = 0
    """Seed of everything."""
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 where the machine multiplies it in hardware."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""
    notices: tuple[Path, ...] = ()
    """Licence texts to travel with the world, each named LICENSE-..."""


def parse_budget(text: str) -> float:
    """ "90m", "2h" or "1.5h" as minutes; ValueError for anything else."""
    units = {"m": 1.0, "h": 60.0}
    try:
        minutes = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        minutes = 0.0
    if minutes <= 0:
        raise ValueError(f"The budget is {text!r}; expected a time such as 90m or 2h.")
    return minutes


@dataclass
class Plan:
    """The stages of one world, each with its settings."""

    run: Path
    autoencoder: AutoencoderTraining
    cache: CacheBuilding
    denoiser: DenoiserTraining
    outcome: OutcomeTraining


def make_plan(config: WorldTraining) -> Plan:
    """Every stage's settings, without a budget yet."""
    run = config.out.with_name(config.out.name + ".run")
    parts = {"autoencoder": AutoencoderTraining, "denoiser": DenoiserTraining, "outcome": OutcomeTraining}
    loops = {name: part.__dataclass_fields__["loop"].default_factory() for name, part in parts.items()}
    for name, loop in loops.items():
        loops[name] = replace(
            loop,
            seed=config.seed,
            precision=config.precision,
            device=config.device,
            checkpoint_minutes=config.checkpoint_minutes,
            steps=config.steps or loop.steps,
            batch_size=config.batch_size or loop.batch_size,
        )
    cache = run / "cache"
    return Plan(
        run,
        AutoencoderTraining(
            config.dataset,
            run / "autoencoder",
            config.size,
            frames_in_memory=config.frames_in_memory,
            loop=loops["autoencoder"],
        ),
        CacheBuilding(
            config.dataset, run / "autoencoder" / EXPORT, cache, precision=config.precision, device=config.device
        ),
        DenoiserTraining(cache, run / "denoiser", config.size, loop=loops["denoiser"]),
        OutcomeTraining(cache, run / "outcome", config.size, loop=loops["outcome"]),
    )


# -- what it will take -------------------------------------------------------------------------------------------


def count_rows(datasets: tuple[str, ...]) -> int | None:
    """Rows of local datasets; None when one of them is on the hub."""
    files = [parquet_files(dataset) for dataset in datasets]
    return sum(pq.ParquetFile(f).metadata.num_rows for part in files for f in part) if all(files) else None


def seconds_per_step(model: torch.nn.Module, loss: Any, batch: dict[str, np.ndarray], loop: LoopConfig) -> float:
    """Time one step of training takes on this machine: the fastest of three after a first one."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Path(folder), model, loss, lambda rng: batch, loop, {}, lambda module, where: None)
        tensors = {name: torch.from_numpy(value).to(trainer.accelerator.device) for name, value in batch.items()}
        times = []
        for _ in range(4):
            start = time.monotonic()
            trainer._update(tensors)
            times.append(time.monotonic() - start)
        return min(times[1:])


def measure(plan: Plan, rows: int) -> dict[str, float]:
    """Seconds that each stage takes for all its steps on this machine, from a few steps on noise."""
    rng = np.random.default_rng(0)
    size, crop = plan.autoencoder.size, plan.autoencoder.crop
    n = plan.autoencoder.loop.batch_size
    coder = FrameAutoencoder.create(size)
    difference = rng.integers(-255, 255, (n, crop, crop, 3)).astype(np.int16)
    seconds = {
        "autoencoder": plan.autoencoder.loop.steps
        * seconds_per_step(coder, AutoencoderLoss(plan.autoencoder), {"difference": difference}, plan.autoencoder.loop)
    }
    device = next(coder.parameters()).device
    frames = torch.zeros(8, 3, FRAME_SIZE, FRAME_SIZE, device=device)
    with torch.no_grad():
        coder.encode(frames[:1])
        start = time.monotonic()
        coder.encode(frames)
    seconds["cache"] = rows * ((time.monotonic() - start) / len(frames) + READ_SECONDS)

    def latents(count: int, length: int) -> np.ndarray:
        return rng.normal(size=(count, length, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)).astype(np.float16)

    n, length = plan.denoiser.loop.batch_size, HISTORY + plan.denoiser.rollout_steps + 1
    batch = {"latents": latents(n, length), "actions": rng.integers(0, 5, (n, length))}
    seconds["denoiser"] = plan.denoiser.loop.steps * seconds_per_step(
        Denoiser(**DENOISERS[size]), DenoiserLoss(plan.denoiser), batch, plan.denoiser.loop
    )
    n = plan.outcome.loop.batch_size
    model = OutcomeModel(**OUTCOMES[size])
    frames_seen = model.config.num_frames
    ones = np.ones(n, np.float32)
    batch = {
        "latents": latents(n, frames_seen),
        "next": latents(n, 1)[:, 0],
        "actions": rng.integers(0, 5, (n, frames_seen)),
    }
    batch |= {"points": np.zeros(n, np.int64), "has_next": ones, "life_lost": ones, "end": ones, "weight": ones}
    seconds["outcome"] = plan.outcome.loop.steps * seconds_per_step(
        model, OutcomeLoss(plan.outcome), batch, plan.outcome.loop
    )
    return seconds


READ_SECONDS = 0.006
"""Time to decode and prepare one recorded frame on a common core; the rest of the cache's time is measured."""


def share_out(plan: Plan, seconds: dict[str, float], budget: float) -> None:
    """Give each stage its minutes of the budget and let it end there; ValueError when nothing is left to learn in."""
    left = budget - seconds["cache"] / 60
    if left <= 0:
        raise ValueError(
            f"The budget is {budget:.0f} minutes and encoding the dataset alone takes {seconds['cache'] / 60:.0f}; "
            "give a larger one or fewer frames."
        )
    for name, share in SHARES.items():
        stage = getattr(plan, name)
        stage.loop = replace(stage.loop, minutes=left * share, steps=10**7)
        seconds[name] = left * share * 60


def show(plan: Plan, seconds: dict[str, float], rows: int | None) -> None:
    """Print what each stage will take on this machine in time and disk."""
    table = Table(title=f"{plan.autoencoder.size} world from {rows if rows else 'an unknown number of'} rows")
    for heading in ("stage", "work", "time", "disk"):
        table.add_column(heading)
    disk = {"cache": (rows or 0) * FRAME_BYTES}
    for name in ("autoencoder", "denoiser", "outcome"):
        disk[name] = 5 * 4 * _parameters(name, plan.autoencoder.size)
    for name in ("autoencoder", "cache", "denoiser", "outcome"):
        stage = getattr(plan, name)
        if name == "cache":
            work = f"{rows} frames" if rows else "every frame"
        else:
            work = f"{stage.loop.minutes:.0f} minutes" if stage.loop.minutes else f"{stage.loop.steps} steps"
        known = name != "cache" or rows
        table.add_row(
            name,
            work,
            f"{seconds[name] / 60:.1f} min" if known else "?",
            f"{disk[name] / 1e6:.0f} MB" if known else "?",
        )
    total = sum(seconds.values()) / 60
    table.add_row("all", "", f"{total:.1f} min", f"{sum(disk.values()) / 1e6:.0f} MB", style="bold")
    Console().print(table)


def _parameters(part: str, size: str) -> int:
    make: dict[str, Callable[[], torch.nn.Module]] = {
        "autoencoder": lambda: AUTOENCODERS[size].build(),
        "denoiser": lambda: Denoiser(**DENOISERS[size]),
        "outcome": lambda: OutcomeModel(**OUTCOMES[size]),
    }
    with torch.device("meta"):
        return sum(p.numel() for p in make[part]().parameters())


# -- doing it ----------------------------------------------------------------------------------------------------


def hold_out(config: WorldTraining, run: Path) -> tuple[int, ...]:
    """Choose and write the seeds once; the episodes that they come from."""
    seeds, chosen = run / "seeds.parquet", run / "held_out.json"
    if not (seeds.exists() and chosen.exists()):
        run.mkdir(parents=True, exist_ok=True)
        episodes = episodes_of(config.dataset[:1], ())
        if config.held_out:
            given = [episode for episode in episodes if episode.number in config.held_out]
            starts = choose_seeds(given, most_episodes=len(given), most_share=1.0)
        else:
            starts = choose_seeds(episodes)
        write_seeds(seeds, starts)
        write_json(chosen, sorted({start.episode for start in starts} | set(config.held_out)))
    return tuple(json.loads(chosen.read_text()))


def main(config: WorldTraining) -> None:
    if config.size not in DENOISERS:
        raise ValueError(f"There is no size {config.size!r}; expected one of {', '.join(DENOISERS)}.")
    plan = make_plan(config)
    rows = count_rows(config.dataset)
    seconds = measure(plan, rows or 0)
    if config.budget:
        share_out(plan, seconds, parse_budget(config.budget))
    show(plan, seconds, rows)
    needed = (rows or 0) * FRAME_BYTES
    plan.run.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.run.parent).free
    if needed > free:
        raise OSError(
            f"The cache takes {needed / 1e9:.1f} GB and {plan.run.parent} has {free / 1e9:.1f} GB free; make room."
        )
    if config.dry_run:
        return
    held_out = hold_out(config, plan.run)
    plan.autoencoder.held_out = plan.cache.held_out = held_out
    autoencoder.main(plan.autoencoder)
    build_cache(plan.cache)
    denoiser.main(plan.denoiser)
    outcome.main(plan.outcome)
    assemble(
        Assembly(
            plan.autoencoder.run / EXPORT,
            plan.denoiser.run / EXPORT,
            plan.outcome.run / EXPORT,
            plan.run / "seeds.parquet",
            config.out,
            held_out=held_out,
            held_out_dataset=Path(config.dataset[0]).name,
            notices=config.notices,
        )
    )
    Console().print(f"The world is in {config.out}. Play it: neural-pacman play --world {config.out}")


if __name__ == "__main__":
    main(tyro.cli(WorldTraining))

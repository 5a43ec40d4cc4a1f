"""What it takes to make a world: the stages, their settings, and a budget divided among them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neural_pacman.devices import resolve_device
from training.autoencoder import AutoencoderTraining
from training.cache import CacheBuilding
from training.checkpoint import EXPORT
from training.denoiser import Chains, DenoiserTraining
from training.loop import LoopConfig, Precision, Size
from training.mirror import Mirror
from training.outcome import OutcomeTraining

SHARES = {"autoencoder": 0.35, "denoiser": 0.6, "outcome": 0.05}
"""How a budget is divided among the stages that learn, after what reading and encoding take."""

ON_GPU: dict[str, dict[str, Any]] = {
    "autoencoder": {"batch_size": 96, "ema_decay": 0.999, "workers": max(1, (os.cpu_count() or 1) - 2)},
    "denoiser": {"batch_size": 256, "learning_rate": 3e-3, "compile": True},
    "outcome": {"ema_decay": 0.995},
}
"""What suits an H100 better than a CPU (docs/lab_notebook.md, run 9)."""

NO_END = 10**7
"""Steps of a stage that ends by time."""

BUDGET = "budget.json"


@dataclass
class WorldTraining:
    """Train a whole world on recorded play."""

    dataset: tuple[str, ...]
    """Folders of parquet files, parquet files or hub ids; seeds come from the first."""
    out: Path
    """The world folder to write. Runs, curves and the cache go to a folder beside it, `OUT.run`."""
    size: Size = "compact"
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
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the machine multiplies it in hardware."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    threads: int | None = None
    """CPU threads; None takes all cores."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""
    notices: tuple[Path, ...] = ()
    """Licence texts to travel with the world, each named LICENSE-..."""
    mirror: Mirror = field(default_factory=Mirror)
    """The mirror image of every episode, for the denoiser and the outcome model to learn from too."""
    denoiser: Chains = field(default_factory=Chains)
    """Which steps in a row the denoiser learns from, and from when on as it dreams them itself."""


@dataclass
class Plan:
    """The stages of one world, each with its settings; `run` is the folder that they share."""

    run: Path
    autoencoder: AutoencoderTraining
    cache: CacheBuilding
    denoiser: DenoiserTraining
    outcome: OutcomeTraining

    @property
    def loops(self) -> dict[str, LoopConfig]:
        """The settings of the stages that learn, by name."""
        return {name: getattr(self, name).loop for name in SHARES}


def make_plan(config: WorldTraining) -> Plan:
    """Every stage's settings, without a budget yet."""
    run = config.out.with_name(config.out.name + ".run")
    trained, cache = run / "autoencoder", run / "cache"
    plan = Plan(
        run,
        AutoencoderTraining(
            config.dataset,
            trained,
            config.size,
            frames_in_memory=config.frames_in_memory,
            screens=min(AutoencoderTraining.screens, config.frames_in_memory),
        ),
        CacheBuilding(
            config.dataset,
            trained / EXPORT,
            cache,
            precision=config.precision,
            device=config.device,
            mirror=config.mirror,
        ),
        DenoiserTraining(cache, run / "denoiser", config.size, **vars(config.denoiser)),
        OutcomeTraining(cache, run / "outcome", config.size, denoiser=run / "denoiser" / EXPORT),
    )
    on_gpu = resolve_device(config.device).type == "cuda"
    for name in SHARES:
        stage = getattr(plan, name)
        stage.loop = replace(stage.loop, **(ON_GPU[name] if on_gpu else {}))
        stage.loop = replace(
            stage.loop,
            steps=stage.loop.steps if config.steps is None else config.steps,
            batch_size=stage.loop.batch_size if config.batch_size is None else config.batch_size,
            checkpoint_minutes=config.checkpoint_minutes,
            seed=config.seed,
            precision=config.precision,
            device=config.device,
            threads=config.threads,
        )
    return plan


def parse_budget(text: str) -> float:
    """ "90m", "2h" or "1.5h" as minutes; ValueError for anything else."""
    units = {"m": 1.0, "h": 60.0}
    try:
        minutes = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise ValueError(f"The budget is {text!r}; expected a time such as 90m or 2h.")
    return minutes


def divide(budget: float, seconds: dict[str, float]) -> dict[str, float]:
    """Minutes of the budget for each stage that learns; `seconds` is what the work takes that no budget shortens.

    Raises ValueError when nothing is left to learn in.
    """
    fixed = sum(seconds.values()) / 60
    if fixed >= budget:
        raise ValueError(
            f"The budget is {budget:g} minutes, and reading and encoding the dataset alone take {fixed:.1f}; "
            "give a larger one or fewer frames."
        )
    return {name: share * (budget - fixed) for name, share in SHARES.items()}


def apply_budget(plan: Plan, minutes: dict[str, float], steps: int | None) -> None:
    """Let each stage end after its minutes, or after `steps` if they come first."""
    for name, stage in {name: getattr(plan, name) for name in SHARES}.items():
        stage.loop = replace(stage.loop, minutes=minutes[name], steps=NO_END if steps is None else steps)


def kept_division(plan: Plan, budget: str) -> dict[str, float] | None:
    """How the same budget was divided when this world was begun: a finished stage must not find itself unfinished."""
    file = plan.run / BUDGET
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return kept["minutes"] if kept.get("budget") == budget else None

"""From a dataset to a world: `python -m training --dataset D --size compact --out W`.

Chooses the seeds, trains the autoencoder, encodes the cache, trains the denoiser and the outcome model, and puts the
world together. Every stage lives in a folder beside the world (`W.run`) and takes up where it was stopped: run the same
command again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from neural_pacman.command import command
from neural_pacman.world_folder import CONFIG
from training import autoencoder, denoiser, outcome
from training.assemble import Assembly, assemble
from training.cache import build_cache, count_rows, write_json
from training.checkpoint import EXPORT
from training.estimate import disk, measure, measure_data, show
from training.plan import BUDGET, Plan, WorldTraining, apply_budget, divide, kept_division, make_plan, parse_budget
from training.seeds import SEEDS, hold_out


def main(config: WorldTraining) -> None:
    """Say what it will take, then do what is left to do."""
    check_out(config)
    plan = make_plan(config)
    rows = count_rows(config.dataset)
    data = measure_data(plan, rows)
    if config.budget:
        minutes = kept_division(plan, config.budget) or divide(parse_budget(config.budget), data)
        apply_budget(plan, minutes, config.steps)
        if rows is None:
            Console().print("How much there is to encode is not known: that comes on top of the budget.")
    show(plan, measure(plan, data), rows)
    check_disk(plan, sum(disk(plan, rows).values()))
    if config.dry_run:
        return
    held_out = hold_out(config.dataset, config.held_out, plan.run)
    if config.budget:
        write_json(plan.run / BUDGET, {"budget": config.budget, "minutes": minutes})
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
            plan.run / SEEDS,
            config.out,
            held_out=held_out,
            held_out_dataset=Path(config.dataset[0]).name,
            notices=config.notices,
        )
    )
    Console().print(f"The world is in {config.out}. Play it: neural-pacman play --world {config.out}", soft_wrap=True)


def check_out(config: WorldTraining) -> None:
    """Raise before hours of work what writing the world would raise after them."""
    out = config.out
    if out.exists() and not (out / CONFIG).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a world; expected a new or empty folder, or a world to replace.")
    if missing := [notice for notice in config.notices if not notice.is_file()]:
        raise FileNotFoundError(f"There is no notice at {', '.join(map(str, missing))}; expected licence texts.")


def check_disk(plan: Plan, needed: int) -> None:
    """Raise OSError when the disk has too little room for what is still to be written."""
    held = sum(file.stat().st_size for file in plan.run.rglob("*") if file.is_file())
    place = next(folder for folder in (plan.run, *plan.run.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed - held > free:
        raise OSError(
            f"The stages take {(needed - held) / 1e9:.1f} GB more and {place} has {free / 1e9:.1f} GB free; make room."
        )


if __name__ == "__main__":
    command(main, WorldTraining)

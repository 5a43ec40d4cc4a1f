"""What the stages of a world will take on this machine in time and disk, from a few steps on noise."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.autoencoder import AUTOENCODERS, LATENT_CHANNELS, LATENT_SIZE, FrameAutoencoder
from neural_pacman.denoiser import DENOISERS, Denoiser
from neural_pacman.devices import resolve_device
from neural_pacman.episodes import HISTORY, read_episodes
from neural_pacman.frames import FRAME_SIZE
from neural_pacman.outcome import OUTCOMES, OutcomeModel
from training.autoencoder import AutoencoderLoss
from training.cache import FRAME_BYTES, KEY, LATENTS, encode
from training.checkpoint import EXPORT, read_state
from training.denoiser import DenoiserLoss
from training.loop import LoopConfig, Loss, Trainer, progress
from training.outcome import OutcomeLoss
from training.plan import Plan

PATIENCE = 30.0
"""Seconds that a step may be expected to take before it is judged by one example's."""

FOUND = 8
"""How many times as long as reading a frame it takes to find the looks in a screen (3) and, in one frame more, where
things turn (5), on a CPU."""

READ = 64
"""Frames that are read side by side, as they are to be kept or encoded; pictures are found in one after the other."""

COPIES = 10
"""A checkpoint is four times the weights (they, their average, two moments), the export once; both twice in between."""

BYTES_PER_WEIGHT = 4

Made = TypeVar("Made", bound=Sized)


def measure_data(plan: Plan, rows: int | None) -> dict[str, float]:
    """Seconds to read the autoencoder's frames and find its pictures (`reading`), and to encode what is left (`cache`).

    `rows` is None where nobody knows; then `cache` is 0. Raises what `read_episodes` does when the dataset is unfit.
    """
    if _left(plan, "autoencoder") == 0 and _frames_left(plan, rows) == 0:
        return {"reading": 0.0, "cache": 0.0}
    dataset = plan.autoencoder.dataset[0]
    episode = next((episode for episode in read_episodes(dataset) if len(episode)), None)
    if episode is None:
        raise ValueError(f"The dataset {dataset} shows no state; expected episodes of several rows.")
    frames, alone = _timed(lambda: episode.frames(0, min(8, len(episode))))
    states = range(min(READ, len(episode)))
    with ThreadPoolExecutor() as pool:
        _, reading = _timed(lambda: [*pool.map(lambda k: episode.frames(k, k + 1), states)])
    coder = FrameAutoencoder.create(plan.autoencoder.size).to(resolve_device(plan.cache.device))
    _, encoding = _timed(lambda: encode(coder, frames[:1], plan.cache.precision))
    if encoding < PATIENCE:
        _, encoding = _timed(lambda: encode(coder, frames, plan.cache.precision))
    kept, screens = (min(n, rows or n) for n in (plan.autoencoder.frames_in_memory, plan.autoencoder.screens))
    finding = FOUND * alone * screens if coder.pixel_unshuffle > 1 else 0.0
    return {
        "reading": reading * kept + finding if _left(plan, "autoencoder") else 0.0,
        "cache": (reading + encoding) * (_frames_left(plan, rows) or 0),
    }


def measure(plan: Plan, data: dict[str, float]) -> dict[str, float]:
    """Seconds that each stage will take from where it stands; `data` is what `measure_data` gave."""
    seconds = {"cache": data["cache"]}
    for name, loop in plan.loops.items():
        left = _left(plan, name)
        if left == 0:
            seconds[name] = 0.0
        elif loop.minutes:
            seconds[name] = 60 * loop.minutes * left
        else:
            seconds[name] = loop.steps * left * seconds_per_step(*_trial(plan, name), loop)
    seconds["autoencoder"] += data["reading"]
    return seconds


def seconds_per_step(model: nn.Module, loss: Loss, batch: dict[str, np.ndarray], loop: LoopConfig) -> float:
    """Time one step of training takes on this machine: the faster of two, of the whole batch if that is bearable."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Path(folder), model, loss, lambda rng: batch, replace(loop, compile=False), {})
        device = trainer.accelerator.device

        def step(examples: int) -> float:
            tensors = {name: torch.from_numpy(values[:examples]).to(device) for name, values in batch.items()}
            start = time.monotonic()
            trainer.update(tensors)
            return time.monotonic() - start

        one = loop.batch_size * min(step(1), step(1))
        return one if one > PATIENCE else min(step(loop.batch_size), step(loop.batch_size))


def disk(plan: Plan, rows: int | None) -> dict[str, int]:
    """Bytes that each stage takes on the disk, without what it writes for TensorBoard."""
    size = plan.autoencoder.size
    with torch.device("meta"):
        models = {
            "autoencoder": AUTOENCODERS[size].build(),
            "denoiser": Denoiser(**DENOISERS[size]),
            "outcome": OutcomeModel(**OUTCOMES[size]),
        }
    weights = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    cache = plan.cache.frames_of(rows or 0) * FRAME_BYTES
    return {name: COPIES * BYTES_PER_WEIGHT * n for name, n in weights.items()} | {"cache": cache}


def show(plan: Plan, seconds: dict[str, float], rows: int | None) -> None:
    """Print what each stage will take on this machine in time and disk."""
    space = disk(plan, rows)
    table = Table(title=f"a {plan.autoencoder.size} world from {rows or 'an unknown number of'} rows")
    for heading in ("stage", "work", "time left", "disk"):
        table.add_column(heading)
    for name in ("autoencoder", "cache", "denoiser", "outcome"):
        unknown = name == "cache" and rows is None
        time_left, bytes_needed = ("?", "?") if unknown else (_duration(seconds[name]), f"{space[name] / 1e6:.0f} MB")
        table.add_row(name, _work(plan, name, rows), time_left, bytes_needed)
    least = "at least " if rows is None else ""
    table.add_row(
        "all", "", least + _duration(sum(seconds.values())), f"{least}{sum(space.values()) / 1e6:.0f} MB", style="bold"
    )
    Console().print(table)


def _work(plan: Plan, name: str, rows: int | None) -> str:
    if name == "cache":
        left = _frames_left(plan, rows)
        return "every frame" if left is None else f"{left} frames" if left else "finished"
    loop = plan.loops[name]
    if _left(plan, name) == 0:
        return "finished"
    return f"{loop.minutes:.0f} minutes" if loop.minutes else f"{loop.steps} steps"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.1f} min"


def _left(plan: Plan, name: str) -> float:
    """How much of a stage that learns is still to be done, 0 to 1."""
    state = read_state(plan.run / name / EXPORT)
    return 1.0 if state is None else 1 - progress(state, plan.loops[name])


def _frames_left(plan: Plan, rows: int | None) -> int | None:
    """Frames that are still to be encoded; None when nobody knows how many there are."""
    key, latents = plan.cache.out / KEY, plan.cache.out / LATENTS
    if key.exists() and json.loads(key.read_text(encoding="utf-8"))["complete"]:
        return 0
    encoded = latents.stat().st_size // FRAME_BYTES if latents.exists() else 0
    return None if rows is None else max(plan.cache.frames_of(rows) - encoded, 0)


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What `make` gives, and the seconds that it took for each item of it."""
    start = time.monotonic()
    made = make()
    return made, (time.monotonic() - start) / len(made)


def _trial(plan: Plan, name: str) -> tuple[nn.Module, Loss, dict[str, np.ndarray]]:
    """A stage's model with random weights, its loss, and a batch of noise."""
    size, n = plan.autoencoder.size, plan.loops[name].batch_size
    rng = np.random.default_rng(0)

    def latents(*frames: int) -> np.ndarray:
        shape = (n, *frames, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
        return rng.standard_normal(shape, np.float32).astype(np.float16)

    def actions(length: int) -> np.ndarray:
        return rng.integers(0, NUM_ACTIONS, (n, length))

    if name == "autoencoder":
        model = FrameAutoencoder.create(size)
        side = min(plan.autoencoder.crop, FRAME_SIZE) // model.pixel_unshuffle
        difference = rng.integers(-255, 255, (n, side, side, 3 * model.pixel_unshuffle**2)).astype(np.int16)
        return model, AutoencoderLoss(plan.autoencoder), {"difference": difference}
    if name == "denoiser":
        length = HISTORY + plan.denoiser.chain
        batch = {"latents": latents(length), "actions": actions(length)}
        return Denoiser(**DENOISERS[size]), DenoiserLoss(plan.denoiser), batch
    model = OutcomeModel(**OUTCOMES[size])
    length = model.config.num_frames
    known = dict.fromkeys(("has_next", "points_known", "life_lost", "end", "caught", "weight"), np.ones(n, np.float32))
    batch = {"latents": latents(length), "next": latents(), "actions": actions(length), "points": np.zeros(n, np.int64)}
    return model, OutcomeLoss(plan.outcome), batch | known

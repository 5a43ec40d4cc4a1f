"""The training loop that every trained part shares.

Batch `i` and its noise depend on the seed and `i` alone, and checkpoints hold all that changes, so a run that was
killed ends where an uninterrupted one ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from neural_pacman.devices import multiplies_bfloat16, resolve_device
from neural_pacman.progress import progress_bar
from training.checkpoint import (
    CHECKPOINT,
    EXPORT,
    STAGE,
    State,
    check_identity,
    damaged,
    load_weights,
    read_checkpoint,
    read_state,
    replacing,
    write_checkpoint,
)
from training.optimizer import MatrixOptimizer

Size = Literal["tiny", "compact", "full"]
Precision = Literal["auto", "fp32", "bf16"]
Figures = dict[str, Tensor]
Loss = Callable[[nn.Module, dict[str, Tensor], torch.Generator, float], tuple[Tensor, Figures]]
"""`loss(model, batch, generator, progress)`: the loss and the figures to log. `generator` is on the batch's device,
seeded by the step, and the only source of noise; `progress` is the run's, 0 to 1."""

Batch = dict[str, Any]
"""NumPy arrays, or tensors on the run's device, by name."""

MakeBatch = Callable[[np.random.Generator], Batch]

LOGGED_STEPS = 20
"""Steps between the points of TensorBoard's curves."""


@dataclass
class LoopConfig:
    """How long and how fast to train."""

    steps: int = 10_000
    """Optimizer steps of the whole run."""
    minutes: float | None = None
    """End after so many minutes of training if the steps are not done by then; the learning rate decays in time."""
    batch_size: int = 32
    """Examples a step."""
    learning_rate: float = 1e-3
    """Highest learning rate, after the warm-up; it falls to a twentieth along a cosine."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises from zero."""
    weight_decay: float = 1e-4
    """How much of itself every weight loses in a step, times the learning rate."""
    ema_decay: float = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, instead of minutes."""
    sample_steps: int = 500
    """Steps between the pictures in TensorBoard."""
    init: Path | None = None
    """Weights to start from: the export/ folder of another run of the same stage and size."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the machine multiplies it in hardware."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    threads: int | None = None
    """CPU threads; None takes all cores."""
    workers: int = 0
    """Processes that prepare batches."""
    compile: bool = False
    """Compile the network first: a minute or two at the start, then faster steps on a GPU."""

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "batch_size", "checkpoint_steps", "sample_steps", "threads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; expected more than 0.")


class StepDataset(Dataset[dict[str, Tensor]]):
    """Batches by step: item `i` is batch `i`, made by `make(rng)` with a generator of its own."""

    def __init__(self, make: MakeBatch, seed: int, steps: int) -> None:
        self.make, self.seed, self.steps = make, seed, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        batch = self.make(np.random.default_rng([self.seed, step]))
        return {name: torch.as_tensor(values) for name, values in batch.items()}


def save_part(model: nn.Module, folder: Path) -> None:
    """Write a diffusers model as its component folder."""
    model.save_pretrained(folder)  # type: ignore[operator]


class Trainer:
    """Trains one module in one run folder, resuming whatever is there.

    Args:
        run: the folder of the run; made if missing.
        model: the module to train.
        loss: see `Loss`.
        make_batch: `make_batch(rng)` gives one batch.
        config: how long and how fast.
        identity: settings that must not change between a run and its resumption (size, dataset, ...).
        export: `export(averaged_model, folder)` writes the part as its component folder.
        sample: `sample(averaged_model)` gives pictures for TensorBoard, uint8 `[H, W, 3]` by name.
    """

    def __init__(
        self,
        run: Path,
        model: nn.Module,
        loss: Loss,
        make_batch: MakeBatch,
        config: LoopConfig,
        identity: dict[str, Any],
        export: Callable[[nn.Module, Path], None] = save_part,
        sample: Callable[[nn.Module], dict[str, np.ndarray]] | None = None,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.accelerator = make_accelerator(config)
        self.run, self.config, self.identity = run, config, as_json(identity)
        self.loss, self.make_batch, self.export, self.sample = loss, make_batch, export, sample
        run.mkdir(parents=True, exist_ok=True)
        if config.init:
            load_weights(model, config.init)
        self.model = model.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            self.model.compile()
        self.optimizer = MatrixOptimizer(self.model, config.learning_rate, config.weight_decay)
        self.average = {name: value.detach().clone().float() for name, value in self.model.state_dict().items()}
        self.step, self.elapsed = 0, 0.0

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _state(self) -> State:
        return {"step": self.step, "elapsed": self.elapsed, "identity": self.identity}

    def save(self) -> None:
        """Replace the checkpoint, then the exported part, each as a whole."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.tensors().items()}
        write_checkpoint(self.run / CHECKPOINT, self._state(), tensors)
        with replacing(self.run / EXPORT) as folder:
            self.export(self.averaged(), folder)
            self.restore()
            (folder / STAGE).write_text(json.dumps(self._state(), indent=1), encoding="utf-8")

    def resume(self) -> None:
        """Take up the run's checkpoint, or where there is none the weights it exported, with a fresh optimizer.

        Raises ValueError when they are damaged or of another run.
        """
        file, export = self.run / CHECKPOINT, self.run / EXPORT
        if file.exists():
            held, tensors = read_checkpoint(file)
            self._take_up(held)
            try:
                self._load(tensors)
            except (KeyError, RuntimeError, ValueError) as error:
                raise damaged(file, error) from error
        elif state := read_state(export):
            self._take_up(state)
            load_weights(self.model, export)
            self.average = {k: v.detach().clone().float() for k, v in self.model.state_dict().items()}

    def _take_up(self, state: State) -> None:
        check_identity(self.run, state, self.identity)
        self.step, self.elapsed = state["step"], state["elapsed"]

    def _load(self, tensors: dict[str, Tensor]) -> None:
        model, average, optimizer = (
            {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
            for part in ("model.", "average.", "optimizer.")
        )
        self.model.load_state_dict(model)
        self.average = {name: average[name].to(self.accelerator.device) for name in self.average}
        self.optimizer.load(optimizer)

    def averaged(self) -> nn.Module:
        """The module with its averaged weights, for as long as `restore` has not been called."""
        self._kept = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        return self.model.eval()

    def restore(self) -> None:
        """Undo `averaged`."""
        self.model.load_state_dict(self._kept)
        self.model.train()

    # -- training ------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        return progress(self._state(), self.config)

    def learning_rate(self) -> float:
        warm = min((self.step + 1) / max(self.config.warmup_steps, 1), 1.0)
        cosine = 0.5 * (1 + np.cos(np.pi * self.progress))
        return self.config.learning_rate * warm * (0.05 + 0.95 * float(cosine))

    def train(self) -> nn.Module:
        """Run to the end from wherever the run stands; returns the module with its averaged weights, exported."""
        from torch.utils.tensorboard import SummaryWriter

        self.resume()
        config, device = self.config, self.accelerator.device.type
        where = {"cuda": "GPU", "mps": "GPU (Metal)"}.get(device, f"CPU, threads: {torch.get_num_threads()}")
        precision = "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32"
        tqdm.write(f"{self.run.name}: {where}, {precision}, from step {self.step}")
        self.model.train()
        with (
            SummaryWriter(str(self.run / "tensorboard"), purge_step=self.step) as writer,
            progress_bar(total=config.steps, initial=self.step, desc=self.run.name, unit="step", smoothing=0.05) as bar,
        ):
            saved = time.monotonic()
            started = saved - self.elapsed
            for batch in self._batches() if self.progress < 1 else ():
                figures = self.update(batch)
                self.step += 1
                self.elapsed = time.monotonic() - started
                bar.update()
                if self.step % LOGGED_STEPS == 0:
                    shown = {name: float(value) for name, value in figures.items()}
                    bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()}, refresh=False)
                    if config.minutes:  # the time left is known, and so are the steps that will fit into it
                        bar.total = round(self.step / self.progress)
                    for name, value in {**shown, "learning_rate": self.learning_rate()}.items():
                        writer.add_scalar(name, value, self.step)
                if self.sample and self.step % config.sample_steps == 0:
                    for name, picture in self.sample(self.averaged()).items():
                        writer.add_image(name, picture, self.step, dataformats="HWC")
                    self.restore()
                if self.progress >= 1:
                    break
                if (
                    self.step % config.checkpoint_steps == 0
                    if config.checkpoint_steps
                    else time.monotonic() - saved > 60 * config.checkpoint_minutes
                ):
                    self.save()
                    saved = time.monotonic()
        self.save()
        return self.averaged()

    def _batches(self) -> Iterable[dict[str, Tensor]]:
        data = StepDataset(self.make_batch, self.config.seed, self.config.steps)
        loader = DataLoader(
            data,
            batch_size=None,
            sampler=range(self.step, self.config.steps),
            num_workers=self.config.workers,
            pin_memory=self.accelerator.device.type == "cuda" and self.config.workers > 0,
        )
        for batch in loader:
            yield {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}

    def update(self, batch: dict[str, Tensor]) -> Figures:
        """One step of the optimizer; FloatingPointError when the loss is no longer a number."""
        noise = torch.Generator(self.accelerator.device).manual_seed(self.config.seed * 1_000_003 + self.step)
        with self.accelerator.autocast():
            loss, figures = self.loss(self.model, batch, noise, self.progress)
        self.accelerator.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {self.step}: training diverged. The last checkpoint is kept; "
                f"resume with a learning rate below {self.config.learning_rate}."
            )
        self.optimizer.step(self.learning_rate())
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value.float(), 1 - decay)
        return {"loss": loss.detach(), **figures}


def progress(state: State, config: LoopConfig) -> float:
    """How much of a run is done, 0 to 1, by steps or by minutes, whichever is further."""
    spent = state["elapsed"] / 60 / config.minutes if config.minutes else 0.0
    return min(max(state["step"] / config.steps, spent), 1.0)


def finished(run: Path, identity: dict[str, Any], config: LoopConfig) -> bool:
    """Whether the run in this folder was trained to its end, which is then said; ValueError when it is another run."""
    state = read_state(run / EXPORT)
    if state is None:
        return False
    check_identity(run, state, as_json(identity))
    if progress(state, config) < 1:
        return False
    tqdm.write(f"{run.name}: finished, {state['step']} steps")
    return True


def as_json(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity as it comes back from a file."""
    return json.loads(json.dumps(identity))


def auto_precision(device: torch.device) -> str:
    """bf16 where the device multiplies it in hardware; fp32 elsewhere, where bf16 is slower."""
    return "bf16" if multiplies_bfloat16(device) else "fp32"


def make_accelerator(config: LoopConfig) -> Accelerator:
    """Accelerate's device and autocast for a run."""
    device = resolve_device(config.device)
    precision = auto_precision(device) if config.precision == "auto" else config.precision
    return Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", cpu=device.type == "cpu")

"""The training loop that every trained part shares.

A run is a folder with one `checkpoint.safetensors`: weights, their moving average and the optimizer's state, replaced
whole or not at all. Batch `i` and its noise depend on the seed and `i` alone, so a run that was killed ends where an
uninterrupted one ends.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

CHECKPOINT = "checkpoint.safetensors"
EXPORT = "export"
STAGE = "stage.json"

Figures = dict[str, Tensor]
Loss = Callable[[nn.Module, dict[str, Tensor], torch.Generator, float], tuple[Tensor, Figures]]
"""`loss(model, batch, generator, progress)`: the loss and the figures to log. `generator` is on the CPU, seeded by the
step, and the only source of noise; `progress` is the run's, 0 to 1."""


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
    """AdamW's."""
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
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 where the machine multiplies it in hardware."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    threads: int | None = None
    """CPU threads; None takes all cores."""
    workers: int = 0
    """Processes that prepare batches."""


class StepDataset(Dataset[dict[str, Tensor]]):
    """Batches by step: item `i` is batch `i`, made by `make(rng, i)` from a generator of its own."""

    def __init__(self, make: Callable[[np.random.Generator], dict[str, np.ndarray]], seed: int, steps: int) -> None:
        self.make, self.seed, self.steps = make, seed, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        batch = self.make(np.random.default_rng([self.seed, step]))
        return {name: torch.from_numpy(values) for name, values in batch.items()}


def auto_precision(device: torch.device) -> str:
    """bf16 on CUDA and on CPUs with matrix units for it; fp32 elsewhere, where bf16 is slower."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else "fp32"


class Trainer:
    """Trains one module in one run folder, resuming whatever is there.

    Args:
        run: the folder of the run; made if missing.
        model: the module to train.
        loss: see `Loss`.
        make_batch: `make_batch(rng)` gives one batch as NumPy arrays.
        config: how long and how fast.
        identity: settings that must not change between a run and its resumption (size, dataset, ...).
        sample: `sample(averaged_model)` gives pictures for TensorBoard, uint8 `[H, W, 3]` by name.
        export: `export(averaged_model, folder)` writes the part as its component folder.
    """

    def __init__(
        self,
        run: Path,
        model: nn.Module,
        loss: Loss,
        make_batch: Callable[[np.random.Generator], dict[str, np.ndarray]],
        config: LoopConfig,
        identity: dict[str, Any],
        export: Callable[[nn.Module, Path], None],
        sample: Callable[[nn.Module], dict[str, np.ndarray]] | None = None,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.accelerator = make_accelerator(config)
        self.run, self.config, self.identity = run, config, json.loads(json.dumps(identity))
        self.loss, self.make_batch, self.export, self.sample = loss, make_batch, export, sample
        run.mkdir(parents=True, exist_ok=True)
        if config.init:
            load_weights(model, config.init)
        self.model = model.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.average = {name: value.detach().clone().float() for name, value in self.model.state_dict().items()}
        self.step, self.elapsed = 0, 0.0

    @property
    def checkpoint(self) -> Path:
        return self.run / CHECKPOINT

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {"step": self.step, "elapsed": self.elapsed, "identity": self.identity}

    def save(self) -> None:
        """Replace the checkpoint as a whole: a kill at any moment leaves the old one or the new one."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
        state = self._state()
        partial = self.checkpoint.with_suffix(".partial")
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, {"state": json.dumps(state)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, self.checkpoint)

    def resume(self) -> None:
        """Take up the run's checkpoint, or where there is none the weights it exported, with a fresh optimizer.

        Raises ValueError when they are damaged or of another run.
        """
        if not self.checkpoint.exists():
            self._resume_from_export()
            return
        try:
            with safe_open(self.checkpoint, "pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.checkpoint} is not a whole checkpoint of this program ({error}); delete it to start anew."
            ) from error
        self._take_up(state)
        part = {
            p: {k[len(p) :]: v for k, v in tensors.items() if k.startswith(p)}
            for p in ("model.", "average.", "optimizer.")
        }
        self.model.load_state_dict(part["model."])
        self.average = {k: v.to(self.accelerator.device) for k, v in part["average."].items()}
        whole = self.optimizer.state_dict()
        for name, value in part["optimizer."].items():
            index, key = name.split(".", 1)
            whole["state"].setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(whole)

    def _resume_from_export(self) -> None:
        folder = self.run / EXPORT
        if not (folder / STAGE).exists():
            return
        self._take_up(json.loads((folder / STAGE).read_text()))
        load_weights(self.model, folder)
        self.average = {k: v.detach().clone().float() for k, v in self.model.state_dict().items()}

    def _take_up(self, state: dict[str, Any]) -> None:
        if state["identity"] != self.identity:
            raise ValueError(
                f"{self.run} holds a run with {state['identity']}; now asked for {self.identity}. Give another folder."
            )
        self.step, self.elapsed = state["step"], state["elapsed"]

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
        config = self.config
        if finished(self.run, config):
            return self.averaged()
        kinds = {"cuda": "GPU", "mps": "GPU (Metal)", "cpu": f"CPU, {torch.get_num_threads()} threads"}
        tqdm.write(
            f"{self.run.name}: {kinds[self.accelerator.device.type]}, {self.accelerator.mixed_precision}, step {self.step}"
        )
        writer = SummaryWriter(str(self.run / "tensorboard"), purge_step=self.step)
        self.model.train()
        bar = tqdm(
            total=config.steps, initial=self.step, desc=self.run.name, unit="step", smoothing=0.05, mininterval=1.0
        )
        saved = time.monotonic()
        for batch in self._batches():
            started = time.monotonic()
            figures = self._update(batch)
            self.step += 1
            self.elapsed += time.monotonic() - started
            bar.update()
            if self.step % 20 == 0:
                shown = {name: float(value) for name, value in figures.items()}
                bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()}, refresh=False)
                for name, value in shown.items():
                    writer.add_scalar(name, value, self.step)
                writer.add_scalar("learning_rate", self.learning_rate(), self.step)
            if self.sample and self.step % config.sample_steps == 0:
                for name, picture in self.sample(self.averaged()).items():
                    writer.add_image(name, picture, self.step, dataformats="HWC")
                self.restore()
            due = (
                self.step % config.checkpoint_steps == 0
                if config.checkpoint_steps
                else (time.monotonic() - saved > 60 * config.checkpoint_minutes)
            )
            if due:
                self.save()
                self._export()
                saved = time.monotonic()
            if self.progress >= 1:
                break
        bar.close()
        writer.close()
        self.save()
        self._export()
        return self.averaged()

    def _batches(self) -> Iterable[dict[str, Tensor]]:
        data = StepDataset(self.make_batch, self.config.seed, self.config.steps)
        loader = DataLoader(
            data,
            batch_size=None,
            sampler=range(self.step, self.config.steps),
            num_workers=self.config.workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        for batch in loader:
            yield {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}

    def _update(self, batch: dict[str, Tensor]) -> Figures:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        noise = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        with self.accelerator.autocast():
            loss, figures = self.loss(self.model, batch, noise, self.progress)
        self.accelerator.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"The loss is {float(loss)} at step {self.step}: training diverged. The last checkpoint is kept; resume with "
                f"a learning rate below {self.config.learning_rate}."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value.float(), 1 - decay)
        return {"loss": loss.detach(), **figures}

    def _export(self) -> None:
        """Write the component folder from the averaged weights, replacing the one before as a whole."""
        partial = self.run / "export.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self.export(self.averaged(), partial)
        self.restore()
        (partial / STAGE).write_text(json.dumps(self._state(), indent=1))
        final = self.run / EXPORT
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)


def progress(state: dict[str, Any], config: LoopConfig) -> float:
    """How much of a run is done, 0 to 1, by steps or by minutes, whichever is further."""
    spent = state["elapsed"] / 60 / config.minutes if config.minutes else 0.0
    return min(max(state["step"] / config.steps, spent), 1.0)


def finished(run: Path, config: LoopConfig) -> bool:
    """Whether the run in this folder has been trained to its end and exported."""
    stage = run / EXPORT / STAGE
    return stage.exists() and progress(json.loads(stage.read_text()), config) >= 1


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of an exported component folder; ValueError when they do not fit."""
    part = getattr(model, "dc", model)
    file = folder / "diffusion_pytorch_model.safetensors"
    if not file.exists():
        raise FileNotFoundError(f"No weights at {file}; expected an export/ folder of the same stage.")
    try:
        part.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"The weights in {folder} do not fit this model: {error}") from error


def make_accelerator(config: LoopConfig) -> Accelerator:
    """Accelerate's device and autocast for a run."""
    from neural_pacman.devices import resolve_device

    device = resolve_device(config.device)
    precision = auto_precision(device) if config.precision == "auto" else config.precision
    return Accelerator(
        mixed_precision={"fp32": "no", "bf16": "bf16"}[precision],
        cpu=device.type == "cpu",
    )

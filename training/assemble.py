"""Put trained parts together: `python -m training.assemble --autoencoder A --denoiser D --outcome O --seeds S --out W`.

The parts must belong together: the denoiser and the outcome model must have been trained on latents of this very
autoencoder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from neural_pacman.autoencoder import FrameAutoencoder
from neural_pacman.command import command
from neural_pacman.denoiser import Denoiser
from neural_pacman.outcome import OutcomeModel
from neural_pacman.sampler import SHIFT, flow_scheduler
from neural_pacman.world import WorldConfig, WorldModel
from training.cache import encoder_hash, load_autoencoder
from training.checkpoint import check_stage, load_weights
from training.denoiser import TOLD_NOISE

STORED = {"fp16": torch.float16, "fp32": torch.float32}


@dataclass
class Assembly:
    """Make a world folder of trained parts."""

    autoencoder: Path
    """The autoencoder run's `export/` folder."""
    denoiser: Path
    """The denoiser run's `export/` folder."""
    outcome: Path
    """The outcome run's `export/` folder."""
    seeds: Path
    """A `seeds.parquet` of real histories."""
    out: Path
    """The world folder to write."""
    name: str = ""
    """The world's name; the folder's by default."""
    description: Path | None = None
    """Markdown for the model card."""
    scores: Path | None = None
    """JSON of measured figures for the model card: a report of `python -m training.evaluate`, or any flat object."""
    notices: tuple[Path, ...] = ()
    """Licence texts to travel with the seeds' frames, each named LICENSE-..."""
    num_inference_steps: int = 1
    """Denoising passes a frame."""
    shift: float = SHIFT
    """How far the noise levels of these passes lean towards high noise."""
    history_noise: float = TOLD_NOISE
    """Noise level that the denoiser is told the dreamed history has."""
    settled_share: float = 1.0
    """Share of the steps after which a dream settles on the looks that it shows."""
    precision: Literal["fp16", "fp32"] = "fp16"
    """How the weights are stored."""
    held_out: tuple[int, ...] = ()
    """Episodes that no trainer read."""
    held_out_dataset: str = ""
    """The name of the dataset that they belong to."""


def load_parts(config: Assembly) -> tuple[FrameAutoencoder, Denoiser, OutcomeModel, str]:
    """The trained parts and their size.

    Raises FileNotFoundError or ValueError when one is not there or not what it should be, or when they do not belong
    together.
    """
    autoencoder = load_autoencoder(config.autoencoder)
    code = encoder_hash(config.autoencoder)
    size = check_stage(config.denoiser, "denoiser", code)["size"]
    check_stage(config.outcome, "outcome", code)
    denoiser = Denoiser.from_config(Denoiser.load_config(config.denoiser))
    outcome = OutcomeModel.from_config(OutcomeModel.load_config(config.outcome))
    load_weights(denoiser, config.denoiser)
    load_weights(outcome, config.outcome)
    return autoencoder, denoiser, outcome, size


def _summary(report: Path) -> dict[str, str]:
    """The figures of a report for the model card, by name."""
    figures = json.loads(report.read_text(encoding="utf-8"))
    return figures.get("summary", figures)


def assemble(config: Assembly) -> WorldModel:
    """Write the world folder; it is whole or absent."""
    autoencoder, denoiser, outcome, size = load_parts(config)
    world = WorldModel(
        WorldConfig(
            name=config.name or config.out.name,
            size=size,
            pixel_unshuffle=autoencoder.pixel_unshuffle,
            num_inference_steps=config.num_inference_steps,
            history_noise=config.history_noise,
            settled_share=config.settled_share,
            description=config.description.read_text(encoding="utf-8") if config.description else "",
            scores=_summary(config.scores) if config.scores else {},
            held_out_episodes=[{"dataset": config.held_out_dataset, "episodes": sorted(config.held_out)}]
            if config.held_out
            else [],
        ),
        autoencoder,
        denoiser,
        outcome,
        flow_scheduler(config.shift),
        config.seeds,
        {notice.name: notice.read_text(encoding="utf-8") for notice in config.notices},
    )
    world.save_pretrained(config.out, dtype=STORED[config.precision])
    return world


if __name__ == "__main__":
    command(assemble, Assembly)

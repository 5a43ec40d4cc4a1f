"""Train the outcome model on cached latents: `python -m training.outcome --cache C --run R`.

Ghosts, deaths and ends are rare, so they are drawn often and weigh less each time: the square root of what would undo
the drawing, between a model that never expects them and one that always does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.outcome import OUTCOMES, OutcomeModel
from training.cache import Cache
from training.loop import Figures, LoopConfig, Trainer


@dataclass
class OutcomeTraining:
    """Train the outcome model on cached latents of datasets that have rewards."""

    cache: Path
    """A finished cache of `python -m training.cache`."""
    run: Path
    """Folder of the run: checkpoint, TensorBoard curves, and `export/`, the trained part."""
    size: str = "compact"
    """tiny, compact or full."""
    latent_noise: float = 0.15
    """Highest noise on what the model sees, which is dreamed when it is used."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, batch_size=128, learning_rate=2e-3))


class OutcomeBatches:
    """Draws states whose outcome is known; every kind of outcome makes an equal share of half of them."""

    def __init__(self, cache: Cache, points: list[int], frames: int, batch_size: int) -> None:
        self.cache, self.frames, self.batch_size = cache, frames, batch_size
        states = np.arange(len(cache))
        self.has_next = states < cache.last
        self.states = states[(self.has_next | (cache.dones == 1)) & ~np.isnan(cache.rewards)]
        self.classes = np.searchsorted(points, np.nan_to_num(cache.rewards)).astype(np.int64)
        kinds = self.classes.copy()
        kinds[cache.life_lost == 1] = len(points)
        kinds[cache.dones == 1] = len(points) + 1
        _, kind, counts = np.unique(kinds[self.states], return_inverse=True, return_counts=True)
        # Kinds by the square root of their number: rare ones often, the rarest (a handful of rows) not without end.
        share = np.sqrt(counts) / np.sqrt(counts).sum()
        drawn = 0.5 / len(self.states) + 0.5 * (share / counts)[kind]
        self.probability = drawn / drawn.sum()
        weight = np.sqrt(1 / (self.probability * len(self.states)))
        self.weight = np.zeros(len(cache), np.float32)
        self.weight[self.states] = weight

    def __call__(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        chosen = rng.choice(self.states, self.batch_size, p=self.probability)
        has_next = self.has_next[chosen]
        # An end is never drawn: its next state is not looked at, any will do.
        latents, actions = self.cache.windows(chosen, 0, history=self.frames)
        following = self.cache.latents[np.where(has_next, chosen + 1, chosen)]
        return {
            "latents": latents,
            "next": following,
            "actions": actions,
            "has_next": has_next.astype(np.float32),
            "points": self.classes[chosen],
            "life_lost": self.cache.life_lost[chosen].astype(np.float32),
            "end": self.cache.dones[chosen].astype(np.float32),
            "weight": self.weight[chosen],
        }


class OutcomeLoss:
    """Cross-entropy of points, lost lives and ends, each where it is known."""

    def __init__(self, config: OutcomeTraining) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        def noisy(latents: Tensor) -> Tensor:
            level = self.config.latent_noise * torch.rand(len(latents), generator=generator)
            noise = torch.randn(latents.shape, generator=generator) * level.view(-1, *[1] * (latents.ndim - 1))
            return latents.float() + noise.to(latents.device)

        actions = F.one_hot(batch["actions"], NUM_ACTIONS).float()
        logits = model(noisy(batch["latents"]).flatten(1, 2), actions, noisy(batch["next"]))
        weight, step = batch["weight"], batch["weight"] * batch["has_next"]
        points = (step * F.cross_entropy(logits.points.float(), batch["points"], reduction="none")).sum() / step.sum()
        losses = {"points": points}
        for name, given, known in (
            ("life_lost", logits.life_lost, step * (batch["life_lost"] >= 0)),
            ("end", logits.end, weight * (batch["end"] >= 0)),
        ):
            entropy = F.binary_cross_entropy_with_logits(given.float(), batch[name].clamp(min=0), reduction="none")
            losses[name] = (known * entropy).sum() / known.sum().clamp(min=1e-6)
        right = (logits.points.argmax(-1) == batch["points"]).float()
        scored = batch["has_next"] * (batch["points"] > 0)
        figures = {name: value.detach() for name, value in losses.items()}
        return sum(losses.values(), torch.zeros_like(points)), {
            **figures,
            "scored_right": (right * scored).sum() / scored.sum().clamp(min=1),
        }


def point_classes(cache: Cache) -> list[int]:
    """The gains in one step that occur in the cache, with 0; ValueError when no dataset of it has rewards."""
    known = cache.rewards[~np.isnan(cache.rewards)]
    if not len(known):
        raise ValueError(
            f"No dataset of {cache.folder} has a reward column, so there is nothing to learn points from; add one that has "
            "(its rewards label the rest)."
        )
    return sorted({0, *np.unique(known).astype(int).tolist()})


def main(config: OutcomeTraining) -> None:
    torch.manual_seed(config.loop.seed)
    cache = Cache(config.cache)
    points = point_classes(cache)
    model = OutcomeModel(points=points, **OUTCOMES[config.size])

    def export(module: nn.Module, folder: Path) -> None:
        assert isinstance(module, OutcomeModel)
        module.save_pretrained(folder)

    identity = {
        "stage": "outcome",
        "size": config.size,
        "autoencoder": cache.key["autoencoder"],
        "dataset": cache.key["dataset"],
    }
    batches = OutcomeBatches(cache, points, model.config.num_frames, config.loop.batch_size)
    Trainer(config.run, model, OutcomeLoss(config), batches, config.loop, identity, export).train()


if __name__ == "__main__":
    main(tyro.cli(OutcomeTraining))

"""Train the denoiser on cached latents: `python -m training.denoiser --cache C --run R`.

Rectified flow with x-prediction. Three habits keep a dream from fading: places that change weigh more, the history is
corrupted by noise whose level the network is told (Valevski et al. 2024, GameNGen), and in the last part of the run
some of the history is what the network itself made of it. Such a frame starts from the true next latent under heavy
noise, so that it stays close to the recording's own ghosts while it carries the network's own mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.denoiser import DENOISERS, Denoiser
from neural_pacman.episodes import HISTORY
from neural_pacman.sampler import SHIFT
from training.cache import Cache
from training.command import command
from training.loop import Figures, LoopConfig, Size, Trainer, finished


@dataclass
class DenoiserTraining:
    """Train the denoiser on cached latents."""

    cache: Path
    """A finished cache of `python -m training.cache`."""
    run: Path
    """Folder of the run: checkpoint, TensorBoard curves, and `export/`, the trained part."""
    size: Size = "compact"
    """tiny, compact or full."""
    short_share: float = 0.05
    """Share of windows whose history is cut short and padded."""
    history_noise: float = 0.5
    """Highest noise level of the history; levels near zero are drawn most."""
    change_weight: float = 15.0
    """How much more a place counts that changes."""
    rollout_from: float = 0.3
    """Progress of the run, 0 to 1, from which the network's own frames enter the history."""
    rollout_steps: int = 6
    """Most frames of the history that are the network's own."""
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=30_000, batch_size=64, learning_rate=1e-3, weight_decay=1e-2)
    )


class WindowBatches:
    """Draws windows evenly over all states that have a next one."""

    def __init__(self, cache: Cache, batch_size: int, following: int, short_share: float) -> None:
        self.cache, self.batch_size, self.following, self.short_share = cache, batch_size, following, short_share
        self.ends = np.flatnonzero(np.arange(len(cache)) + following <= cache.last)
        if not len(self.ends):
            raise ValueError(f"The cache {cache.folder} has no episode of more than {following} states.")

    def __call__(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        ends = rng.choice(self.ends, self.batch_size)
        short = rng.random(self.batch_size) < self.short_share
        shown = np.where(short, rng.integers(1, HISTORY, self.batch_size), HISTORY)
        latents, actions = self.cache.windows(ends, self.following, shown)
        return {"latents": latents, "actions": actions}


class DenoiserLoss:
    """Weighted squared error of the predicted next latent, at a random noise level."""

    def __init__(self, config: DenoiserTraining) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        config, device = self.config, batch["latents"].device
        b, following = len(batch["latents"]), batch["latents"].shape[1] - HISTORY

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator).to(device)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(device)

        rollout = 0
        if progress >= config.rollout_from and following > 1:
            rollout = int(torch.randint(0, following, (1,), generator=generator))
        latents = batch["latents"][:, : HISTORY + 1 + rollout].float()
        actions = torch.nn.functional.one_hot(batch["actions"][:, : HISTORY + 1 + rollout], NUM_ACTIONS).float()
        level = config.history_noise * uniform(b) ** 2 * (uniform(b) < 0.7)
        # Noise of one level over the whole history, as a dream's own mistakes are in all of its frames.
        past = latents[:, : HISTORY + rollout]
        past = past + level[:, None, None, None, None] * _pooled_noise(past.shape, generator).to(device)

        with torch.no_grad():
            for i in range(rollout):
                window = slice(i, HISTORY + i)
                past[:, HISTORY + i] = redream(
                    model, past[:, window], actions[:, window], latents[:, HISTORY + i], level, generator
                )

        history, target = past[:, rollout:], latents[:, HISTORY + rollout]
        noise = normal(target)
        sigma = torch.where(uniform(b) < 0.25, torch.ones_like(level), _shifted(uniform(b)))
        x = model(
            _mix(target, noise, sigma), sigma, history.flatten(1, 2), actions[:, rollout : HISTORY + rollout], level
        )
        squared = (x.float() - target).square().mean(1)
        change = (target - latents[:, HISTORY + rollout - 1]).square().mean(1).sqrt()
        weight = 1 + config.change_weight * (change / 0.5).clamp(max=1)
        loss = (weight * squared).sum() / weight.sum()
        moving = (change > 0.25).float()
        return loss, {
            "error": squared.detach().mean(),
            "moving": (moving * squared.detach()).sum() / moving.sum().clamp(min=1),
            "repeat_last": (moving * change.square()).sum() / moving.sum().clamp(min=1),
        }


@torch.no_grad()
def redream(
    model: nn.Module, history: Tensor, actions: Tensor, following: Tensor, level: Tensor, generator: torch.Generator
) -> Tensor:
    """What the denoiser makes, in one pass, of the true next latent under heavy noise: its own style, the true course.

    `history` is `[B, 32, 32, 16, 16]`, `actions` one-hot `[B, 32, 5]`, `following` `[B, 32, 16, 16]`, `level` `[B]`.
    """
    noise = torch.randn(following.shape, generator=generator).to(following.device)
    sigma = _shifted(0.35 + 0.65 * torch.rand(len(following), generator=generator).to(following.device))
    return model(_mix(following, noise, sigma), sigma, history.flatten(1, 2), actions, level).float()


def _pooled_noise(shape: torch.Size, generator: torch.Generator, pool: int = 1 << 21) -> Tensor:
    """Normal noise `[B, T, ...]` of slices at random places of one pool: drawing it all takes longer than a pass."""
    size = shape[2:].numel()
    values = torch.randn(pool + size, generator=generator)
    places = torch.randint(pool, shape[:2], generator=generator)
    return values.unfold(0, size, 1)[places].view(shape)


def _shifted(even: Tensor) -> Tensor:
    """Even noise levels in [0, 1] leaning towards 1, as those that a dream passes do."""
    return SHIFT * even / (1 + (SHIFT - 1) * even)


def _mix(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    s = sigma[:, None, None, None]
    return (1 - s) * clean + s * noise


def main(config: DenoiserTraining) -> None:
    """Train to the end; nothing is done when that has happened."""
    cache = Cache(config.cache)
    identity = cache.identity("denoiser", config.size)
    if finished(config.run, identity, config.loop):
        return
    torch.manual_seed(config.loop.seed)
    model = Denoiser(**DENOISERS[config.size])
    following = 1 + (config.rollout_steps if config.rollout_from < 1 else 0)
    batches = WindowBatches(cache, config.loop.batch_size, following, config.short_share)
    Trainer(config.run, model, DenoiserLoss(config), batches, config.loop, identity).train()


if __name__ == "__main__":
    command(main, DenoiserTraining)

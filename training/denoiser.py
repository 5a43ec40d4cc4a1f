"""Train the denoiser on cached latents: `python -m training.denoiser --cache C --run R`.

Rectified flow with x-prediction. Three habits keep a dream from fading: places that change weigh more, the history is
corrupted by noise whose level the network is told (Valevski et al. 2024, GameNGen), and examples are chains of several
steps, of which the later ones see what the network made of the earlier ones. At first such a frame starts from the true
next latent under heavy noise: it stays close to the recording while it carries the network's own mistakes, and as every
pass is learned from as well, these cost nothing to make. But the truth in it holds back what grows in a dream over many
steps, such as a ghost that goes from pink to blue. So later in a run chains dream as the world will, from noise alone
(Huang et al. 2025, Self Forcing), as long as the dream can be compared with the recording: once a ghost has gone
another way, the recording would teach what has no cause in the dream, a lost life with nobody near for one, and the
chain begins anew from the recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.command import command
from neural_pacman.denoiser import DENOISERS, Denoiser
from neural_pacman.devices import resolve_device
from neural_pacman.episodes import HISTORY
from neural_pacman.sampler import SHIFT, noise_levels
from training.cache import Cache
from training.loop import Batch, Figures, LoopConfig, Size, Trainer, finished


@dataclass(kw_only=True)
class Chains:
    """Which steps in a row the denoiser learns from, and from when on as it dreams them itself."""

    event_share: float = 0.15
    """Share of windows drawn among those in which a life is lost, a power pellet or a ghost is eaten, half and half."""
    chain: int = 6
    """Steps in a row that each example learns from, one after another."""
    own_from: float = 0.2
    """Progress of the run, 0 to 1, from which a chain's later steps see what the network made of the earlier ones."""
    free_from: float = 0.8
    """Progress from which these are dreamed from noise alone, not from the true next latent under noise; `own_from` at
    the earliest."""
    tries: int = 4
    """How often a next frame is dreamed, at most, for one that has not strayed from the recording."""


@dataclass
class DenoiserTraining(Chains):
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
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=30_000, batch_size=12, learning_rate=2e-3, weight_decay=1e-2)
    )


STRAYED = 2.2
"""Root mean square over a place's channels between a dream and the recording, anywhere, from which the two cannot be
compared. A ghost more or less makes 3.5 where most of it is, another colour 2.9: one that has half faded or is split in
two halves still counts, and learns to be whole."""

TOLD_NOISE = 0.15
"""Noise level that the denoiser is told the history has, when it dreams."""

SECOND_LEVEL = float(noise_levels(2)[1])
"""Noise level of a dream's second pass."""

LEAST_LEAN = 0.1
"""How far what the second pass is given leans from the first one's guess to what is to come, at least; 1 is all."""

LOWEST = 0.25
"""Lowest noise level to learn from, evenly counted: below it the answer shows, and no dream of up to 4 steps goes."""


class WindowBatches:
    """Draws windows evenly over all states that have `following` next ones, and some more of the rare events.

    `event_share` of them hold a lost life or at least 100 points in what follows, half and half while there are both.
    """

    def __init__(
        self, cache: Cache, batch_size: int, following: int, short_share: float, event_share: float = 0.0
    ) -> None:
        self.cache, self.batch_size, self.following, self.short_share = cache, batch_size, following, short_share
        self.ends = np.flatnonzero(np.arange(len(cache)) + following <= cache.last)
        if not len(self.ends):
            raise ValueError(f"The cache {cache.folder} has no episode of more than {following} states.")
        steps = self.ends[:, None] + np.arange(following)  # the states that the steps lead out of
        events = [(happened[steps]).any(1) for happened in (cache.life_lost == 1, cache.rewards >= 100)]
        self.events = [self.ends[among] for among in events if among.any()]
        self.event_share = event_share if self.events else 0.0

    def __call__(self, rng: np.random.Generator) -> Batch:
        ends = rng.choice(self.ends, self.batch_size)
        for i in np.flatnonzero(rng.random(self.batch_size) < self.event_share):
            ends[i] = rng.choice(self.events[rng.integers(len(self.events))])
        short = rng.random(self.batch_size) < self.short_share
        shown = np.where(short, rng.integers(1, HISTORY, self.batch_size), HISTORY)
        latents, actions = self.cache.windows(ends, self.following, shown)
        return {"latents": latents, "actions": actions}


class DenoiserLoss:
    """Weighted squared error of the predicted next latents of a chain, each at a random noise level."""

    def __init__(self, config: DenoiserTraining) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        config, device = self.config, batch["latents"].device
        b, following = len(batch["latents"]), batch["latents"].shape[1] - HISTORY

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=device)

        own, free = progress >= config.own_from, progress >= config.free_from
        latents = batch["latents"].float()
        actions = F.one_hot(batch["actions"], NUM_ACTIONS).float()
        level = config.history_noise * uniform(b) ** 2 * (uniform(b) < 0.7)
        # Noise of one level over the whole history, as a dream's own mistakes are in all of its frames.
        past = latents[:, :-1] + level[:, None, None, None, None] * _pooled_noise(latents[:, :-1].shape, generator)
        names = ("loss", "weight", "error", "moving", "moved", "repeat_last")
        sums = dict.fromkeys(names, torch.zeros((), device=device))
        truth, last = past, latents[:, HISTORY - 1]
        strayed = torch.zeros((), device=device)
        for i in range(following):
            history, target = past[:, i : HISTORY + i].flatten(1, 2), latents[:, HISTORY + i]
            led = actions[:, i : HISTORY + i]
            blind = model(normal(target), torch.ones_like(level), history, led, level).float()
            lean = LEAST_LEAN + (1 - LEAST_LEAN) * uniform(b)[:, None, None, None]
            sigma = _shifted(LOWEST + (1 - LOWEST) * uniform(b))
            noisy = _mix(lean * target + (1 - lean) * blind.detach(), normal(target), sigma)
            x = model(noisy, sigma, history, led, level).float()
            change = (target - last).square().mean(1).sqrt()
            weight = 1 + config.change_weight * (change / 0.5).clamp(max=1)
            moving = (change > 0.25).float()
            for guess in (blind, x):
                squared = (guess - target).square().mean(1)
                even = squared / weight.numel() / 2
                figures = (weight * squared, weight, even, moving * squared, moving, moving * change**2)
                sums = {name: value + figure.sum() for (name, value), figure in zip(sums.items(), figures, strict=True)}
            last = target
            if own and i + 1 < following:
                seen = x.detach()
                if free:
                    seen, apart = self._dream(model, blind.detach(), history, led, target, normal)
                    last, strayed = torch.where(apart, target, seen), strayed + apart.float().mean() / (following - 1)
                    past = torch.where(apart[..., None], truth, past)
                    seen = torch.where(apart, truth[:, HISTORY + i], seen)
                past = torch.cat([past[:, : HISTORY + i], seen[:, None], past[:, HISTORY + i + 1 :]], 1)
        moved = sums["moved"].clamp(min=1)
        return sums["loss"] / sums["weight"].clamp(min=1), {
            "error": sums["error"].detach() / following,
            "moving": sums["moving"].detach() / moved,
            "repeat_last": sums["repeat_last"] / moved,
            "strayed": strayed,
        }

    @torch.no_grad()
    def _dream(
        self,
        model: nn.Module,
        blind: Tensor,
        history: Tensor,
        actions: Tensor,
        target: Tensor,
        normal: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The next latents as a world of two passes dreams them, `[B, 32, 16, 16]`, `blind` being what the first makes.

        Also which of them have strayed, `[B, 1, 1, 1]`. Those that have are dreamed again, in the hope that by other
        noise a ghost goes the way that was recorded.
        """
        dreamed, left = torch.empty_like(target), torch.arange(len(target), device=target.device)
        for _ in range(self.config.tries):
            sigma, told = (blind.new_full((len(left),), value) for value in (SECOND_LEVEL, TOLD_NOISE))
            noisy = _mix(blind[left], normal(target[left]), sigma)
            dreamed[left] = model(noisy, sigma, history[left], actions[left], told).float()
            apart = (dreamed - target).square().mean(1, keepdim=True).sqrt().amax((2, 3), keepdim=True) > STRAYED
            left = apart.flatten().nonzero().squeeze(1)
            if not len(left):
                break
        return dreamed, apart


def _pooled_noise(shape: torch.Size, generator: torch.Generator, pool: int = 1 << 21) -> Tensor:
    """Normal noise `[B, T, ...]` of slices at random places of one pool: a CPU draws it all for longer than a pass."""
    size, device = shape[2:].numel(), generator.device
    values = torch.randn(pool + size, generator=generator, device=device)
    places = torch.randint(pool, shape[:2], generator=generator, device=device)
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
    if not config.loop.workers:
        cache.keep_on(resolve_device(config.loop.device))
    batches = WindowBatches(cache, config.loop.batch_size, config.chain, config.short_share, config.event_share)
    Trainer(config.run, model, DenoiserLoss(config), batches, config.loop, identity).train()


if __name__ == "__main__":
    command(main, DenoiserTraining)

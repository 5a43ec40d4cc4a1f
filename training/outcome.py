"""Train the outcome model on cached latents: `python -m training.outcome --cache C --run R`.

It learns from what the datasets say: points from rewards, the end from `done`, lost lives from the label `lives`. Where
only some datasets say it, it is learned from those and judges dreams of all; what none of them says never happens.

Ghosts, deaths and ends are rare, so they are drawn often and weigh less each time: the square root of what would undo
the drawing, between a model that never expects them and one that always does. It is used on dreams, which look a little
other than the game: given the trained denoiser, half of the next latents are its dreams of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.command import command
from neural_pacman.denoiser import Denoiser
from neural_pacman.devices import resolve_device
from neural_pacman.episodes import HISTORY
from neural_pacman.outcome import OUTCOMES, OutcomeModel
from neural_pacman.sampler import flow_scheduler, sample
from training.cache import Cache
from training.checkpoint import check_stage, load_weights
from training.denoiser import TOLD_NOISE
from training.loop import Batch, Figures, LoopConfig, Size, Trainer, finished


@dataclass
class OutcomeTraining:
    """Train the outcome model on cached latents."""

    cache: Path
    """A finished cache of `python -m training.cache`."""
    run: Path
    """Folder of the run: checkpoint, TensorBoard curves, and `export/`, the trained part."""
    size: Size = "compact"
    """tiny, compact or full."""
    denoiser: Path | None = None
    """The trained denoiser's `export/` folder: half of the next latents are then its dreams of them."""
    dream_steps: int = 2
    """Denoising steps of these dreams."""
    latent_noise: float = 0.15
    """Highest noise on what the model sees, which is dreamed when it is used."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, batch_size=128, learning_rate=2e-3))


class OutcomeBatches:
    """Draws states with a next one, or an end; rare kinds of outcome are drawn more often than they come.

    What is unknown of a state (its points, a lost life, the end) is marked, and nothing is learned from it.
    """

    def __init__(self, cache: Cache, points: list[int], frames: int, batch_size: int) -> None:
        self.cache, self.frames, self.batch_size = cache, frames, batch_size
        states = np.arange(len(cache))
        self.has_next = states < cache.last
        self.states = states[self.has_next | (cache.dones == 1)]
        if not len(self.states):
            raise ValueError(f"The cache {cache.folder} has no episode of more than one state.")
        self.points_known = ~np.isnan(cache.rewards)
        self.classes = np.searchsorted(points, np.nan_to_num(cache.rewards)).astype(np.int64)
        # Where nothing is said of the end, an episode that goes on has not ended; lives that nobody counts stay.
        self.ends = np.where(self.has_next & (cache.dones < 0), 0, cache.dones)
        self.life_lost = cache.life_lost if (cache.life_lost >= 0).any() else np.zeros_like(cache.life_lost)
        kinds = self.classes.copy()
        kinds[self.life_lost == 1] = len(points)
        kinds[cache.dones == 1] = len(points) + 1
        _, kind, counts = np.unique(kinds[self.states], return_inverse=True, return_counts=True)
        # Kinds by the square root of their number: rare ones often, the rarest (a handful of rows) not without end.
        share = np.sqrt(counts) / np.sqrt(counts).sum()
        drawn = 0.5 / len(self.states) + 0.5 * (share / counts)[kind]
        self.probability = drawn / drawn.sum()
        weight = np.sqrt(1 / (self.probability * len(self.states)))
        self.weight = np.zeros(len(cache), np.float32)
        self.weight[self.states] = weight

    def __call__(self, rng: np.random.Generator) -> Batch:
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
            "points_known": self.points_known[chosen].astype(np.float32),
            "life_lost": self.life_lost[chosen].astype(np.float32),
            "end": self.ends[chosen].astype(np.float32),
            # A recording does not say whether its end was a lost life or a cleared maze.
            "caught": np.where(self.cache.dones[chosen] == 1, -1, self.cache.life_lost[chosen]).astype(np.float32),
            "weight": self.weight[chosen],
        }


class OutcomeLoss:
    """Cross-entropy of points, lost lives and ends, each where it is known."""

    def __init__(self, config: OutcomeTraining, denoiser: Denoiser | None = None) -> None:
        self.config, self.denoiser = config, denoiser

    def __call__(
        self, model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        def noisy(latents: Tensor) -> Tensor:
            level = self.config.latent_noise * torch.rand(len(latents), generator=generator, device=latents.device)
            noise = torch.randn(latents.shape, generator=generator, device=latents.device)
            return latents.float() + noise * level.view(-1, *[1] * (latents.ndim - 1))

        actions = F.one_hot(batch["actions"], NUM_ACTIONS).float()
        following = batch["next"].float()
        if self.denoiser is not None:
            half = len(following) // 2
            noise = torch.randn(following[:half].shape, generator=generator, device=following.device)
            history = batch["latents"][:half].float().flatten(1, 2)
            with torch.no_grad():
                dreams = sample(
                    self.denoiser, flow_scheduler(), noise, history, actions[:half], TOLD_NOISE, self.config.dream_steps
                )
            following = torch.cat([dreams.float(), following[half:]])
        assert isinstance(model, OutcomeModel)
        seen = batch["latents"][:, -model.num_frames :]
        logits = model(noisy(seen).flatten(1, 2), actions, noisy(following))
        weight, step = batch["weight"], batch["weight"] * batch["has_next"]

        def over(known: Tensor, entropy: Tensor) -> Tensor:
            return (known * entropy).sum() / known.sum().clamp(min=1e-6)

        def yes_or_no(name: str, given: Tensor) -> Tensor:
            return F.binary_cross_entropy_with_logits(given.float(), batch[name].clamp(min=0), reduction="none")

        points = F.cross_entropy(logits.points.float(), batch["points"], reduction="none")
        losses = {
            "points": over(step * batch["points_known"], points),
            "life_lost": over(step * (batch["life_lost"] >= 0), yes_or_no("life_lost", logits.life_lost)),
            "end": over(weight * (batch["end"] >= 0), yes_or_no("end", logits.end)),
            "caught": over(weight * (batch["caught"] >= 0), yes_or_no("caught", logits.caught)),
        }
        right = (logits.points.argmax(-1) == batch["points"]).float()
        scored = batch["has_next"] * (batch["points"] > 0)
        figures = {name: value.detach() for name, value in losses.items()}
        return torch.stack(list(losses.values())).sum(), {
            **figures,
            "scored_right": (right * scored).sum() / scored.sum().clamp(min=1),
        }


def load_denoiser(folder: Path, cache: Cache) -> Denoiser:
    """A trained denoiser, frozen; ValueError when it was not trained on this cache's latents."""
    check_stage(folder, "denoiser", str(cache.key["autoencoder"]))
    model = Denoiser.from_config(Denoiser.load_config(folder))
    load_weights(model, folder)
    return model.eval().requires_grad_(False)


def point_classes(cache: Cache) -> list[int]:
    """The gains in one step that occur in the cache, with 0; ValueError when they are no whole numbers."""
    gains = np.unique(cache.rewards[~np.isnan(cache.rewards)])
    if (gains != gains.round()).any():
        raise ValueError(f"The rewards in {cache.folder} are {gains[:8].tolist()}, ...; expected whole game points.")
    return sorted({0, *gains.astype(int).tolist()})


def unknown_outcomes(cache: Cache) -> list[str]:
    """What no dataset of the cache says, in words; empty when each outcome is known somewhere."""
    known = {
        "the reward of a step (a dream brings no points)": ~np.isnan(cache.rewards),
        "lives (none is lost)": cache.life_lost >= 0,
        "the end (a dream has none)": cache.dones >= 0,
    }
    return [outcome for outcome, where in known.items() if not where.any()]


def main(config: OutcomeTraining) -> None:
    """Train to the end; nothing is done when that has happened."""
    cache = Cache(config.cache)
    identity = cache.identity("outcome", config.size)
    if finished(config.run, identity, config.loop):
        return
    if unknown := unknown_outcomes(cache):
        tqdm.write(f"{config.run.name}: no dataset says {', '.join(unknown)}.")
    torch.manual_seed(config.loop.seed)
    points = point_classes(cache)
    if config.loop.init:  # trained further, it may know gains that are rare here
        points = sorted({*points, *OutcomeModel.load_config(config.loop.init)["points"]})
    model = OutcomeModel(points=points, **OUTCOMES[config.size])
    denoiser, frames = None, model.num_frames
    if config.denoiser:
        denoiser, frames = load_denoiser(config.denoiser, cache).to(resolve_device(config.loop.device)), HISTORY
    if not config.loop.workers:
        cache.keep_on(resolve_device(config.loop.device))
    batches = OutcomeBatches(cache, points, frames, config.loop.batch_size)
    Trainer(config.run, model, OutcomeLoss(config, denoiser), batches, config.loop, identity).train()


if __name__ == "__main__":
    command(main, OutcomeTraining)

"""What a step brings: the points gained, whether a life was lost, whether the episode ended.

Two small convolutional trunks over latents. One compares the dreamed latent with the frames before it and reads points
and lost lives; the other sees history and actions alone, because the frame after an end is never drawn: nothing that
the dream shows there means anything. An episode ends when Pac-Man is caught in his last life or the maze is cleared;
put together from these, it is learned from every lost life of a recording, where ends alone are too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.autoencoder import LATENT_CHANNELS, LATENT_SIZE

POINTS = (0, 10, 50, 100, 200, 400, 800, 1600)
"""Gains that Pac-Man games know: nothing, pellets, power pellets, ghosts. Training takes its dataset's own instead."""

RARE = -4.0
"""Where the logits of a lost life and of the end begin: both come about once in a hundred steps."""

ALMOST_SURE = 1 - 1e-6
"""Highest probability whose complement still has a logarithm."""

OUTCOMES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 8, "end_width": 8, "num_blocks": 1},
    "compact": {"width": 48, "end_width": 24, "num_blocks": 2},
    "full": {"width": 48, "end_width": 24, "num_blocks": 2},
}


class OutcomeLogits(NamedTuple):
    """Unnormalised predictions for a batch: `points [B, P]` (softmax), and `life_lost`, `end` and `caught`, `[B]` each
    (sigmoid). Pac-Man is `caught` where a life will be lost as far as the history tells, the last one included."""

    points: Tensor
    life_lost: Tensor
    end: Tensor
    caught: Tensor


class OutcomeModel(ModelMixin, ConfigMixin):
    """The step's outcome from latents and actions.

    `points` are the gains that it tells apart, as classes: strictly increasing whole numbers, 0 among them.
    `num_frames` of the history's newest frames, and as many actions, are looked at.
    Raises ValueError for points that are not such a list.
    """

    @register_to_config
    def __init__(
        self,
        points: Sequence[int] = POINTS,
        width: int = 48,
        end_width: int = 24,
        num_blocks: int = 2,
        num_frames: int = 4,
    ) -> None:
        super().__init__()
        if list(points) != sorted(set(points)) or 0 not in points:
            raise ValueError(f"points are {list(points)}; expected strictly increasing whole numbers, 0 among them.")
        self.num_frames = num_frames
        frames, actions = num_frames * LATENT_CHANNELS, num_frames * NUM_ACTIONS
        self.step = _Trunk(frames + LATENT_CHANNELS, actions, width, num_blocks, num_outputs=len(points) + 1)
        self.ending = _Trunk(frames, actions, end_width, num_blocks, num_outputs=3)
        nn.init.constant_(self.step.head.bias[-1:], RARE)
        nn.init.constant_(self.ending.head.bias[::2], RARE)  # caught, cleared; between them the last life

    def forward(self, history: Tensor, actions: Tensor, next_latent: Tensor) -> OutcomeLogits:
        """`history` folded `[B, 1024, 16, 16]`, `actions` one-hot `[B, 32, 5]`, `next_latent [B, 32, 16, 16]`."""
        frames = history[:, -self.num_frames * LATENT_CHANNELS :]
        newest = actions[:, -self.num_frames :].flatten(1)
        # The change is what eats pellets; given as such, no layer has to find it in two large, nearly equal inputs.
        change = next_latent - frames[:, -LATENT_CHANNELS:]
        step = self.step(torch.cat([frames, change], dim=1), newest)
        caught, last_life, cleared = self.ending(frames, newest).float().unbind(1)
        beaten = (logsigmoid(caught) + logsigmoid(last_life)).exp()
        goes_on = torch.log1p(-beaten.clamp(max=ALMOST_SURE)) + logsigmoid(-cleared)
        end = torch.log(-torch.expm1(goes_on)) - goes_on
        return OutcomeLogits(points=step[:, :-1], life_lost=step[:, -1], end=end, caught=caught)


class _Trunk(nn.Module):
    """Latents `[B, C, 16, 16]` and flat actions `[B, A]` to `[B, num_outputs]`; full resolution until the pooling."""

    def __init__(self, num_channels: int, num_actions: int, width: int, num_blocks: int, num_outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(num_channels, width, kernel_size=3, padding=1)
        # Walls and the score's place: what never changes may be missing from latents that code a difference.
        self.position = nn.Parameter(0.02 * torch.randn(width, LATENT_SIZE, LATENT_SIZE))
        self.blocks = nn.ModuleList(_Block(width, num_actions) for _ in range(num_blocks))
        self.head = nn.Linear(2 * width, num_outputs)

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        features = self.stem(latents) + self.position
        for block in self.blocks:
            features = block(features, actions)
        # One cell decides (a pellet is eaten in one place), so the maximum; the mean for what the whole screen says.
        return self.head(torch.cat([features.amax(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1))


class _Block(nn.Module):
    """A residual block that the actions scale and shift."""

    def __init__(self, width: int, num_actions: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups=4, num_channels=width, affine=False)
        self.modulation = nn.Linear(num_actions, 2 * width)
        self.first = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.second = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        scale, shift = self.modulation(actions)[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm(features) * (1 + scale) + shift
        return features + self.second(nn.functional.silu(self.first(nn.functional.silu(hidden))))

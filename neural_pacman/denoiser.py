"""The diffusion network: the history, the actions and a noisy next latent to the clean next latent.

Convolutions share one rule of motion across the whole maze; attention between them lets a ghost see a far Pac-Man and
the score see a pellet; a learned position embedding tells where the walls are, which latents of differences from the
background do not show.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from neural_pacman.actions import NUM_ACTIONS
from neural_pacman.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from neural_pacman.episodes import HISTORY

RECENT = 4
"""Newest frames of the history that a spatial filter sees at once; they show all motion."""


def fold(history: Tensor) -> Tensor:
    """`[B, 32, 32, 16, 16]` (frame, channel) as `[B, 1024, 16, 16]`: channel = frame * 32 + latent channel."""
    return history.flatten(1, 2)


def unfold(history: Tensor) -> Tensor:
    """The inverse of `fold`."""
    return history.unflatten(1, (HISTORY, LATENT_CHANNELS))


def _channel_norm(x: Tensor) -> Tensor:
    """Layer norm over the channels at each place, `[B, C, H, W]`."""
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions on a residual branch, steered by the condition through adaptive layer norm."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(condition, 3 * width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gain = self.modulation(condition)[:, :, None, None].chunk(3, dim=1)
        h = self.conv1(_channel_norm(x) * (1 + scale) + shift)
        return x + self.conv2(F.silu(h) * (1 + gain))


class AttentionBlock(nn.Module):
    """Self-attention between the places of the grid at half its resolution, where far things meet cheaply."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.avg_pool2d(_channel_norm(x), 2)
        b, c, h, w = coarse.shape
        tokens = self.qkv(coarse).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        q, k, v = tokens.unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))
        return x + F.interpolate(mixed, scale_factor=2.0)


def _waves(level: Tensor, width: int) -> Tensor:
    """A number in [0, 1], `[B]`, as sines and cosines `[B, width]`."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000), width // 2, device=level.device))
    angles = level[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Denoiser(ModelMixin, ConfigMixin):
    """Predicts the clean next latent (x-prediction) as a change of the newest one.

    Args:
        width: channels.
        depth: convolution blocks.
        attention_every: blocks between attentions over the grid.
        heads: attention heads.
        condition: width of what steers the blocks: noise level, history noise and actions.
    """

    @register_to_config
    def __init__(
        self, width: int = 128, depth: int = 8, attention_every: int = 3, heads: int = 4, condition: int = 128
    ) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(2 * 64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.action = nn.Linear(HISTORY * NUM_ACTIONS, condition)
        self.newest_action = nn.Embedding(NUM_ACTIONS, condition)
        self.position = nn.Parameter(0.02 * torch.randn(1, width, LATENT_SIZE, LATENT_SIZE))
        self.from_history = nn.Conv2d(HISTORY * LATENT_CHANNELS, width, 1)
        self.from_recent = nn.Conv2d((RECENT + 1) * LATENT_CHANNELS, width, 3, padding=1)
        self.blocks = nn.ModuleList([ConvBlock(width, condition) for _ in range(depth)])
        self.attentions = nn.ModuleDict(
            {str(i): AttentionBlock(width, heads) for i in range(depth) if i % attention_every == attention_every - 1}
        )
        self.to_latent = nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1)
        nn.init.zeros_(self.to_latent.weight)
        nn.init.zeros_(self.to_latent.bias)  # type: ignore[arg-type]

    def forward(self, sample: Tensor, sigma: Tensor, history: Tensor, actions: Tensor, history_noise: Tensor) -> Tensor:
        """The clean next latent.

        Args:
            sample: next latent with noise, `(1 - sigma) * x + sigma * noise`, of shape `[B, 32, 16, 16]`.
            sigma: its noise level in [0, 1], `[B]`; 1 is noise alone.
            history: the last 32 latents folded into channels, oldest first, `[B, 1024, 16, 16]`.
            actions: one-hot `[B, 32, 5]`; `actions[:, i]` leads out of frame `i`, the last one to the next latent.
            history_noise: how far the history is to be distrusted, a noise level in [0, 1], `[B]`.
        """
        condition = self.level(torch.cat([_waves(sigma, 64), _waves(history_noise, 64)], dim=1))
        condition = condition + self.action(actions.flatten(1)) + actions[:, -1] @ self.newest_action.weight
        condition = F.silu(condition)
        recent = torch.cat([history[:, -RECENT * LATENT_CHANNELS :], sample], dim=1)
        x = self.from_history(history) + self.from_recent(recent)
        x = x + self.position.to(x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, condition)
            if str(i) in self.attentions:
                x = self.attentions[str(i)](x)
        return history[:, -LATENT_CHANNELS:] + self.to_latent(F.silu(_channel_norm(x)))


DENOISERS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 32, "depth": 2, "attention_every": 2, "heads": 2, "condition": 32},
    "compact": {"width": 128, "depth": 8, "attention_every": 3, "heads": 4, "condition": 128},
    "full": {"width": 768, "depth": 10, "attention_every": 3, "heads": 12, "condition": 512},
}
"""Sizes by name, as arguments of `Denoiser`; `full` has over 100 M parameters."""

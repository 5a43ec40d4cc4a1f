"""Few-step sampling of the next latent: rectified flow (Liu et al. 2022, Lipman et al. 2022) with x-prediction.

With a clean latent `x` and Gaussian noise `e`, the noisy latent at level sigma is

    x_sigma = (1 - sigma) * x + sigma * e           (sigma = 1 is pure noise, sigma = 0 the latent itself)

and its velocity is `dx/dsigma = e - x = (x_sigma - x) / sigma`. The denoiser predicts `x`; diffusers' Euler scheduler
follows the velocity that this gives, and the last step, which ends at sigma 0, lands on the last prediction.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

SHIFT = 2.0
"""How far the noise levels lean towards high noise, where it is decided which way each ghost goes.

The first step from pure noise finds the mean of all that might happen. What makes the second one choose is how far its
noise tells the alternatives apart, which grows as its level falls: at 0.83 (shift 5) many a ghost that could go two
ways became two half ones, at 0.67 (shift 2) few do."""


def flow_scheduler(shift: float = SHIFT) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of a new world. Its `shift` is saved with the world, which keeps the schedule it was made for."""
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def noise_levels(num_inference_steps: int, shift: float = SHIFT) -> Tensor:
    """The levels sigma that a dream passes, float32 `[num_inference_steps + 1]`, from 1 down to 0.

    Evenly spaced `u` become `shift * u / (1 + (shift - 1) * u)` (Esser et al. 2024, eq. 23).
    Raises ValueError for less than one step.
    """
    return _timed(flow_scheduler(shift), num_inference_steps).sigmas


def sample(
    denoiser: nn.Module,
    scheduler: FlowMatchEulerDiscreteScheduler,
    noise: Tensor,
    history: Tensor,
    actions: Tensor,
    history_noise: float,
    num_inference_steps: int,
) -> Tensor:
    """Turn noise into the next latent, `[B, 32, 16, 16]`.

    `noise` is standard normal `[B, 32, 16, 16]`, `history` folded `[B, 1024, 16, 16]`, `actions` one-hot `[B, 32, 5]`,
    `history_noise` in [0, 1] the level of noise that the denoiser is told its history has.
    Gradients flow if the caller lets them. Raises ValueError for less than one step.
    """
    scheduler = _timed(copy.copy(scheduler), num_inference_steps)  # a copy: its counters belong to one dream
    told_noise = noise.new_full((len(noise),), history_noise)
    latent = noise
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        clean = denoiser(latent, noise.new_full((len(noise),), sigma), history, actions, told_noise)
        velocity = (latent - clean) / sigma
        latent = scheduler.step(velocity, timestep, latent, return_dict=False)[0]
    return latent


def _timed(scheduler: Any, num_inference_steps: int) -> Any:
    """Set the scheduler to levels from 1 down, all of them useful: its own default list ends on one close to 0."""
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; expected at least 1.")
    even = torch.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
    scheduler.set_timesteps(sigmas=even.tolist())
    scheduler.set_begin_index(0)  # saves a search of the list in the first step
    return scheduler

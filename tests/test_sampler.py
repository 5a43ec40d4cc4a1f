"""The sampler follows rectified flow: right levels, right path, right distribution, no state left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neural_pacman.sampler import flow_scheduler, noise_levels, sample

HISTORY = torch.zeros(2, 1024, 16, 16)
ACTIONS = torch.zeros(2, 32, 5)


class GaussianDenoiser(nn.Module):
    """The exact denoiser of latents that are independent Gaussians: E[x | x_sigma] in closed form."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.std = std

    def forward(self, noisy: Tensor, sigma: Tensor, history: Tensor, actions: Tensor, told: Tensor) -> Tensor:
        s = sigma[:, None, None, None]
        gain = (1 - s) * self.std**2 / ((1 - s) ** 2 * self.std**2 + s**2)
        return self.mean + gain * (noisy - (1 - s) * self.mean)


def dream(denoiser: nn.Module, noise: Tensor, steps: int) -> Tensor:
    return sample(denoiser, flow_scheduler(), noise, HISTORY, ACTIONS, history_noise=0.1, num_inference_steps=steps)


def test_levels_fall_from_pure_noise_to_none_and_lean_to_high_noise() -> None:
    torch.testing.assert_close(noise_levels(1), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(noise_levels(2), torch.tensor([1.0, 2 / 3, 0.0]))
    levels = noise_levels(4)
    assert (levels.diff() < 0).all() and (levels[1:-1] > torch.tensor([0.75, 0.5, 0.25])).all()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_last_step_lands_on_the_prediction(steps: int) -> None:
    latent = dream(GaussianDenoiser(0.7, 0.0), torch.randn(2, 32, 16, 16), steps)
    torch.testing.assert_close(latent, torch.full_like(latent, 0.7))


def test_many_steps_reproduce_the_distribution_that_the_denoiser_knows() -> None:
    noise = torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    latent = dream(GaussianDenoiser(-1.0, 0.5), noise, 200)
    assert latent.mean().item() == pytest.approx(-1.0, abs=0.02)
    assert latent.std().item() == pytest.approx(0.5, abs=0.02)


def test_a_dream_leaves_nothing_in_the_scheduler_and_reads_nothing_from_it() -> None:
    denoiser, noise, scheduler = GaussianDenoiser(0.2, 0.5), torch.randn(2, 32, 16, 16), flow_scheduler()
    fresh = dream(denoiser, noise, 3)
    scheduler.set_timesteps(7)
    used = sample(denoiser, scheduler, noise, HISTORY, ACTIONS, 0.1, 3)
    assert torch.equal(fresh, used)
    assert len(scheduler.timesteps) == 7 and scheduler.step_index is None


def test_the_worlds_own_shift_decides() -> None:
    denoiser, noise = GaussianDenoiser(0.2, 0.5), torch.randn(2, 32, 16, 16)
    even = sample(denoiser, flow_scheduler(shift=1.0), noise, HISTORY, ACTIONS, 0.1, 2)
    assert not torch.allclose(even, dream(denoiser, noise, 2))


def test_gradients_reach_the_denoiser_through_every_step() -> None:
    denoiser = GaussianDenoiser(0.2, 0.5)
    dream(denoiser, torch.randn(2, 32, 16, 16), 2).mean().backward()
    assert denoiser.mean.grad is not None and denoiser.mean.grad.abs() > 0


def test_less_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="num_inference_steps is 0; expected at least 1"):
        dream(GaussianDenoiser(0.0, 1.0), torch.randn(2, 32, 16, 16), 0)

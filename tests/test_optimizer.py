"""Muon for matrices, AdamW for the rest, as one optimizer."""

import torch
from torch import nn

from training.optimizer import MatrixOptimizer, Muon


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 8, 3, padding=1))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def descend(model: nn.Module, optimizer: MatrixOptimizer, steps: int, seed: int = 1) -> list[float]:
    """Learn to turn a picture over."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        x = torch.randn(8, 8, 6, 6, generator=generator)
        loss = (model(x) - x.flip(1)).square().mean()
        loss.backward()
        optimizer.step(0.02)
        losses.append(loss.item())
    return losses


def test_kernels_and_biases_learn_and_gradients_are_forgotten() -> None:
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = descend(model, MatrixOptimizer(model, 0.02, 0.0), 120)
    assert losses[-1] < 0.4 * losses[0]
    for name, p in model.named_parameters():
        assert not torch.equal(p, before[name]) and p.grad is None


def test_what_a_kernel_moves_by_has_no_preferred_direction() -> None:
    """The first step of Muon is the gradient with all its singular values near one, times a common factor."""
    model = network()
    before = model[0].weight.detach().clone()  # type: ignore[index]
    descend(model, MatrixOptimizer(model, 0.02, 0.0), 1)
    moved = (model[0].weight.detach() - before).flatten(1)  # type: ignore[index]
    values = torch.linalg.svdvals(moved)
    assert values.max() / values.min() < 2.5
    torch.testing.assert_close(moved.square().mean().sqrt(), torch.tensor(0.02 * 0.2), rtol=0.3, atol=0)


def test_a_frozen_part_stays() -> None:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[index]
    before = model[0].weight.detach().clone()  # type: ignore[index]
    descend(model, MatrixOptimizer(model, 0.02, 0.1), 3)
    assert torch.equal(model[0].weight, before)  # type: ignore[index]


def test_it_goes_on_from_what_it_remembered() -> None:
    whole, halved = network(), network()
    descend(whole, MatrixOptimizer(whole, 0.02, 0.1), 3)
    optimizer = MatrixOptimizer(whole, 0.02, 0.1)
    descend(whole, optimizer, 3)
    halved.load_state_dict(whole.state_dict())
    kept = {name: value.clone() for name, value in optimizer.tensors().items()}
    expected = descend(whole, optimizer, 3, seed=2)
    fresh = MatrixOptimizer(halved, 0.02, 0.1)
    fresh.load(kept)
    assert descend(halved, fresh, 3, seed=2) == expected


def test_a_matrix_moves_as_torchs_own_muon_moves_it() -> None:
    """Up to the rounding of torch's bfloat16, which is far from what a step moves."""
    torch.manual_seed(0)
    for shape in ((12, 40), (40, 12)):
        start = torch.randn(shape)
        ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        own, known = Muon([ours], 0.01, 0.1), torch.optim.Muon([theirs], 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
        for _ in range(5):
            ours.grad = torch.randn(shape)
            theirs.grad = ours.grad.clone()
            own.step()
            known.step()
        assert (ours - theirs).abs().max() < 0.03 * (ours - start).abs().max()

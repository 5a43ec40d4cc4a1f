"""The outcome model: what it looks at, what it must not look at, and that it can learn a pellet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from neural_pacman.actions import one_hot
from neural_pacman.outcome import OUTCOMES, OutcomeModel


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """A folded history, one-hot actions and a next latent, all random."""
    random = torch.Generator().manual_seed(0)
    history = torch.randn(batch, 1024, 16, 16, generator=random)
    actions = one_hot(torch.randint(5, (batch, 32), generator=random))
    return history, actions, torch.randn(batch, 32, 16, 16, generator=random)


@pytest.mark.parametrize("size", OUTCOMES)
def test_every_size_is_small_and_answers_for_each_of_the_batch(size: str) -> None:
    model = OutcomeModel(points=[0, 10, 100], **OUTCOMES[size]).eval()
    logits = model(*inputs(batch=3))
    assert logits.points.shape == (3, 3) and logits.life_lost.shape == (3,) and logits.end.shape == (3,)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 250_000


def test_the_end_never_depends_on_the_frame_after_it() -> None:
    model = OutcomeModel(**OUTCOMES["tiny"]).eval()
    history, actions, next_latent = inputs()
    seen, other = model(history, actions, next_latent), model(history, actions, next_latent + 1)
    assert torch.equal(seen.end, other.end)
    assert not torch.allclose(seen.points, other.points) and not torch.allclose(seen.life_lost, other.life_lost)


def test_the_newest_frame_and_action_matter_and_old_ones_do_not() -> None:
    model = OutcomeModel(**OUTCOMES["tiny"]).eval()
    history, actions, next_latent = inputs()
    before = model(history, actions, next_latent)
    older, newer, steered = history.clone(), history.clone(), actions.clone()
    older[:, : 28 * 32] += 1
    newer[:, 31 * 32 :] += 1
    steered[:, -1] = steered[:, -1].roll(1, dims=-1)
    assert all(torch.equal(a, b) for a, b in zip(before, model(older, actions, next_latent), strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(before, model(newer, actions, next_latent), strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(before, model(history, steered, next_latent), strict=True))


@pytest.mark.parametrize(
    ("caught", "last_life", "cleared", "ends"),
    [(9, 9, -9, True), (9, -9, -9, False), (-9, 9, -9, False), (-9, -9, 9, True), (90, 90, 90, True)],
)
def test_an_episode_ends_when_pacman_is_caught_in_his_last_life_or_the_maze_is_cleared(
    caught: float, last_life: float, cleared: float, ends: bool
) -> None:
    model = OutcomeModel(**OUTCOMES["tiny"])
    torch.nn.init.zeros_(model.ending.head.weight)
    model.ending.head.bias.data = torch.tensor([caught, last_life, cleared], dtype=torch.float32)
    logits = model(*inputs())
    assert torch.equal(logits.caught, torch.full((2,), float(caught)))
    assert logits.end.isfinite().all() and ((logits.end > 5) if ends else (logits.end < -5)).all()
    logits.end.sum().backward()
    assert model.ending.head.bias.grad.isfinite().all()


def test_an_untrained_model_does_not_end_every_dream() -> None:
    logits = OutcomeModel(**OUTCOMES["tiny"]).eval()(*inputs(batch=8))
    assert (logits.end < 0).all() and (logits.life_lost < 0).all()


def test_it_learns_that_a_pellet_vanishing_in_one_cell_is_worth_ten() -> None:
    torch.manual_seed(0)
    model = OutcomeModel(points=[0, 10], **OUTCOMES["tiny"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    random = torch.Generator().manual_seed(1)

    def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        actions = one_hot(torch.randint(5, (16, 32), generator=random))
        newest = 0.3 * torch.randn(16, 32, 16, 16, generator=random)
        history = torch.cat([torch.zeros(16, 31 * 32, 16, 16), newest], dim=1)
        eaten = torch.rand(16, generator=random) < 0.5
        next_latent = newest.clone()
        for row, (y, x) in enumerate(torch.randint(16, (16, 2), generator=random).tolist()):
            next_latent[row, :4, y, x] -= 2.0 * eaten[row]
        return history, actions, next_latent, eaten.long()

    for _ in range(60):
        *seen, eaten = batch()
        loss = torch.nn.functional.cross_entropy(model(*seen).points, eaten)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = [(model(*seen).points.argmax(-1) == eaten).float().mean() for *seen, eaten in (batch() for _ in range(8))]
    assert torch.stack(right).mean() > 0.95


def test_it_is_an_ordinary_diffusers_folder(tmp_path: Path) -> None:
    model = OutcomeModel(points=[0, 10, 200], **OUTCOMES["tiny"]).eval()
    model.save_pretrained(tmp_path)
    again = OutcomeModel.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    assert list(again.config.points) == [0, 10, 200]
    assert all(torch.equal(a, b) for a, b in zip(model(*inputs()), again(*inputs()), strict=True))


@pytest.mark.parametrize("points", [[10, 0], [0, 10, 10], [10, 20]])
def test_points_that_are_not_classes_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        OutcomeModel(points=points)

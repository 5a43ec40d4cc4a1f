"""The five actions, and what is not one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neural_pacman.actions import ACTION_ORDER, NUM_ACTIONS, Action, one_hot


def test_the_order_is_the_public_datasets() -> None:
    assert ACTION_ORDER == ("LEFT", "RIGHT", "UP", "DOWN", "NO_ACTION")
    assert [int(action) for action in Action] == list(range(NUM_ACTIONS))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_one_hot_marks_each_action(kind) -> None:  # type: ignore[no-untyped-def]
    encoded = one_hot(kind([[0, 4], [2, 1]]))
    assert encoded.shape == (2, 2, NUM_ACTIONS) and encoded.dtype == torch.float32
    assert encoded.argmax(-1).tolist() == [[0, 4], [2, 1]] and encoded.sum() == 4


@pytest.mark.parametrize("action", [-1, 5])
def test_an_action_outside_is_named(action: int) -> None:
    with pytest.raises(ValueError, match=rf"Action {action} is outside 0 to 4; expected one of 0=LEFT.*4=NO_ACTION"):
        one_hot(np.array([0, action]))


def test_actions_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match="expected integers"):
        one_hot(np.array([0.0, 1.0]))

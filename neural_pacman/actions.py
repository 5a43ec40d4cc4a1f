"""The five actions and their order, which every dataset, world and environment shares."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class Action(IntEnum):
    """What a player can do in one step. NO_ACTION keeps Pac-Man's direction."""

    LEFT = 0
    RIGHT = 1
    UP = 2
    DOWN = 3
    NO_ACTION = 4


NUM_ACTIONS = len(Action)
ACTION_ORDER = tuple(action.name for action in Action)


def check_actions(actions: np.ndarray | Tensor) -> None:
    """Raise ValueError unless every entry is a whole number of an `Action`, 0 to 4."""
    kind = actions.dtype
    whole = np.issubdtype(kind, np.integer) if isinstance(kind, np.dtype) else not kind.is_floating_point
    if not whole:
        raise ValueError(
            f"Actions have dtype {kind}; expected integers 0 to {NUM_ACTIONS - 1} ({', '.join(ACTION_ORDER)})."
        )
    outside = actions[(actions < 0) | (actions >= NUM_ACTIONS)]
    if len(outside):
        raise ValueError(
            f"Action {int(outside[0])} is outside 0 to {NUM_ACTIONS - 1}; expected one of "
            f"{', '.join(f'{a.value}={a.name}' for a in Action)}."
        )


def one_hot(actions: np.ndarray | Tensor) -> Tensor:
    """Integer actions of any shape `[...]` as float32 one-hot `[..., 5]`; ValueError outside 0 to 4."""
    import torch  # takes seconds, and a window that only wants the names is to open at once

    check_actions(actions)
    return torch.nn.functional.one_hot(torch.as_tensor(actions).long(), NUM_ACTIONS).float()

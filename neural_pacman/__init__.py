"""A neural network that is Pac-Man, as a Gymnasium environment: `gymnasium.make("neural_pacman:NeuralPacman-v0")`.

Importing this package registers the environment and nothing more; PyTorch is loaded when a public name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

if TYPE_CHECKING:
    from neural_pacman.actions import Action
    from neural_pacman.engine import DreamEngine
    from neural_pacman.env import DreamState, NeuralPacmanEnv
    from neural_pacman.episodes import DatasetFormat, read_episodes
    from neural_pacman.reward_function import RewardFunction, VectorRewardFunction
    from neural_pacman.seeds import Seeds
    from neural_pacman.vector_env import NeuralPacmanVectorEnv
    from neural_pacman.world import WorldModel, known_worlds

__all__ = [
    "Action",
    "DatasetFormat",
    "DreamEngine",
    "DreamState",
    "NeuralPacmanEnv",
    "NeuralPacmanVectorEnv",
    "RewardFunction",
    "Seeds",
    "VectorRewardFunction",
    "WorldModel",
    "known_worlds",
    "read_episodes",
]

_HOMES = {
    "Action": "actions",
    "DatasetFormat": "episodes",
    "DreamEngine": "engine",
    "DreamState": "dreams",
    "NeuralPacmanEnv": "env",
    "NeuralPacmanVectorEnv": "vector_env",
    "RewardFunction": "reward_function",
    "Seeds": "seeds",
    "VectorRewardFunction": "reward_function",
    "WorldModel": "world",
    "known_worlds": "world",
    "read_episodes": "episodes",
}
"""The module each public name lives in."""

register(
    id="NeuralPacman-v0",
    entry_point="neural_pacman.env:NeuralPacmanEnv",
    vector_entry_point="neural_pacman.vector_env:NeuralPacmanVectorEnv",
    max_episode_steps=1000,
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

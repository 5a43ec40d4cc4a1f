"""RewardFunction: a reward of your own, on what was seen, what was done and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, SupportsFloat, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.vector_env import NeuralPacmanVectorEnv

History: TypeAlias = tuple[np.ndarray, ...]
Function: TypeAlias = Callable[[History, int, np.ndarray], SupportsFloat]


class RewardFunction(gym.Wrapper[np.ndarray, Any, np.ndarray, Any], RecordConstructorArgs):
    """Replaces the reward by `fn(history, action, next_observation)`.

    - `history`: the 32 observations before the step, oldest first, as the environment gives them. The last one is what
      the action was chosen on; those before the dream began are the recording's.
    - `action`: what was done, a Python integer.
    - `next_observation`: what the step led to.

    All of them are read-only, and none is copied for the call (`np.stack(history)` makes one array of them). `fn`
    returns one finite number. The game's points stay in `info["points"]`.

    ```python
    env = neural_pacman.RewardFunction(env, lambda history, action, seen: (seen != history[-1]).mean())
    ```

    It goes around the environment before wrappers that change observations or skip steps. `reset`, `set_state` and
    whatever else moves the dream elsewhere gives it the history there, which decodes 32 frames unless observations are
    latents. `env.spec` holds the function, so that `gymnasium.make(env.spec)` works and `to_json` cannot.

    Raises TypeError when `env` is not `NeuralPacmanEnv` below its wrappers or `fn` cannot be called, ValueError when a
    wrapper in between changes the observation space; and ValueError from `step` when `fn` returns anything else.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any], fn: Function) -> None:
        _check(env, fn, NeuralPacmanEnv, "VectorRewardFunction", NeuralPacmanVectorEnv)
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, fn=fn)
        gym.Wrapper.__init__(self, env)
        self.fn = fn
        self._history: History = ()
        self._newest: object = None

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of the environment, with the reward that `fn` gives."""
        dream: Any = self.unwrapped
        history = self._history if dream.latent is self._newest else dream.history()
        observation, _, terminated, truncated, info = self.env.step(action)
        arrived = _kept(observation)
        reward = _number(self.fn(history, int(action), arrived))
        self._history, self._newest = (*history[1:], arrived), dream.latent
        return observation, reward, terminated, truncated, info

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_history": (), "_newest": None}  # a copy asks its own dream


class VectorRewardFunction(VectorWrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """`RewardFunction` for `NeuralPacmanVectorEnv`: the same `fn`, called for one dream after the other.

    Where a dream ends, `next_observation` is its last one (`infos["final_obs"]`), and its history begins anew with the
    next dream. Each beginning decodes 32 frames unless observations are latents.

    As with every vector wrapper, `spec` remains that of the environment inside; so does what `branch` returns. Raises
    what `RewardFunction` raises.
    """

    def __init__(self, env: VectorEnv[np.ndarray, np.ndarray, np.ndarray], fn: Function) -> None:
        _check(env, fn, NeuralPacmanVectorEnv, "RewardFunction", NeuralPacmanEnv)
        super().__init__(env)
        self.fn = fn
        self._histories: list[History] = []
        self._newest: object = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """As the environment's own, with `reset_mask` too: the other dreams keep their histories."""
        dreams: Any = self.unwrapped
        mask = None if options is None else options.get("reset_mask")
        known = self._newest is not None and dreams.latent is self._newest
        result = self.env.reset(seed=seed, options=options)
        if known and mask is not None:
            for dream in np.flatnonzero(mask):
                self._histories[dream] = dreams.history(dream)
            self._newest = dreams.latent
        return result

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all dreams, with the rewards that `fn` gives, float64 `[num_envs]`."""
        dreams: Any = self.unwrapped
        if dreams.latent is not self._newest:
            self._histories = [dreams.history(dream) for dream in range(self.num_envs)]
        observations, _, terminations, truncations, infos = self.env.step(actions)
        last = infos.get("final_obs", [None] * self.num_envs)
        rewards = np.empty(self.num_envs)
        for dream, (action, newest) in enumerate(zip(actions, _kept(observations), strict=True)):
            arrived = newest if last[dream] is None else _kept(last[dream])
            history = self._histories[dream]
            rewards[dream] = _number(self.fn(history, int(action), arrived))
            self._histories[dream] = (*history[1:], arrived) if last[dream] is None else dreams.history(dream)
        self._newest = dreams.latent
        return observations, rewards, terminations, truncations, infos

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_histories": [], "_newest": None}


def _check(env: Any, fn: object, expected: type[Any], twin: str, twins: type[Any]) -> None:
    base: Any = getattr(env, "unwrapped", env)
    if not isinstance(base, expected):
        hint = f"; {twin} is for that one" if isinstance(base, twins) else ""
        raise TypeError(f"The environment is a {type(base).__name__}; expected a {expected.__name__}{hint}.")
    if env.observation_space != base.observation_space:
        raise ValueError(
            f"The wrappers of {env} change its observations, of which the history would know nothing; put the reward "
            "function inside them, right around the environment."
        )
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; expected a function of history, action and next observation.")


def _kept(observations: np.ndarray) -> np.ndarray:
    """A read-only copy, because what `step` returned belongs to the caller, who may write to it."""
    copy = observations.copy()
    copy.flags.writeable = False
    return copy


def _number(value: Any) -> float:
    try:
        number = float(value) if np.ndim(value) == 0 and not isinstance(value, str) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"The reward function returned {value!r}; expected one finite number.")
    return number


__all__ = ["RewardFunction", "VectorRewardFunction"]

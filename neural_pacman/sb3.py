"""DreamVecEnv: the batched dream as Stable-Baselines3's VecEnv."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from inspect import signature
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'Dreams for Stable-Baselines3 need it: pip install "neural-pacman[sb3]"', name=missing.name
    ) from missing

ONE_DREAMS = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
"""Attributes that a single environment has under another name than the batch has for one of its dreams."""

EACH_DREAMS = ("np_random", "np_random_seed")
"""Attributes of which the batch has one for each dream."""


class DreamVecEnv(VecEnv):
    """Many dreams in one forward pass a step, for the algorithms and `Vec...` wrappers of Stable-Baselines3.

    ```python
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor
    from neural_pacman.sb3 import DreamVecEnv

    dreams = gymnasium.make_vec("neural_pacman:NeuralPacman-v0", num_envs=8, obs_size=84, reward="clipped")
    agent = PPO("CnnPolicy", VecFrameStack(VecMonitor(DreamVecEnv(dreams)), 4))
    ```

    As SB3's own vector environments do, `step` begins a dream anew in the step in which it ends. The information of
    that step is the ended dream's, with its last observation as `terminal_observation`; `reset_infos` says where the
    new one began. `TimeLimit.truncated` tells a dream that was cut off from one that ended. Rewards are float32.

    Seeds (`seed`) and options (`set_options`: one dict for all dreams, or a list with one for each) are those of
    `NeuralPacmanVectorEnv.reset` and hold for the next `reset` only.

    The dreams are one object, which sets what can be asked of a single one:

    - `get_attr` gives each dream's own `np_random` and `np_random_seed`, its `observation_space` and `action_space`,
      and for everything else what the batch has, the same for each.
    - `set_attr` sets an attribute for all of them together, not for some.
    - `env_method` calls what takes the number of a dream (`history`, `branch`) for each of the indices, gives each
      dream's picture from `render` and its state from `get_state`; another method is called once, for all of them.
    - `env_is_wrapped` says no: wrappers go around the `VecEnv`.

    Args:
        dreams: what is stepped, a `NeuralPacmanVectorEnv` or what `gymnasium.make_vec` makes.

    Raises TypeError for what is no vector environment, ValueError for one that does not begin anew in the step of an
    end.
    """

    def __init__(self, dreams: VectorEnv) -> None:
        if not isinstance(dreams, VectorEnv):
            raise TypeError(
                f"Given a {type(dreams).__name__}; expected a vector environment, as gymnasium.make_vec makes."
            )
        mode = dreams.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"{dreams} has autoreset mode {mode}; expected {AutoresetMode.SAME_STEP}.")
        self.dreams = dreams
        """The batch that is stepped."""
        super().__init__(dreams.num_envs, dreams.single_observation_space, dreams.single_action_space)
        self.metadata = dict(dreams.metadata)
        self._actions: np.ndarray | None = None
        self._begun = False

    @property
    def spec(self) -> EnvSpec | None:
        """What the dreams were registered as; None when they were made without `gymnasium.make_vec`."""
        return self.dreams.spec

    def reset(self) -> np.ndarray:
        """Begin all dreams anew, with the seeds and options that were set; returns their first observations."""
        if len(self._options) != self.num_envs:
            raise ValueError(f"Given options for {len(self._options)} dreams; expected {self.num_envs}, or one dict.")
        seeds = [None if seed is None else int(seed) for seed in self._seeds]
        for options, mask in self._shared_options():
            # The batch takes one set of options at a time; at first it can only begin as a whole.
            some = {} if mask.all() or not self._begun else {"reset_mask": mask}
            observations, infos = self.dreams.reset(seed=seeds, options=options | some)  # type: ignore[arg-type]
            self._begun = True
            for dream in np.flatnonzero(mask).tolist():
                self.reset_infos[dream] = _info(infos, dream)
        self._reset_seeds()
        self._reset_options()
        return observations

    def _shared_options(self) -> list[tuple[dict[str, Any], np.ndarray]]:
        """The options of the next reset, each with the mask of the dreams that they are for."""
        # By identity: options hold arrays, and one dict for all dreams stays one.
        groups = {id(options or None): options or {} for options in self._options}
        return [
            (options, np.array([id(own or None) == key for own in self._options])) for key, options in groups.items()
        ]

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions, one a dream; `step_wait` dreams the step."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Dream one step on: observations, rewards, ends, and a dict of plain values for each dream."""
        assert self._actions is not None, "step_wait() goes with a step_async()"
        observations, rewards, terminations, truncations, batch = self.dreams.step(self._actions)
        dones = terminations | truncations
        infos = [_info(batch, dream) for dream in range(self.num_envs)]
        for dream, info in enumerate(infos):
            if dones[dream]:
                # A copy, since nothing says that the batch keeps no view of it.
                last = {**info.pop("final_info"), "terminal_observation": info.pop("final_obs").copy()}
                self.reset_infos[dream], infos[dream] = info, last
            infos[dream]["TimeLimit.truncated"] = bool(truncations[dream] and not terminations[dream])
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the dreams. Closing twice does nothing."""
        self.dreams.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Each dream's newest frame, uint8 `[512, 512, 3]`; None, and a warning, unless render_mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"The render mode is {self.render_mode}; pictures need 'rgb_array'.", stacklevel=2)
            return [None] * self.num_envs
        return self.env_method("render")

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute for each of the indices (see the class); AttributeError when the batch has none of that name."""
        value = getattr(self.dreams, ONE_DREAMS.get(attr_name, attr_name))
        return [value[dream] if attr_name in EACH_DREAMS else value for dream in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all dreams; ValueError when asked for some of them, or for what each has of its own."""
        if attr_name in (*ONE_DREAMS, *EACH_DREAMS):
            raise ValueError(f"{attr_name} cannot be set: make the dreams anew, or use seed().")
        self._check_all(attr_name, indices)
        setattr(self.dreams, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method for each of the indices (see the class); ValueError when it acts on all and these are some."""
        method = getattr(self.dreams, method_name)
        chosen = list(self._get_indices(indices))
        if "dream" in signature(method).parameters:
            return [method(*method_args, dream=dream, **method_kwargs) for dream in chosen]
        if method_name not in ("render", "get_state"):
            self._check_all(f"{method_name}()", indices)
        result = method(*method_args, **method_kwargs)
        if method_name == "get_state":
            return [result.take([dream]) for dream in chosen]
        return [result[dream] if method_name == "render" and result is not None else result for dream in chosen]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether each of the indices is wrapped in this class: never."""
        return [False for _ in self._get_indices(indices)]

    def _check_all(self, what: str, indices: VecEnvIndices) -> None:
        given = list(self._get_indices(indices))
        if set(given) != set(range(self.num_envs)):
            raise ValueError(f"{what} is shared by all {self.num_envs} dreams; given the indices {given} of some.")


def _info(batch: dict[str, Any], dream: int) -> dict[str, Any]:
    """One dream's information out of the batch's arrays and masks, as plain Python values."""
    info = {}
    for name, values in batch.items():
        if not name.startswith("_") and batch[f"_{name}"][dream]:
            value = _info(values, dream) if isinstance(values, dict) else values[dream]
            info[name] = value.item() if isinstance(value, np.generic) else value
    return info


__all__ = ["DreamVecEnv"]

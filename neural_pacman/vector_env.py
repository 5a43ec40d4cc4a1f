"""NeuralPacmanVectorEnv: many dreams in one forward pass, as a Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from neural_pacman.dreams import DreamHolder, Dreams, DreamState, action_names, warn_of_no_render_mode
from neural_pacman.frames import FRAME_SIZE

if TYPE_CHECKING:
    pass


class NeuralPacmanVectorEnv(DreamHolder, VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many dreams of Pac-Man, each as in `NeuralPacmanEnv`, in one pass of the networks a step.

    `gymnasium.make_vec("neural_pacman:NeuralPacman-v0", num_envs=8)` builds this. Actions, observations, rewards, ends
    and the values in `info` are those of the single environment, in arrays with one row a dream; every array returned
    is new. One step from the same state and noise, a dream here and a single one agree within 1e-4 in latents: the last
    bits of a network's sums depend on the batch size, and a long dream, which feeds on itself, makes more of them.

    ## Autoreset

    `AutoresetMode.SAME_STEP`: a dream that ends, or is truncated after `max_episode_steps` steps, begins anew within
    the same `step`. The observation returned is then the new dream's first, and
    `infos["final_obs"][i]` is the old one's last, where `infos["_final_obs"][i]` says so; `infos["final_info"]` holds
    its information. In human mode the window shows all dreams side by side.

    ## Arguments

    - `num_envs` (1): dreams.
    - `max_episode_steps` (None): steps after which a dream is truncated; None for never. `make_vec` gives 1000.
    - the others are those of `NeuralPacmanEnv`.

    Raises what `NeuralPacmanEnv` raises, and ValueError when `num_envs` or `max_episode_steps` is below 1.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["human", "rgb_array"],
        "render_fps": 15,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        world: str = "pacman",
        dataset: str | None = None,
        render_mode: Literal["human", "rgb_array"] | None = None,
        obs_type: Literal["rgb", "latent"] = "rgb",
        obs_size: int = FRAME_SIZE,
        reward: Literal["points", "clipped"] = "points",
        num_inference_steps: int | None = None,
        device: str = "auto",
        compile: bool = False,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected 1 or more.")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; expected 1 or more, or None for no limit.")
        self._dreams = Dreams(
            num_envs,
            world=world,
            dataset=dataset,
            render_mode=render_mode,
            obs_type=obs_type,
            obs_size=obs_size,
            reward=reward,
            num_inference_steps=num_inference_steps,
            device=device,
            compile=compile,
        )
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.single_observation_space = self._dreams.observation_space
        self.single_action_space = self._dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._np_randoms = [seeding.np_random() for _ in range(num_envs)]

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators that pick each dream's histories and seed its noise."""
        return tuple(random for random, _ in self._np_randoms)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What each of them was seeded with; -1 after `set_state`, when that is not known."""
        return tuple(seed for _, seed in self._np_randoms)

    def reset(
        self,
        *,
        seed: int | np.integer | Sequence[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all dreams anew, or some of them.

        Args:
            seed: a number, for seeds counting up from it; or one a dream, where None leaves its generator as it is.
            options: those of `NeuralPacmanEnv`, the same for every dream; and `reset_mask`, bool `[num_envs]`: the
                dreams to begin anew, while the others stay where they are.

        Returns the observations of all dreams, and the information of those begun, each array with its mask.
        Raises TypeError and ValueError for a seed, mask or option of another kind or range.
        """
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        begun = np.flatnonzero(mask)
        randoms = list(self._np_randoms)
        for dream, number in zip(begun, self._seed_list(seed)[mask], strict=True):
            if number is not None:
                randoms[dream] = seeding.np_random(number)
        self._begin(begun, [randoms[dream][0] for dream in begun], options)
        self._np_randoms = randoms  # now that nothing has been refused
        self._show()
        return self._dreams.observe(), self._infos(mask)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream all dreams one step on; those that end begin anew at once.

        Raises ResetNeeded before the first `reset`, ValueError for other than `num_envs` actions in the space.
        """
        self._dreams.check_dreaming("step()")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(
                f"The actions are {actions.dtype} {list(actions.shape)}; expected integers [{self.num_envs}], one a "
                f"dream ({action_names()})."
            )
        rewards, terminations = self._dreams.step(actions)
        limit = self.max_episode_steps
        truncations = np.zeros(self.num_envs, dtype=np.bool_) if limit is None else self._dreams.steps >= limit
        infos: dict[str, Any] = {}
        observations = self._dreams.observe()
        ended = terminations | truncations
        if ended.any():
            final = np.full(self.num_envs, None, dtype=object)
            for dream in np.flatnonzero(ended):
                final[dream] = observations[dream].copy()
            infos = {
                "final_obs": final,
                "_final_obs": ended,
                "final_info": self._infos(ended),
                "_final_info": ended.copy(),
            }
            over = np.flatnonzero(ended)
            self._begin(over, [self._np_randoms[dream][0] for dream in over], {})
            observations = self._dreams.observe()
        self._show()
        return observations, rewards, terminations, truncations, infos | self._infos(np.ones_like(ended))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The newest frames, a tuple of uint8 `[512, 512, 3]`, or None after showing them, as `render_mode` says."""
        self._dreams.check_dreaming("render()")
        if self.render_mode == "rgb_array":
            return tuple(self._dreams.frames().copy())
        if self.render_mode is None:
            warn_of_no_render_mode()
        self._show()
        return None

    def get_state(self) -> DreamState:
        """All dreams as they stand, to come back to; `take([i])` of it is a single dream's.

        Raises ResetNeeded before the first `reset`.
        """
        return self._dreams.get_state(self.np_random)

    def set_state(self, state: DreamState) -> None:
        """Go back, or over, to a saved state of as many dreams of the same world; before `reset` too.

        Raises TypeError when it is no such state, ValueError when it has another version or number of dreams or is of
        another world.
        """
        randoms = [np.random.Generator(np.random.PCG64()) for _ in range(self.num_envs)]
        self._dreams.set_state(state, randoms)
        self._np_randoms = [(random, -1) for random in randoms]

    def branch(self, n: int, dream: int = 0, seed: int | None = None) -> NeuralPacmanVectorEnv:
        """One of the dreams continued `n` ways in one batch; it goes on here as if nothing had happened.

        Without a `seed` the copies have the same noise to come, and so are bit-identical until their actions differ.
        With one each has its own. Raises ResetNeeded before the first `reset`, ValueError when `n` is below 1,
        IndexError when there is no such dream.
        """
        state = self.get_state().branch(n, dream, seed)
        branches = NeuralPacmanVectorEnv(n, self.max_episode_steps, **self._dreams.arguments)
        branches.set_state(state)
        return branches

    def history(self, dream: int = 0) -> tuple[np.ndarray, ...]:
        """The last 32 observations of one dream, as `NeuralPacmanEnv.history` gives them."""
        return self._dreams.history(dream)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if there is one."""
        self._close_window()

    def _begin(self, dreams: np.ndarray, np_random: list[np.random.Generator], options: dict[str, Any]) -> None:
        everyone = len(dreams) == self.num_envs
        self._dreams.begin(np_random, options, None if everyone else dreams.tolist())

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """The information of the dreams in the mask, zero for the others, and for each array the mask."""
        infos: dict[str, Any] = {}
        for name, values in self._dreams.progress().items():
            infos[name] = np.where(mask, values, np.zeros_like(values))
            infos[f"_{name}"] = mask.copy()
        return infos

    def _mask(self, mask: object) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            given = f"an array of {mask.dtype}" if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}"
            raise TypeError(f"The option reset_mask is {given}; expected a NumPy array of bool [{self.num_envs}].")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"The option reset_mask has shape {list(mask.shape)} and {int(mask.sum())} dreams to begin anew; "
                f"expected [{self.num_envs}] and at least one."
            )
        return mask

    def _seed_list(self, seed: int | np.integer | Sequence[int | None] | np.ndarray | None) -> np.ndarray:
        """A seed or None for each dream, as an array of objects."""
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + dream for dream in range(self.num_envs)]
        elif isinstance(seed, Sequence | np.ndarray) and all(isinstance(s, int | np.integer | None) for s in seed):
            seeds = [None if s is None else int(s) for s in seed]
        else:
            raise TypeError(f"The seed is {seed!r}; expected a whole number, None, or a list of those, one a dream.")
        if any(s is not None and s < 0 for s in seeds):
            raise ValueError(f"The seed is {seed!r}; expected numbers from 0 on.")
        if len(seeds) != self.num_envs:
            raise ValueError(f"Given {len(seeds)} seeds for {self.num_envs} dreams; expected one each.")
        return np.array(seeds, dtype=object)


__all__ = ["NeuralPacmanVectorEnv"]

"""Dreams: a batch of dreams as an environment shows them, which is what the single and the batched one share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from torch import Tensor

from neural_pacman.actions import ACTION_ORDER, NUM_ACTIONS, check_actions
from neural_pacman.engine import LATENT_SHAPE, DreamEngine, EngineState, shared_world
from neural_pacman.episodes import HISTORY
from neural_pacman.frames import FRAME_SIZE, prepare
from neural_pacman.seeds import Seeds, encode_history
from neural_pacman.world import WorldModel

if TYPE_CHECKING:
    from neural_pacman.renderer import Renderer

LATENT_BOUND = 16.0
"""Latent observations are clipped to this; scaled latents have about unit deviation, so it only bounds the space."""

STATE_VERSION = 2
"""Counts up when a saved state's meaning changes; a state of another version is refused."""

RENDER_MODES = ("human", "rgb_array")
RESET_OPTIONS = ("seed_index", "frames", "actions")
OWN_FRAMES = -1
"""What `info` gives as episode and row of a dream that began from the caller's own frames."""

NO_PROGRESS: dict[str, int | float | bool] = {
    "seed_episode": OWN_FRAMES,
    "seed_row": OWN_FRAMES,
    "step": 0,
    "points": 0.0,
    "life_lost": False,
}
"""What `info` holds, as a dream begins. The name `episode` is taken: by Gymnasium's and SB3's statistics."""


Start: TypeAlias = tuple[Tensor, Tensor, Tensor, int, int]
"""A history to begin from: latents `[32, 32, 16, 16]`, actions `[31]`, what is known before its newest frame `[M]`, and
the episode and row it is of."""


@dataclass(frozen=True, eq=False)
class DreamState:
    """Dreams to come back to: what `get_state` of an environment returns. It can be pickled.

    Attributes:
        version: `STATE_VERSION` of the code that saved it.
        engine: the histories, and the noise to come, of `B` dreams.
        np_random: `B` states of the generators that pick the dreams after these.
        progress: arrays `[B]` of what `info` said: where each dream began, how far it has come.
    """

    version: int
    engine: EngineState
    np_random: tuple[Mapping[str, Any], ...]
    progress: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """The number of dreams."""
        return len(self.np_random)

    def take(self, dreams: Sequence[int]) -> DreamState:
        """These of the dreams, by index, as a state of their own; an index may come twice. IndexError outside."""
        chosen = list(dreams)
        return DreamState(
            self.version,
            self.engine.take(chosen),
            tuple(self.np_random[dream] for dream in chosen),
            {name: values[chosen] for name, values in self.progress.items()},
        )

    def branch(self, n: int, dream: int = 0, seed: int | None = None) -> DreamState:
        """One of the dreams `n` times.

        Without a `seed` all copies have the same noise to come, so the same actions lead them to the same frames. With
        one they part: copy `i` gets the noise that `reset(seed=seed + i)` would have given it.
        ValueError when `n` is below 1 or `seed` below 0, IndexError when there is no such dream.
        """
        if n < 1:
            raise ValueError(f"n is {n}; expected 1 copy or more.")
        copies = self.take([dream] * n)
        if seed is None:
            return copies
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected 0 or more.")
        randoms = [seeding.np_random(int(seed) + i)[0] for i in range(n)]
        noises = tuple(_noise(random).get_state() for random in randoms)
        return replace(
            copies,
            engine=replace(copies.engine, generators=noises),
            np_random=tuple(random.bit_generator.state for random in randoms),
        )


class Dreams:
    """`num_dreams` dreams of one world: where they begin, what is seen of them, how far they have come.

    The other arguments are those of `NeuralPacmanEnv`, and so are the errors. A pickled or copied object goes on with
    the same dreams; the generators that pick the next ones belong to the environments.
    """

    def __init__(
        self,
        num_dreams: int,
        *,
        world: str,
        dataset: str | None,
        render_mode: str | None,
        obs_type: str,
        obs_size: int,
        reward: str,
        num_inference_steps: int | None,
        device: str,
        compile: bool,
    ) -> None:
        _check_choice("render_mode", render_mode, (None, *RENDER_MODES))
        _check_choice("obs_type", obs_type, ("rgb", "latent"))
        _check_choice("reward", reward, ("points", "clipped"))
        if not isinstance(obs_size, int) or not 1 <= obs_size <= FRAME_SIZE:
            raise ValueError(f"obs_size is {obs_size!r}; expected a whole number from 1 to {FRAME_SIZE}.")
        self.arguments: dict[str, Any] = {
            "world": world,
            "dataset": dataset,
            "render_mode": render_mode,
            "obs_type": obs_type,
            "obs_size": obs_size,
            "reward": reward,
            "num_inference_steps": num_inference_steps,
            "device": device,
            "compile": compile,
        }
        self.num_dreams = num_dreams
        self.obs_type = obs_type
        self.obs_size = obs_size
        self.reward = reward
        self.world = shared_world(world, device, compile)
        self.engine = DreamEngine(self.world, num_dreams, num_inference_steps)
        self._dataset = dataset
        self._seeds = Seeds.of(self.world, dataset) if dataset is not None else None
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        self.observation_space = (
            spaces.Box(0, 255, (obs_size, obs_size, 3), np.uint8)
            if obs_type == "rgb"
            else spaces.Box(-LATENT_BOUND, LATENT_BOUND, LATENT_SHAPE, np.float32)
        )
        self._progress = {name: np.full(num_dreams, value) for name, value in NO_PROGRESS.items()}
        self._dreaming = False
        self._frames: np.ndarray | None = None

    @property
    def num_inference_steps(self) -> int:
        """Denoising steps a frame. ValueError when set below 1."""
        chosen = self.engine.num_inference_steps
        return self.world.config.num_inference_steps if chosen is None else chosen

    @num_inference_steps.setter
    def num_inference_steps(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"num_inference_steps is {steps}; expected 1 or more.")
        self.engine.num_inference_steps = self.arguments["num_inference_steps"] = steps

    @property
    def seeds(self) -> Seeds:
        """The histories that dreams begin from.

        Raises FileNotFoundError when the world carries none and no dataset is given.
        """
        if self._seeds is None:
            self._seeds = Seeds.of(self.world, self._dataset)
        return self._seeds

    def begin(
        self, np_random: Sequence[np.random.Generator], options: Mapping[str, Any], dreams: Sequence[int] | None = None
    ) -> None:
        """Begin dreams anew: all, or only those with the indices `dreams`.

        `np_random` holds one generator for each of them, which picks its history, unless `options` do, and its noise.
        ValueError for other options than `RESET_OPTIONS`, or out of range.
        """
        if dreams is not None and len(dreams) < self.num_dreams:
            self.check_dreaming("reset() of some dreams")
        given = self._given_start(options)
        # Noise first, so that it does not depend on how the history was chosen.
        generators = [_noise(random) for random in np_random]
        starts = [given or self._start(int(random.integers(len(self.seeds)))) for random in np_random]
        *histories, episodes, rows = zip(*starts, strict=True)
        latents, actions, known = (torch.stack(parts) for parts in histories)
        self.engine.reset(latents, actions, generators, dreams, known)
        self._frames = None
        self._dreaming = True
        chosen = slice(None) if dreams is None else list(dreams)
        for name, value in (NO_PROGRESS | {"seed_episode": episodes, "seed_row": rows}).items():
            self._progress[name][chosen] = value

    def step(self, actions: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dream one step on, under one action 0 to 4 a dream. Returns rewards, float64 `[B]`, and ends, bool `[B]`.

        Raises ResetNeeded before the first `begin`, ValueError for other actions.
        """
        self.check_dreaming("step()")
        outcome = self.engine.step(actions)
        self._frames = None
        self._progress["step"] += 1
        self._progress["points"] += outcome.points
        self._progress["life_lost"][:] = outcome.life_lost
        rewards = np.clip(outcome.points, -1.0, 1.0) if self.reward == "clipped" else outcome.points
        return rewards, outcome.end

    def observe(self) -> np.ndarray:
        """The newest observations, `[B, ...]` as the observation space has them: the caller's own."""
        if self.obs_type == "latent":
            return self._latents(self.engine.latent)
        return self.frames().copy() if self.obs_size == FRAME_SIZE else self.engine.decode(self.obs_size)

    def history(self, dream: int) -> tuple[np.ndarray, ...]:
        """The last 32 observations of one dream, oldest first, read-only. Decoding 32 frames takes its time."""
        self.check_dreaming("history()")
        if self.obs_type == "latent":
            observations = self._latents(self.engine.history(dream))
        else:
            observations = self.engine.decode_history(dream, self.obs_size)
        observations.flags.writeable = False
        return tuple(observations)

    def frames(self) -> np.ndarray:
        """The newest frames, uint8 `[B, 512, 512, 3]`: ours, so copy what leaves."""
        if self._frames is None:
            self._frames = self.engine.decode()
        return self._frames

    def mosaic(self) -> np.ndarray:
        """The newest frames side by side in one picture of about 512 x 512: uint8 `[H, W, 3]`, ours."""
        if self.num_dreams == 1:
            return self.frames()[0]
        columns = math.ceil(math.sqrt(self.num_dreams))
        rows = math.ceil(self.num_dreams / columns)
        side = FRAME_SIZE // columns
        tiles = np.zeros((rows * columns, side, side, 3), np.uint8)
        tiles[: self.num_dreams] = self.engine.decode(side)
        picture = tiles.reshape(rows, columns, side, side, 3).swapaxes(1, 2)
        return picture.reshape(rows * side, columns * side, 3)

    @property
    def steps(self) -> np.ndarray:
        """How many steps each dream has come, int64 `[B]`: ours."""
        return self._progress["step"]

    def progress(self) -> dict[str, np.ndarray]:
        """What `info` holds of each dream, new arrays `[B]`."""
        return {name: values.copy() for name, values in self._progress.items()}

    def get_state(self, np_random: Sequence[np.random.Generator]) -> DreamState:
        """The dreams as they stand, with their environment's generators. ResetNeeded before the first `begin`."""
        self.check_dreaming("get_state()")
        randoms = tuple(dict(random.bit_generator.state) for random in np_random)
        return DreamState(STATE_VERSION, self.engine.get_state(), randoms, self.progress())

    def set_state(self, state: DreamState, np_random: Sequence[np.random.Generator]) -> None:
        """Go back, or over, to a saved state, and set the environment's generators as they were.

        Raises TypeError when it is no such state, ValueError for another version, world or number of dreams.
        """
        if not isinstance(state, DreamState):
            raise TypeError(f"Given a {type(state).__name__}; expected the state that get_state() returned.")
        if state.version != STATE_VERSION:
            raise ValueError(
                f"The state has version {state.version}; this neural_pacman reads version {STATE_VERSION}."
            )
        self.engine.set_state(state.engine)
        for random, saved in zip(np_random, state.np_random, strict=True):
            random.bit_generator.state = saved
        self._progress = {name: values.copy() for name, values in state.progress.items()}
        self._frames = None
        self._dreaming = True

    def check_dreaming(self, what: str) -> None:
        """ResetNeeded, naming what was called, when no dream has begun yet."""
        if not self._dreaming:
            raise ResetNeeded(f"{what} was called before reset(); call reset() to begin a dream.")

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the networks: they are loaded, or shared, where the copy wakes up.
        return _restored, (self.num_dreams, self.arguments, self.get_state(()) if self._dreaming else None)

    def _given_start(self, options: Mapping[str, Any]) -> Start | None:
        """The history that the options ask for; None when they leave the choice. ValueError for impossible ones."""
        if unknown := sorted(set(options) - set(RESET_OPTIONS)):
            raise ValueError(f"Unknown reset options {unknown}; expected some of {list(RESET_OPTIONS)}.")
        index = options.get("seed_index")
        if "frames" in options or "actions" in options:
            if "seed_index" in options:
                raise ValueError("Given both seed_index and frames; expected one place to start from.")
            return *encode_history(self.world, *_own_history(options)), OWN_FRAMES, OWN_FRAMES
        if index is None:
            return None
        if not isinstance(index, int | np.integer) or not 0 <= index < len(self.seeds):
            raise ValueError(f"seed_index is {index!r}; expected a whole number from 0 to {len(self.seeds) - 1}.")
        return self._start(int(index))

    def _start(self, index: int) -> Start:
        seed = self.seeds[index]
        return seed.latents, seed.actions, seed.known, seed.episode, seed.row

    def _latents(self, latents: Tensor) -> np.ndarray:
        return latents.clamp(-LATENT_BOUND, LATENT_BOUND).cpu().numpy()


class DreamHolder:
    """What the single and the batched environment do alike with their dreams: show them, and name their world."""

    _dreams: Dreams
    _window: Renderer | None = None
    render_mode: str | None

    @property
    def world(self) -> WorldModel:
        """The world that is dreamed, shared with the other environments of this process."""
        return self._dreams.world

    @property
    def latent(self) -> Tensor:
        """The newest latents, float32 `[B, 32, 16, 16]`: another object after every move, never to be written to.

        Raises ResetNeeded before the first `reset`.
        """
        self._dreams.check_dreaming("latent")
        return self._dreams.engine.latent

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.world.device

    @property
    def num_inference_steps(self) -> int:
        """Denoising steps a frame: may be set between any two steps. ValueError when set below 1."""
        return self._dreams.num_inference_steps

    @num_inference_steps.setter
    def num_inference_steps(self, steps: int) -> None:
        self._dreams.num_inference_steps = steps

    @property
    def seeds(self) -> Seeds:
        """The histories that `reset` picks from.

        Raises FileNotFoundError when the world carries none and no dataset is given.
        """
        return self._dreams.seeds

    def _show(self) -> None:
        """In human mode, show the newest frames in the window; DisplayError when there is no display."""
        if self.render_mode != "human":
            return
        if self._window is None:
            from neural_pacman.renderer import Renderer  # pygame is needed by those who look

            self._window = Renderer(f"Neural Pac-Man: {self.world.config.name}", self.world.config.frames_per_second)
        self._window.show(self._dreams.mosaic())

    def _close_window(self) -> None:
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_window": None}  # a copy opens its own when it is first shown


def warn_of_no_render_mode() -> None:
    """What Gymnasium says when nobody chose a render mode."""
    gym.logger.warn(
        "render() was called without a render mode; make the environment with render_mode='rgb_array' or 'human'."
    )


def action_names() -> str:
    """The actions as people read them: "0=LEFT, 1=RIGHT, ..."."""
    return ", ".join(f"{number}={name}" for number, name in enumerate(ACTION_ORDER))


def _restored(num_dreams: int, arguments: dict[str, Any], state: DreamState | None) -> Dreams:
    dreams = Dreams(num_dreams, **arguments)
    if state is not None:
        dreams.set_state(state, ())
    return dreams


def _noise(random: np.random.Generator) -> torch.Generator:
    """A dream's own source of noise."""
    return torch.Generator().manual_seed(int(random.integers(2**63)))


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(repr(choice) for choice in choices)}.")


def _own_history(options: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The caller's frames, prepared, uint8 `[N, 512, 512, 3]`, and actions `[N - 1]`; ValueError for anything else."""
    frames = options.get("frames")
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        given = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(
            f"The option frames is {given}; expected upright screens, a uint8 array [N, height, width, 3]."
        )
    count = len(frames)
    if not 1 <= count <= HISTORY or 0 in frames.shape:
        raise ValueError(f"The option frames has shape {list(frames.shape)}; expected 1 to {HISTORY} frames.")
    actions = np.asarray(options.get("actions", []))
    if actions.shape != (count - 1,):
        raise ValueError(
            f"The option actions has shape {list(actions.shape)}; expected [{count - 1}], one action between each "
            f"two of {count} frames."
        )
    if count > 1:
        check_actions(actions)
    return np.stack([prepare(frame) for frame in frames]), actions.astype(np.int64)


__all__ = ["DreamHolder", "DreamState", "Dreams"]

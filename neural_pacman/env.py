"""NeuralPacmanEnv: one dream as a Gymnasium environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from torch import Tensor

from neural_pacman.actions import ACTION_ORDER, NUM_ACTIONS, check_actions
from neural_pacman.engine import LATENT_SHAPE, DreamEngine, EngineState, shared_world
from neural_pacman.episodes import HISTORY
from neural_pacman.frames import FRAME_SIZE, prepare
from neural_pacman.seeds import Seeds, encode_history

if TYPE_CHECKING:
    from neural_pacman.renderer import Renderer

LATENT_BOUND = 16.0
"""Latent observations are clipped to this; scaled latents have about unit deviation, so it only bounds the space."""

STATE_VERSION = 1
"""Counts up when a saved state's meaning changes; a state of another version is refused."""

RESET_OPTIONS = ("seed_index", "frames", "actions")
OWN_FRAMES = -1
"""What `info` gives as episode and row of a dream that began from the caller's own frames."""


@dataclass(frozen=True)
class DreamState:
    """A dream to come back to: what `NeuralPacmanEnv.get_state` returns. It can be pickled.

    Attributes:
        version: `STATE_VERSION` of the code that saved it.
        engine: the history, and the noise to come.
        np_random: state of the environment's own generator, which picks the dreams after this one.
        episode, row: where the dream began.
        step, points: how far it has come.
        life_lost: whether the newest step cost a life.
    """

    version: int
    engine: EngineState
    np_random: dict[str, Any]
    episode: int
    row: int
    step: int
    points: float
    life_lost: bool


class NeuralPacmanEnv(gym.Env[np.ndarray, np.integer | int]):
    """Pac-Man, dreamed: each frame is drawn by a diffusion model from the 32 frames and actions before it.

    ## Description

    There is no game behind this environment. A world (a trained folder, see `WorldModel`) has seen recorded play; from
    a real history of 32 frames it dreams the next frame under the action you choose, then the next from that one, 15
    steps to a second of play. What the maze, the ghosts and the score do is what the network has learned, mistakes
    included.

    ## Action space

    `Discrete(5)`: a key held for one step (1/15 s).

    | number | action    | effect                                          |
    |--------|-----------|-------------------------------------------------|
    | 0      | LEFT      | turn left as soon as the maze allows            |
    | 1      | RIGHT     | turn right                                      |
    | 2      | UP        | turn up                                         |
    | 3      | DOWN      | turn down                                       |
    | 4      | NO_ACTION | keep the direction, as does a turn into a wall  |

    ## Observation space

    - `obs_type="rgb"`: `Box(0, 255, (obs_size, obs_size, 3), uint8)`, the screen, upright. The network draws
      512 x 512; a smaller `obs_size` averages areas of that.
    - `obs_type="latent"`: `Box(-16, 16, (32, 16, 16), float32)`, the dreamed latent itself, clipped. Nothing is decoded
      unless you render, which makes this the fast one.

    Every observation comes out of the network, the first as well: it is the last frame of the history, encoded and
    decoded, so all of them are from one distribution.

    ## Rewards

    The game points that the step brought (10 for a pellet, more for power pellets and ghosts), as the world judges
    them: the most probable of the gains that it knows. `reward="clipped"` clips them to [-1, 1]. A lost life costs
    nothing.

    ## Starting state

    A real history, picked by the environment's random generator from the world's own seeds or from evenly spaced states
    of `dataset`. `reset(options=...)` takes instead:

    - `{"seed_index": i}`: that seed, 0 to `len(env.unwrapped.seeds) - 1`;
    - `{"frames": f, "actions": a}`: your own upright frames, uint8 `[N, height, width, 3]` with N from 1 to 32, and the
      N - 1 actions that led from each to the next. A short history is filled up with its first frame, standing still.

    ## Episode end

    `terminated` is learned too: it is true when the world finds it more likely than not that this step ended the game.
    Recorded games end when the last life is lost, and when the maze is cleared: **a won level ends the episode**, no
    second level follows, and the last pellet's points are its only reward. Neither end was ever drawn in the
    recordings, so the last observation of a terminated dream means nothing. Losing a life before the last is no end:
    the actors are back at their places in the next frame (`info["life_lost"]`). Truncation is Gymnasium's:
    `gymnasium.make` cuts at 1000 steps, or at your `max_episode_steps`.

    ## Information

    `reset` and `step` return an `info` of: `episode` and `row`, where the dream began (the seed's source episode, and
    the index of its newest state there; -1 for your own frames); `step`, how many were dreamed; `points`, the sum so
    far, never clipped; `life_lost`, whether this step cost a life.

    ## Determinism and states

    The same seed, actions, device, thread count and library versions give the same frames, bit for bit: each dream's
    noise comes from its own generator, seeded by the environment's. `get_state` and `set_state` save, restore, rewind
    and branch a dream.

    ## Arguments

    ```python
    import gymnasium
    env = gymnasium.make("neural_pacman:NeuralPacman-v0", obs_size=84, render_mode="rgb_array")
    ```

    - `world` ("pacman"): a shipped world's name, a world folder, or a hub id.
    - `dataset` (None): start from this dataset (a folder of parquet files, one file, or a hub id, of which the first 16
      episodes are streamed) instead of the world's own seeds. Histories are encoded when first picked.
    - `render_mode` (None): "human" opens a window and shows each step at the world's own pace, "rgb_array" returns
      uint8 `[512, 512, 3]`.
    - `obs_type` ("rgb"): or "latent".
    - `obs_size` (512): height and width of rgb observations, 1 to 512.
    - `reward` ("points"): or "clipped".
    - `num_inference_steps` (None): denoising steps a frame; None takes the world's own number.
    - `device` ("auto"): "cuda", "mps" or "cpu"; "auto" takes the first of them that is there.
    - `compile` (False): `torch.compile` the networks. The first steps are slow, the rest faster; needs a C++ compiler.

    Environments with the same world, device and `compile` share one copy of the networks and of the encoded histories.

    Raises FileNotFoundError for a world or dataset that is not there, ValueError for another argument out of its range.

    ## Version history

    - v0: first version.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array"], "render_fps": 15}  # type: ignore[misc]

    def __init__(
        self,
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
        _check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        _check_choice("obs_type", obs_type, ("rgb", "latent"))
        _check_choice("reward", reward, ("points", "clipped"))
        if not isinstance(obs_size, int) or not 1 <= obs_size <= FRAME_SIZE:
            raise ValueError(f"obs_size is {obs_size!r}; expected a whole number from 1 to {FRAME_SIZE}.")
        self.render_mode = render_mode
        self.obs_type = obs_type
        self.obs_size = obs_size
        self.reward = reward
        self.world = shared_world(world, device, compile)
        self._engine = DreamEngine(self.world, num_dreams=1, num_inference_steps=num_inference_steps)
        self._dataset = dataset
        self._seeds = Seeds.of(self.world, dataset) if dataset is not None else None
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        self.observation_space = (
            spaces.Box(0, 255, (obs_size, obs_size, 3), np.uint8)
            if obs_type == "rgb"
            else spaces.Box(-LATENT_BOUND, LATENT_BOUND, LATENT_SHAPE, np.float32)
        )
        self._episode = self._row = OWN_FRAMES
        self._step = 0
        self._points = 0.0
        self._life_lost = False
        self._dreaming = False
        self._frame: np.ndarray | None = None
        self._window: Renderer | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.world.device

    @property
    def seeds(self) -> Seeds:
        """The histories that `reset` picks from.

        Raises FileNotFoundError when the world carries none and no dataset is given.
        """
        if self._seeds is None:
            self._seeds = Seeds.of(self.world, self._dataset)
        return self._seeds

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream; see "Starting state". ValueError for options that are not among those, or out of range."""
        super().reset(seed=seed)
        # Drawn first, so that the noise does not depend on how the history was chosen.
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**63)))
        latents, actions, self._episode, self._row = self._start(options or {})
        self._engine.reset(latents[None], actions[None], [generator])
        self._step, self._points, self._life_lost = 0, 0.0, False
        self._dreaming = True
        return self._shown()

    def step(self, action: np.integer | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step on. A dream can be continued past its end; `truncated` is always False here.

        Raises ResetNeeded before the first `reset`, ValueError for an action outside the space.
        """
        self._check_dreaming("step")
        if not self.action_space.contains(action):
            names = ", ".join(f"{number}={name}" for number, name in enumerate(ACTION_ORDER))
            raise ValueError(f"The action is {action!r}; expected an integer in {self.action_space} ({names}).")
        outcome = self._engine.step([int(action)])
        points = float(outcome.points[0])
        self._step += 1
        self._points += points
        self._life_lost = bool(outcome.life_lost[0])
        reward = min(max(points, -1.0), 1.0) if self.reward == "clipped" else points
        observation, info = self._shown()
        return observation, reward, bool(outcome.end[0]), False, info

    def render(self) -> np.ndarray | None:
        """The newest frame as uint8 `[512, 512, 3]`, or None after showing it in the window, as `render_mode` says."""
        self._check_dreaming("render")
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; make the environment with render_mode='rgb_array' or "
                "'human'."
            )
            return None
        if self.render_mode == "human":
            self._show()
            return None
        return self._decoded().copy()

    def get_state(self) -> DreamState:
        """The dream as it stands, to come back to: cheap enough for every step (32 kB each).

        It holds the environment's random generators too, but nothing of wrappers: `TimeLimit` goes on counting.
        Raises ResetNeeded before the first `reset`.
        """
        self._check_dreaming("get_state")
        return DreamState(
            version=STATE_VERSION,
            engine=self._engine.get_state(),
            np_random=dict(self.np_random.bit_generator.state),
            episode=self._episode,
            row=self._row,
            step=self._step,
            points=self._points,
            life_lost=self._life_lost,
        )

    def set_state(self, state: DreamState) -> None:
        """Go back, or over, to a saved state, of this or another environment of the same world; before `reset` too.

        The next `step` goes on from there and `render` shows it.
        Raises TypeError when it is no such state, ValueError when it has another version or is of another world.
        """
        if not isinstance(state, DreamState):
            raise TypeError(f"Given a {type(state).__name__}; expected the state that get_state() returned.")
        if state.version != STATE_VERSION:
            raise ValueError(
                f"The state has version {state.version}; this neural_pacman reads version {STATE_VERSION}."
            )
        self._engine.set_state(state.engine)
        self.np_random.bit_generator.state = state.np_random
        self._episode, self._row = state.episode, state.row
        self._step, self._points, self._life_lost = state.step, state.points, state.life_lost
        self._dreaming = True
        self._frame = None

    def close(self) -> None:
        """Close the window, if there is one. Closing twice does nothing."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _start(self, options: dict[str, Any]) -> tuple[Tensor, Tensor, int, int]:
        """The history to begin from, latents `[32, 32, 16, 16]` and actions `[31]`, and its episode and row."""
        if unknown := sorted(set(options) - set(RESET_OPTIONS)):
            raise ValueError(f"Unknown reset options {unknown}; expected some of {list(RESET_OPTIONS)}.")
        if "frames" in options or "actions" in options:
            if "seed_index" in options:
                raise ValueError("Given both seed_index and frames; expected one place to start from.")
            latents, actions = encode_history(self.world, *_own_history(options))
            return latents, actions, OWN_FRAMES, OWN_FRAMES
        index = options.get("seed_index")
        if index is None:
            index = self.np_random.integers(len(self.seeds))
        elif not isinstance(index, int | np.integer) or not 0 <= index < len(self.seeds):
            raise ValueError(f"seed_index is {index!r}; expected a whole number from 0 to {len(self.seeds) - 1}.")
        seed = self.seeds[int(index)]
        return seed.latents, seed.actions, seed.episode, seed.row

    def _shown(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Observation and information of the newest state, both new objects; in human mode the window shows it too."""
        self._frame = None
        if self.render_mode == "human":
            self._show()
        info = {
            "episode": self._episode,
            "row": self._row,
            "step": self._step,
            "points": self._points,
            "life_lost": self._life_lost,
        }
        if self.obs_type == "latent":
            return self._engine.latent[0].clamp(-LATENT_BOUND, LATENT_BOUND).cpu().numpy(), info
        if self.obs_size == FRAME_SIZE:
            return self._decoded().copy(), info
        return self._engine.decode(self.obs_size)[0], info

    def _decoded(self) -> np.ndarray:
        """The newest frame, uint8 `[512, 512, 3]`: ours, so copy what leaves."""
        if self._frame is None:
            self._frame = self._engine.decode()[0]
        return self._frame

    def _show(self) -> None:
        if self._window is None:
            from neural_pacman.renderer import Renderer

            self._window = Renderer(
                f"Neural Pac-Man: {self.world.config.name}", fps=self.world.config.frames_per_second
            )
        self._window.show(self._decoded())

    def _check_dreaming(self, method: str) -> None:
        if not self._dreaming:
            raise ResetNeeded(f"{method}() was called before reset(); call reset() to begin a dream.")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(repr(choice) for choice in choices)}.")


def _own_history(options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
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


__all__ = ["DreamState", "NeuralPacmanEnv"]

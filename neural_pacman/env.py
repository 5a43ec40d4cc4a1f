"""NeuralPacmanEnv: one dream as a Gymnasium environment."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np

from neural_pacman.actions import Action
from neural_pacman.dreams import DreamHolder, Dreams, DreamState, action_names, warn_of_no_render_mode
from neural_pacman.frames import FRAME_SIZE

if TYPE_CHECKING:
    from neural_pacman.vector_env import NeuralPacmanVectorEnv

ARROW_KEYS = {
    1073741904: Action.LEFT,
    1073741903: Action.RIGHT,
    1073741906: Action.UP,
    1073741905: Action.DOWN,
}
"""Actions by the number that pygame has for an arrow key, written out so that nobody needs pygame to ask."""


class NeuralPacmanEnv(DreamHolder, gym.Env[np.ndarray, np.integer | int]):
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
      for you unless you render, which makes this the fast one.

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

    `reset` and `step` return an `info` of: `seed_episode` and `seed_row`, where the dream began (the seed's source
    episode, and the index of its newest state there; -1 for your own frames); `step`, how many were dreamed; `points`,
    the sum so far, never clipped; `life_lost`, whether this step cost a life. (The name `episode` is left to
    Gymnasium's and Stable-Baselines3's statistics.)

    ## Determinism and states

    The same seed, actions, device, thread count and library versions give the same frames, bit for bit: each dream's
    noise comes from its own generator, seeded by the environment's. `get_state` and `set_state` save, restore and
    rewind a dream, `branch` continues it in several ways at once; a pickled or copied environment keeps its dream.
    `NeuralPacmanVectorEnv` (what `gymnasium.make_vec` builds) dreams many at once, in one pass of the network.

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
        self._dreams = Dreams(
            1,
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
        self.render_mode = render_mode
        self.observation_space = self._dreams.observation_space
        self.action_space = self._dreams.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream; see "Starting state". ValueError for options that are not among those, or out of range."""
        super().reset(seed=seed)
        self._dreams.begin([self.np_random], options or {})
        return self._shown()

    def step(self, action: np.integer | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step on. A dream can be continued past its end; `truncated` is always False here.

        Raises ResetNeeded before the first `reset`, ValueError for an action outside the space.
        """
        self._dreams.check_dreaming("step()")
        if not self.action_space.contains(action):
            raise ValueError(
                f"The action is {action!r}; expected an integer in {self.action_space} ({action_names()})."
            )
        rewards, ends = self._dreams.step([int(action)])
        observation, info = self._shown()
        return observation, float(rewards[0]), bool(ends[0]), False, info

    def render(self) -> np.ndarray | None:
        """The newest frame as uint8 `[512, 512, 3]`, or None after showing it in the window, as `render_mode` says."""
        self._dreams.check_dreaming("render()")
        if self.render_mode is None:
            warn_of_no_render_mode()
            return None
        if self.render_mode == "human":
            self._show()
            return None
        return self._dreams.frames()[0].copy()

    def get_state(self) -> DreamState:
        """The dream as it stands, to come back to: cheap enough for every step (32 kB each).

        It holds the environment's random generators too, but nothing of wrappers: `TimeLimit` goes on counting.
        Raises ResetNeeded before the first `reset`.
        """
        return self._dreams.get_state([self.np_random])

    def set_state(self, state: DreamState) -> None:
        """Go back, or over, to a saved state, of this or another environment of the same world; before `reset` too.

        A state of several dreams gives one with `state.take([i])`. The next `step` goes on from there and `render`
        shows it. Raises TypeError when it is no such state, ValueError when it has another version or number of dreams
        or is of another world.
        """
        random = np.random.Generator(np.random.PCG64())
        self._dreams.set_state(state, [random])
        self.np_random = random  # whose seed Gymnasium then calls -1: unknown

    def branch(self, n: int, seed: int | None = None, max_episode_steps: int | None = None) -> NeuralPacmanVectorEnv:
        """This dream continued `n` ways in one batch; it goes on itself as if nothing had happened.

        Without a `seed` the copies have the same noise to come, and so are bit-identical until their actions differ.
        With one each has its own. They are truncated after `max_episode_steps` steps since the dream began, None for
        never: what a `TimeLimit` around this environment counts is not known in here.
        Raises ResetNeeded before the first `reset`, ValueError when `n` is below 1 or `seed` below 0.
        """
        from neural_pacman.vector_env import NeuralPacmanVectorEnv

        state = self.get_state().branch(n, seed=seed)
        branches = NeuralPacmanVectorEnv(n, max_episode_steps, **self._dreams.arguments)
        branches.set_state(state)
        return branches

    def history(self) -> tuple[np.ndarray, ...]:
        """The last 32 observations, oldest first, the newest among them; read-only.

        Those before the dream began are the recording's, seen through the autoencoder. Decoding 32 frames takes about
        as long as a dozen steps. Raises ResetNeeded before the first `reset`.
        """
        return self._dreams.history(0)

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """Arrow keys as `gymnasium.utils.play.play` wants them, by pygame's numbers.

        Several at once go on in the same direction. Gymnasium has no entry for no key at all: `play(env, noop=4)`.
        """
        alone = {(key,): int(action) for key, action in ARROW_KEYS.items()}
        together = (tuple(sorted(keys)) for n in (2, 3, 4) for keys in combinations(ARROW_KEYS, n))
        return alone | {keys: int(Action.NO_ACTION) for keys in together}

    def close(self) -> None:
        """Close the window, if there is one. Closing twice does nothing."""
        self._close_window()

    def _shown(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Observation and information of the newest state, both new objects; in human mode the window shows it too."""
        self._show()
        info = {name: values[0].item() for name, values in self._dreams.progress().items()}
        return self._dreams.observe()[0], info


__all__ = ["DreamState", "NeuralPacmanEnv"]

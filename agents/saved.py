"""An agent and its file: Stable-Baselines3's zip with one entry more, a JSON of what it learned in and how far it is.

SB3 itself can open the file (`PPO.load`), which unpickles what is in it: do that to files of your own only. Here
nothing is unpickled. Settings come from the JSON, and the networks' and the optimizer's tensors are read with
`torch.load(weights_only=True)`. To play, `neural_pacman.policy` reads the same file.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor

from neural_pacman.policy import FORMAT_VERSION, RECORD, Sight, open_agent, read_json
from neural_pacman.sb3 import DreamVecEnv
from neural_pacman.vector_env import NeuralPacmanVectorEnv

AGENT = "agent.zip"

PASSING = ("_last_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer")
"""Attributes of an agent that belong to the dreams it is in, not to it."""


@dataclass(frozen=True)
class DreamSettings(Sight):
    """The dreams that an agent is in, and what it sees of them."""

    world: str = "pacman"
    """A shipped world's name, a world folder, or a hub id."""
    dataset: str | None = None
    """Begin from this dataset (a folder, a file or a hub id) instead of the world's own seeds."""
    max_episode_steps: int = 256
    """Steps after which a dream is cut off; 15 are a second of play."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; None takes the world's own number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "max_episode_steps")

    def make(self, num_envs: int, device: str, render_mode: Literal["rgb_array"] | None = None) -> VecEnv:
        """So many dreams at once, for SB3; rewards are clipped to [-1, 1], and `points` in the infos are the game's.

        Raises what `NeuralPacmanVectorEnv` raises.
        """
        dreams = NeuralPacmanVectorEnv(
            num_envs,
            max_episode_steps=self.max_episode_steps,
            world=self.world,
            dataset=self.dataset,
            render_mode=render_mode,
            obs_type=self.obs_type,
            obs_size=self.obs_size,
            reward="clipped",
            num_inference_steps=self.num_inference_steps,
            device=device,
        )
        return VecFrameStack(VecMonitor(DreamVecEnv(dreams), info_keywords=("points",)), self.frame_stack)


@dataclass(frozen=True)
class LearningSettings:
    """How PPO learns. The values suit short runs: steps in a dream cost more than what is learned from them."""

    num_envs: int = 8
    """Dreams side by side."""
    rollout_steps: int = 128
    """Steps of each dream between two updates."""
    batch_size: int = 128
    """Steps in a batch of an update."""
    epochs: int = 4
    """Times that an update goes through its steps."""
    learning_rate: float = 5e-4
    """Adam's learning rate."""
    gamma: float = 0.99
    """Discount of rewards a step later."""
    gae_lambda: float = 0.95
    """Bias (0) against variance (1) of the advantages."""
    clip_range: float = 0.2
    """How far an update may move the probability of an action."""
    entropy: float = 0.01
    """How much acting at random is worth."""
    checkpoint_steps: int = 4096
    """Steps between checkpoints. Dreams begin anew there, so that a run that was killed ends as any other."""
    seed: int = 0
    """Seed of weights, actions, batches and dreams."""

    def __post_init__(self) -> None:
        _check_positive(self, "num_envs", "rollout_steps", "epochs", "learning_rate", "checkpoint_steps")
        if self.batch_size < 2 or self.num_envs * self.rollout_steps < 2:
            raise ValueError(
                f"batch_size is {self.batch_size}, of {self.num_envs} x {self.rollout_steps} steps; expected 2 or more."
            )


@dataclass(frozen=True)
class Evaluation:
    """What an agent reached after so many steps of training: game points, one dream a seed."""

    step: int
    points: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.points))

    @property
    def standard_error(self) -> float:
        """Of the mean; nan for a single dream."""
        count = len(self.points)
        return float(np.std(self.points, ddof=1) / np.sqrt(count)) if count > 1 else float("nan")

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.standard_error:.1f} points ({len(self.points)} dreams)"


@dataclass
class Record:
    """What is known of an agent besides its weights.

    Attributes:
        world_hash: of the world that it learned in.
        step: steps of training, of all dreams together.
        seconds: of training, evaluations not counted.
        evaluations: in the order of the steps.
    """

    dreams: DreamSettings
    learning: LearningSettings
    world_hash: str
    step: int = 0
    seconds: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Record:
        """What `read_json` finds in the file; KeyError, TypeError or ValueError for anything else."""
        return cls(
            **values
            | {
                "dreams": DreamSettings(**values["dreams"]),
                "learning": LearningSettings(**values["learning"]),
                "evaluations": [Evaluation(**evaluation) for evaluation in values["evaluations"]],
            }
        )


def new_agent(learning: LearningSettings, env: VecEnv, device: str) -> PPO:
    """An untrained agent in these dreams."""
    return PPO(
        "CnnPolicy" if env.observation_space.dtype == np.uint8 else "MlpPolicy",
        env,
        learning_rate=learning.learning_rate,
        n_steps=learning.rollout_steps,
        batch_size=learning.batch_size,
        n_epochs=learning.epochs,
        gamma=learning.gamma,
        gae_lambda=learning.gae_lambda,
        clip_range=learning.clip_range,
        ent_coef=learning.entropy,
        seed=learning.seed,
        device=device,
    )


def save_agent(agent: PPO, record: Record, file: Path) -> None:
    """Replace the agent's file as a whole: a kill at any moment leaves the old one or the new one."""
    content = io.BytesIO()
    agent.save(content, exclude=PASSING)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(RECORD, record.to_json())
    unfinished = file.with_name(f".{file.name}.unfinished")
    with unfinished.open("wb") as stream:
        stream.write(content.getbuffer())
        os.fsync(stream.fileno())
    os.replace(unfinished, file)


def read_record(file: Path) -> Record:
    """What a saved agent learned in and how far it is.

    Raises FileNotFoundError when there is none, ValueError when the file is damaged or foreign.
    """
    with open_agent(file) as archive:
        return Record.from_values(read_json(archive))


def load_weights(agent: PPO, file: Path) -> None:
    """Give an agent the weights, and the optimizer's state, of a saved one. ValueError when they do not fit it."""
    with open_agent(file):
        _, tensors, _ = load_from_zip_file(file, load_data=False, device=agent.device)
        expected = set(agent.get_parameters())
        if set(tensors) != expected:
            raise ValueError(f"holds {sorted(tensors)}; expected {sorted(expected)}")
        agent.set_parameters(tensors, device=agent.device)


def load_agent(file: Path, device: str, world: str | None = None) -> tuple[PPO, Record]:
    """A saved agent, to play or to train on, and its record, with another `world` in it if one is given.

    Raises what `read_record`, `load_weights` and `DreamSettings.make` raise.
    """
    record = read_record(file)
    record.dreams = replace(record.dreams, world=world or record.dreams.world)
    agent = new_agent(record.learning, record.dreams.make(record.learning.num_envs, device), device)
    load_weights(agent, file)
    agent.num_timesteps = record.step
    return agent, record


def _check_positive(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name} is {getattr(settings, name)}; expected more than 0.")

"""An agent of Stable-Baselines3 plays: what it sees of a dream, and its policy, read without unpickling anything.

`agents.train` writes SB3's zip with one entry more, a JSON that says what the agent learned in. From that and the
policy's tensors (`torch.load(weights_only=True)`) the network is built here; what SB3 has pickled stays untouched.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from neural_pacman.actions import NUM_ACTIONS, Action
from neural_pacman.dreams import LATENT_BOUND
from neural_pacman.engine import LATENT_SHAPE
from neural_pacman.frames import FRAME_SIZE, to_images, to_tensor

try:
    from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
    from stable_baselines3.common.preprocessing import is_image_space_channels_first
    from stable_baselines3.common.vec_env import VecTransposeImage
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'An agent needs Stable-Baselines3 to play: pip install "neural-pacman[sb3]"', name=missing.name
    ) from missing

RECORD = "neural_pacman.json"
"""The entry of the zip that says what an agent learned in."""

FORMAT_VERSION = 1
"""Of that entry."""

POLICY = "policy.pth"
"""The entry that holds the policy's tensors."""

LEAST_SIZE = 36
"""Pictures smaller than this do not pass through the convolutions of SB3's CnnPolicy."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What an agent sees of a dream."""

    obs_type: Literal["rgb", "latent"] = "rgb"
    """Pictures for convolutions (CnnPolicy), or latents, which need no decoding, for a plain network (MlpPolicy)."""
    obs_size: int = 84
    """Height and width of the pictures, 36 or more."""
    frame_stack: int = 4
    """Newest observations seen at once."""

    def __post_init__(self) -> None:
        if self.obs_type not in ("rgb", "latent"):
            raise ValueError(f"obs_type is {self.obs_type!r}; expected 'rgb' or 'latent'.")
        if not LEAST_SIZE <= self.obs_size <= FRAME_SIZE:
            raise ValueError(
                f"obs_size is {self.obs_size}; SB3's CnnPolicy needs {LEAST_SIZE} or more, a frame has {FRAME_SIZE}."
            )
        if self.frame_stack <= 0:
            raise ValueError(f"frame_stack is {self.frame_stack}; expected more than 0.")

    def observe(self, frame: np.ndarray, latent: Tensor) -> np.ndarray:
        """One observation of a dream that shows `frame`, uint8 `[512, 512, 3]`, and is at `latent` `[32, 16, 16]`.

        It is what the environments give: uint8 `[obs_size, obs_size, 3]`, averaged over areas (a level off at most,
        since they average what is not rounded yet), or the latent as float32, clipped.
        """
        if self.obs_type == "latent":
            return latent.clamp(-LATENT_BOUND, LATENT_BOUND).float().cpu().numpy()
        size = (self.obs_size, self.obs_size)
        return to_images(functional.interpolate(to_tensor(frame)[None], size=size, mode="area"))[0]

    def stack(self, observations: Sequence[np.ndarray]) -> np.ndarray:
        """The newest of one or more observations, newest last, along their last axis, after a reset preceded by zeros.

        So does SB3's VecFrameStack.
        """
        seen = list(observations)[-self.frame_stack :]
        before = [np.zeros_like(seen[0])] * (self.frame_stack - len(seen))
        return np.concatenate([*before, *seen], axis=-1)

    @property
    def space(self) -> spaces.Box:
        """Of what `stack` gives."""
        if self.obs_type == "rgb":
            return spaces.Box(0, 255, (self.obs_size, self.obs_size, 3 * self.frame_stack), np.uint8)
        *first, last = LATENT_SHAPE
        return spaces.Box(-LATENT_BOUND, LATENT_BOUND, (*first, last * self.frame_stack), np.float32)


class SavedPolicy:
    """A Stable-Baselines3 agent that plays, read from its file without unpickling anything.

    ```python
    policy = SavedPolicy.load(Path("runs/agent/agent.zip"))
    observations = deque(maxlen=policy.frame_stack)  # cleared whenever a dream begins
    observations.append(policy.observe(frame, latent))
    action = policy.act(observations, np.random.default_rng(0))
    ```

    Attributes:
        sight: what it sees of a dream.
        world_hash: of the world that it learned in.
        network: SB3's policy.
    """

    def __init__(self, sight: Sight, world_hash: str, tensors: dict[str, Any], device: str = "cpu") -> None:
        """Build the network that learned with this sight, of these tensors. RuntimeError when they do not fit it."""
        self.sight = sight
        self.world_hash = world_hash
        space, kind = sight.space, ActorCriticPolicy
        if sight.obs_type == "rgb":
            kind = ActorCriticCnnPolicy
            if not is_image_space_channels_first(space):  # SB3's guess, as it learned with
                space = VecTransposeImage.transpose_space(space)
        # What it needs to learn on is not asked for: the step size is nothing, weights are replaced at once.
        self.network = kind(space, spaces.Discrete(NUM_ACTIONS), lambda _: 0.0, ortho_init=False)
        self.network.load_state_dict(tensors)
        self.network.to(device).set_training_mode(False)

    @classmethod
    def load(cls, file: Path, device: str = "cpu") -> SavedPolicy:
        """The agent in a file that `agents.train` wrote.

        Raises FileNotFoundError when there is none, ValueError when the file is damaged or foreign: no zip, SB3's zip
        without our entry, or weights that do not fit what the entry says.
        """
        with open_agent(file) as archive:
            record = read_json(archive)
            sight = Sight(**{field.name: record["dreams"][field.name] for field in fields(Sight)})
            tensors = torch.load(io.BytesIO(archive.read(POLICY)), map_location=device, weights_only=True)
            return cls(sight, str(record["world_hash"]), tensors, device)

    @property
    def frame_stack(self) -> int:
        """How many of the newest observations it sees at once."""
        return self.sight.frame_stack

    def observe(self, frame: np.ndarray, latent: Tensor) -> np.ndarray:
        """One observation, as `Sight.observe`."""
        return self.sight.observe(frame, latent)

    def probabilities(self, observations: Sequence[np.ndarray]) -> np.ndarray:
        """How probable each action is to it, float64 `[5]`, after one or more observations, newest last.

        It looks at the newest `frame_stack`; fewer are preceded by zeros, as in training after a reset.
        """
        with torch.no_grad():
            seen, _ = self.network.obs_to_tensor(self.sight.stack(observations))
            actions = torch.arange(NUM_ACTIONS, device=self.network.device)
            chances = self.network.get_distribution(seen).log_prob(actions).double().exp().cpu().numpy()
        return chances / chances.sum()

    def act(self, observations: Sequence[np.ndarray], random: np.random.Generator) -> Action:
        """An action drawn from `probabilities`: agents learn to draw. The same `random` draws the same actions."""
        return Action(int(random.choice(NUM_ACTIONS, p=self.probabilities(observations))))


@contextmanager
def open_agent(file: Path) -> Iterator[zipfile.ZipFile]:
    """The zip that an agent is saved in, to be read.

    Raises FileNotFoundError when there is none. Whatever goes wrong while it is read, in here or in the block, becomes
    a ValueError of one line.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no agent at {file}; expected the agent.zip of a run of agents.train.")
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except Exception as error:  # whatever zipfile, json, torch and SB3 make of a file that is something else
        said = " ".join(str(error).split())  # PyTorch names every single weight that does not fit
        reason = said if len(said) <= 200 else f"{said[:200]}..."
        raise ValueError(
            f"{file} is no whole agent of agents.train ({type(error).__name__}: {reason}). Train it anew (python -m "
            "agents.train --run RUN), in another folder or after deleting it."
        ) from error


def read_json(archive: zipfile.ZipFile) -> dict[str, Any]:
    """What an agent's file says of it. Raises KeyError, TypeError or ValueError for anything else than we wrote."""
    if RECORD not in archive.namelist():
        raise KeyError(f"no item named '{RECORD}', without which SB3's file does not say what its agent sees")
    values = dict(json.loads(archive.read(RECORD)))
    if (version := values.pop("format_version")) != FORMAT_VERSION:
        raise ValueError(f"format version {version!r}; this neural-pacman reads {FORMAT_VERSION}")
    return values


__all__ = ["SavedPolicy", "Sight"]

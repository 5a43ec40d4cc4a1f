"""A saved agent plays as it learned to: it sees the same, thinks the same, and nothing of its file is unpickled."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import pickle
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecFrameStack

from agents.saved import AGENT, load_agent, read_record
from agents.train import main as train
from neural_pacman.actions import NUM_ACTIONS, Action
from neural_pacman.policy import POLICY, RECORD, SavedPolicy, Sight
from neural_pacman.sb3 import DreamVecEnv
from neural_pacman.vector_env import NeuralPacmanVectorEnv
from tests.test_agents import Burglar, recorded, rewrite, settings

KINDS: tuple[Literal["rgb", "latent"], ...] = ("rgb", "latent")


@pytest.fixture(scope="module")
def trained(lively_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of agents that learned for a few steps, one of each kind; do not change them."""
    files: dict[str, Path] = {}
    for kind in KINDS:
        run = tmp_path_factory.mktemp("runs") / kind
        config = settings(lively_world, run, steps=16)
        config.dreams = dataclasses.replace(config.dreams, obs_type=kind)
        config.learning = dataclasses.replace(config.learning, learning_rate=1e-3)  # of several minds in the end
        train(config)
        files[kind] = run / AGENT
    return files


@pytest.fixture
def copied(trained: dict[str, Path], tmp_path: Path) -> Path:
    """The agent that sees pictures, to be spoiled."""
    return Path(shutil.copy(trained["rgb"], tmp_path))


def some_observations(sight: Sight, count: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    if sight.obs_type == "latent":
        return [random.normal(size=(32, 16, 16)).astype(np.float32) for _ in range(count)]
    return [random.integers(0, 256, (sight.obs_size, sight.obs_size, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_is_as_sure_of_its_actions_as_the_agent_that_was_saved(trained: dict[str, Path], kind: str) -> None:
    policy = SavedPolicy.load(trained[kind])
    agent, record = load_agent(trained[kind], "cpu")
    assert (policy.world_hash, policy.frame_stack) == (record.world_hash, record.dreams.frame_stack) and record.step
    seen = some_observations(policy.sight, 12)
    answers = []
    for first in range(0, 12, 2):
        batch, _ = agent.policy.obs_to_tensor(np.concatenate(seen[first : first + 2], axis=-1)[None])
        with torch.no_grad():
            chances: Any = agent.policy.get_distribution(batch).distribution
        answers.append(policy.probabilities(seen[: first + 2]))  # of which it takes the newest
        np.testing.assert_allclose(answers[-1], chances.probs[0], atol=1e-6)
    assert np.ptp(answers, axis=0).max() > 1e-4, "observations that make no difference prove nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [36, 84])
def test_it_sees_what_an_agent_in_training_is_shown(lively_world: Path, kind: Any, size: int) -> None:
    sight = Sight(obs_type=kind, obs_size=size, frame_stack=3)
    dreams = NeuralPacmanVectorEnv(
        1, max_episode_steps=6, world=str(lively_world), render_mode="rgb_array", obs_type=kind, obs_size=size
    )
    stacked = VecFrameStack(DreamVecEnv(dreams), 3)
    assert stacked.observation_space == sight.space
    stacked.seed(5)
    shown: Any = stacked.reset()
    done, ends = True, 0
    seen: deque[np.ndarray] = deque(maxlen=3)
    for action in np.random.default_rng(1).integers(NUM_ACTIONS, size=15):
        if done:
            seen.clear()
        pictures = dreams.render()
        assert pictures is not None
        seen.append(sight.observe(pictures[0], dreams.latent[0]))
        ours = sight.stack(seen)
        assert ours.dtype == shown.dtype and ours.shape == shown[0].shape
        assert np.abs(ours.astype(np.float64) - shown[0]).max() <= (1 if kind == "rgb" else 0)
        shown, _, dones, _ = stacked.step(np.array([action]))
        done = bool(dones[0])
        ends += done
    assert ends >= 2


def test_a_latent_out_of_bounds_is_clipped_as_in_training() -> None:
    seen = Sight(obs_type="latent").observe(np.zeros((512, 512, 3), np.uint8), torch.full((32, 16, 16), -40.0))
    assert seen.dtype == np.float32 and (seen == -16).all()


def test_actions_are_drawn_as_often_as_they_are_probable(trained: dict[str, Path]) -> None:
    policy = SavedPolicy.load(trained["rgb"])
    seen = some_observations(policy.sight, 2)
    draws = [[policy.act(seen, random) for _ in range(500)] for random in map(np.random.default_rng, (0, 0, 1))]
    assert draws[0] == draws[1] != draws[2]
    assert isinstance(draws[0][0], Action)
    shares = np.bincount(draws[0] + draws[2], minlength=NUM_ACTIONS) / 1000
    np.testing.assert_allclose(shares, policy.probabilities(seen), atol=0.06)


def test_a_file_with_a_pickle_in_it_plays_without_it(trained: dict[str, Path], copied: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickled = pickle.dumps(Burglar(trace), protocol=2)  # PyTorch's, which it reads without a warning
    data = {"policy_class": {":type:": "x", ":serialized:": base64.b64encode(pickled).decode()}}
    rewrite(copied, {"data": json.dumps(data).encode(), "policy.optimizer.pth": pickled})
    with pytest.raises((KeyError, TypeError, AttributeError, pickle.UnpicklingError)):
        PPO.load(copied, device="cpu")
    assert trace.exists(), "the trap works"
    trace.unlink()
    policy, once = SavedPolicy.load(copied), SavedPolicy.load(trained["rgb"])
    seen = some_observations(policy.sight, 2)
    np.testing.assert_array_equal(policy.probabilities(seen), once.probabilities(seen))

    stored = io.BytesIO()
    torch.save({"weights": Burglar(trace)}, stored)
    for weights in (pickled, stored.getvalue()):
        rewrite(copied, {POLICY: weights})
        with pytest.raises(ValueError, match="is no whole agent"):
            SavedPolicy.load(copied)
    assert not trace.exists()


def dreams_with(**changes: Any) -> Callable[[Path], None]:
    """Say otherwise what the agent saw."""
    return lambda file: recorded(dreams={**dataclasses.asdict(read_record(file).dreams), **changes})(file)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_text("an agent"), "BadZipFile"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1000]), "BadZipFile|no item"),
        (lambda file: rewrite(file, {RECORD: None}), r"no item named 'neural_pacman.json'.*python -m agents\.train"),
        (lambda file: rewrite(file, {RECORD: b"[1]"}), "TypeError|ValueError"),
        (lambda file: rewrite(file, {POLICY: None}), "no item named 'policy.pth'"),
        (lambda file: rewrite(file, {POLICY: b"weights"}), "UnpicklingError|RuntimeError"),
        (recorded(format_version=9), "format version 9; this neural-pacman reads 1"),
        (recorded(dreams={}), "KeyError: 'obs_"),
        (dreams_with(obs_size=84), "size mismatch"),
        (dreams_with(frame_stack=3), "size mismatch"),
        (dreams_with(obs_type="latent"), "Missing key|Unexpected key|size mismatch"),
        (dreams_with(obs_type="sound"), "obs_type is 'sound'; expected 'rgb' or 'latent'"),
        (dreams_with(obs_size="84"), "TypeError"),
    ],
)
def test_a_file_that_is_no_agent_is_said_in_one_line(copied: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(copied)
    with pytest.raises(ValueError, match=f"is no whole agent of agents.train .*({said})") as error:
        SavedPolicy.load(copied)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_an_agent_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no agent at .*none.zip; expected the agent.zip of a run"):
        SavedPolicy.load(tmp_path / "none.zip")


def test_a_missing_sb3_is_named_with_its_cure() -> None:
    script = "import sys; sys.modules['stable_baselines3'] = None; import neural_pacman.policy"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "neural-pacman[sb3]"' in run.stderr

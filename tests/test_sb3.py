"""DreamVecEnv: to Stable-Baselines3 the batched dream is a vector environment like its own."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

import neural_pacman  # noqa: F401, registers the environment
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.sb3 import DreamVecEnv
from neural_pacman.vector_env import NeuralPacmanVectorEnv

ID = "neural_pacman:NeuralPacman-v0"
LIMIT = 5
Make = Callable[..., Any]
"""Makes a `DreamVecEnv`; SB3 types its observations as anything that there may be, here they are arrays."""


@pytest.fixture
def make(lively_world: Path) -> Make:
    """Three dreams of latents, cut off after five steps."""
    ours = {"max_episode_steps": LIMIT, "world": str(lively_world), "device": "cpu", "obs_type": "latent"}
    return lambda num_envs=3, **arguments: DreamVecEnv(NeuralPacmanVectorEnv(num_envs, **{**ours, **arguments}))


def walk(env: VecEnv, steps: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(5, size=env.num_envs)) for _ in range(steps)]


def assert_same(one: Any, other: Any) -> None:
    """Equal down to the types."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    else:
        assert one == other


# --- the same as SB3's own


def test_it_does_what_sb3s_own_vector_environment_does(lively_world: Path) -> None:
    """The very same single environments, once under SB3's DummyVecEnv and once under ours."""

    def dream() -> gym.Env:
        return TimeLimit(NeuralPacmanEnv(world=str(lively_world), device="cpu", obs_type="latent"), LIMIT)

    theirs = DummyVecEnv([dream] * 3)
    ours = DreamVecEnv(SyncVectorEnv([dream] * 3, autoreset_mode=AutoresetMode.SAME_STEP))
    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 48, 3), dtype=np.uint8)
    each: list[Any] = [{"seed_index": 2}, {}, {"frames": frames, "actions": [3]}]
    ended = []
    for seed, options in ((7, each), (None, each), (None, {"seed_index": 1}), (3, None), (None, None)):
        for env in (theirs, ours):
            if seed is not None:
                assert env.seed(seed) == [seed, seed + 1, seed + 2]
            env.set_options(options)
        assert_same(theirs.reset(), ours.reset())
        assert_same(theirs.reset_infos, ours.reset_infos)
        for one, other in zip(walk(theirs, 6), walk(ours, 6), strict=True):
            assert_same(one, other)
            ended += [info["TimeLimit.truncated"] for info, done in zip(other[3], other[2], strict=True) if done]
        assert_same(theirs.reset_infos, ours.reset_infos)
    assert set(ended) == {True, False}, "dreams that end and dreams that are cut off"


@pytest.mark.parametrize("limit", [LIMIT, 1], ids=["cut off or ended", "both at once"])
def test_it_steps_the_batch(make: Make, limit: int) -> None:
    env, batch = make(max_episode_steps=limit), make(max_episode_steps=limit).dreams
    env.seed(4)
    observations, _ = batch.reset(seed=4)
    assert np.array_equal(env.reset(), observations)
    rng = np.random.default_rng(0)
    ended = []
    for _ in range(12):
        actions = rng.integers(5, size=3)
        ours, rewards, dones, infos = env.step(actions)
        observations, points, terminations, truncations, _ = step = batch.step(actions)
        assert np.array_equal(ours, observations) and np.array_equal(rewards, points)
        assert rewards.dtype == np.float32 and dones.dtype == bool
        assert np.array_equal(dones, terminations | truncations)
        for dream in np.flatnonzero(dones):
            ended.append(terminations[dream])
            assert np.array_equal(infos[dream]["terminal_observation"], step[4]["final_obs"][dream])
            assert infos[dream]["step"] >= 1 and env.reset_infos[dream]["step"] == 0
            assert infos[dream]["TimeLimit.truncated"] == (not terminations[dream])
            assert "terminal_observation" not in env.reset_infos[dream]
    assert set(ended) == {True, False}


def test_the_last_observation_is_the_ended_dreams_and_a_copy(make: Make, lively_world: Path) -> None:
    env = make(1, max_episode_steps=1)
    env.seed(0)
    env.reset()
    observations, _, dones, (info,) = env.step(np.array([1]))
    single = NeuralPacmanEnv(world=str(lively_world), device="cpu", obs_type="latent")
    single.reset(seed=0)
    last = info["terminal_observation"]
    assert dones.all() and np.array_equal(last, single.step(1)[0]) and not np.array_equal(last, observations[0])
    kept = last.copy()
    env.step(np.array([2]))
    assert np.array_equal(last, kept) and not np.shares_memory(last, observations)


# --- seeds and options


def test_a_seed_holds_for_one_reset(make: Make) -> None:
    env, batch = make(), make().dreams
    assert env.seed(11) == [11, 12, 13]
    first, second = env.reset(), env.reset()
    assert np.array_equal(first, batch.reset(seed=11)[0]) and np.array_equal(second, batch.reset()[0])
    env.seed(np.int64(11))
    assert np.array_equal(env.reset(), first) and not np.array_equal(first, second)
    assert len(set(env.seed())) == 3, "without a number each dream still gets its own"


def test_each_dream_may_have_options_of_its_own(make: Make) -> None:
    env = make()
    env.reset()
    walk(env, 2)
    env.set_options([{"seed_index": 3}, {"seed_index": 0}, {"seed_index": 3}])
    env.reset()
    seeds = env.get_attr("seeds")[0]
    assert [info["seed_row"] for info in env.reset_infos] == [seeds[index].row for index in (3, 0, 3)]
    assert [info["step"] for info in env.reset_infos] == [0, 0, 0]
    env.seed(0)
    assert np.array_equal(env.reset(), make().dreams.reset(seed=0)[0]), "options are not used twice"


def test_options_that_do_not_fit_are_refused(make: Make) -> None:
    env = make()
    env.set_options([{}, {}])
    with pytest.raises(ValueError, match="options for 2 dreams; expected 3, or one dict"):
        env.reset()
    env.set_options({"seed_index": 9})
    with pytest.raises(ValueError, match="seed_index is 9; expected a whole number from 0 to 3"):
        env.reset()


def test_an_autoreset_of_another_kind_is_refused(lively_world: Path) -> None:
    late = SyncVectorEnv([lambda: NeuralPacmanEnv(world=str(lively_world), device="cpu")])
    with pytest.raises(ValueError, match=r"autoreset mode AutoresetMode.NEXT_STEP; expected AutoresetMode.SAME_STEP"):
        DreamVecEnv(late)


# --- what can be asked of one dream


def test_attributes_are_each_dreams_own_or_those_of_all(make: Make) -> None:
    env = make(render_mode="rgb_array")
    env.seed(5)
    env.reset()
    assert env.get_attr("np_random_seed") == [5, 6, 7] and env.get_attr("np_random_seed", [2, 0]) == [7, 5]
    assert env.get_attr("np_random", 1) == [env.dreams.np_random[1]]
    assert env.get_attr("render_mode") == ["rgb_array"] * 3
    assert env.get_attr("observation_space", 0) == [env.observation_space]
    assert env.get_attr("action_space", 0) == [gym.spaces.Discrete(5)]
    assert env.has_attr("world") and not env.has_attr("lives")

    env.set_attr("max_episode_steps", 1)
    assert all(step[2].all() for step in walk(env, 2)), "a dream a step"
    for name, indices, message in (
        ("max_episode_steps", [0, 2], r"max_episode_steps is shared by all 3 dreams; given the indices \[0, 2\]"),
        ("np_random", None, "np_random cannot be set"),
    ):
        with pytest.raises(ValueError, match=message):
            env.set_attr(name, 1, indices)


def test_methods_are_called_for_each_dream_or_for_all(make: Make, tiny_world: Path) -> None:
    env = make(world=str(tiny_world), render_mode="rgb_array", max_episode_steps=None)
    env.seed(0)
    env.reset()
    walk(env, 2)
    one = env.env_method("history", indices=[2, 1])
    assert [len(history) for history in one] == [32, 32] and np.array_equal(one[1][-1], env.dreams.history(1)[-1])
    assert np.array_equal(env.env_method("render", indices=1)[0], env.get_images()[1])
    (branches,) = env.env_method("branch", 2, indices=[1])
    (state,) = env.env_method("get_state", indices=1)
    single = NeuralPacmanEnv(world=str(tiny_world), device="cpu", obs_type="latent")
    single.set_state(state)
    observation = single.step(3)[0]
    assert np.abs(branches.step(np.array([3, 3]))[0] - observation).max() < 1e-3
    assert np.abs(env.step(np.array([0, 3, 0]))[0][1] - observation).max() < 1e-3

    whole = env.dreams.get_state()
    walk(env, 2)
    with pytest.raises(ValueError, match=r"set_state\(\) is shared by all 3 dreams; given the indices \[1\]"):
        env.env_method("set_state", whole, indices=1)
    assert env.env_method("set_state", whole) == [None] * 3
    assert env.dreams.get_state().progress["step"].tolist() == whole.progress["step"].tolist()
    assert env.env_is_wrapped(Monitor) == [False] * 3 and env.env_is_wrapped(Monitor, [1]) == [False]


# --- pictures


def test_pictures_are_tiled(make: Make) -> None:
    env = make(4, render_mode="rgb_array")
    env.seed(0)
    env.reset()
    picture = env.render()
    images = env.get_images()
    assert picture is not None and picture.shape == (1024, 1024, 3) and picture.dtype == np.uint8
    assert len(images) == 4 and images[1] is not None and np.array_equal(picture[:512, 512:], images[1])
    assert env.render_mode == "rgb_array" and env.metadata["render_fps"] == 15, "what a video is recorded with"


def test_steps_become_a_video(make: Make, tmp_path: Path) -> None:
    env = VecVideoRecorder(make(4, render_mode="rgb_array"), str(tmp_path), lambda step: step == 1, video_length=3)
    env.reset()
    for _ in range(5):
        env.step(np.zeros(4, np.int64))
    env.close()
    (file,) = tmp_path.iterdir()  # of three steps and the picture that they began with
    assert imageio_ffmpeg.count_frames_and_secs(str(file)) == (4, pytest.approx(4 / 15, abs=0.01))


def test_a_window_shows_all_dreams_and_closes_twice(make: Make) -> None:
    env = make(render_mode="human")
    env.reset()
    env.step(np.zeros(3, np.int64))
    assert env.render() is None
    env.close()
    env.close()


def test_pictures_without_a_render_mode_are_none_and_said(make: Make) -> None:
    env = make()
    env.reset()
    with pytest.warns(UserWarning, match="render mode is None; pictures need 'rgb_array'"):
        assert env.get_images() == [None] * 3
    with pytest.warns(UserWarning, match="no `render_mode`"):
        assert env.render() is None


# --- SB3's wrappers and algorithms


def test_sb3s_wrappers_go_around_it(make: Make) -> None:
    inner = make(obs_type="rgb", obs_size=36)
    env: Any = VecTransposeImage(VecFrameStack(VecMonitor(inner, info_keywords=("points",)), 4))
    twin = make(obs_type="rgb", obs_size=36)
    for each in (env, twin):
        each.seed(2)
    first, bare = env.reset(), twin.reset()
    assert isinstance(first, np.ndarray) and first.shape == (3, 12, 36, 36) and first.dtype == np.uint8
    assert np.array_equal(first[:, 9:], bare.transpose(0, 3, 1, 2)) and not first[:, :9].any()
    sums, ends = np.zeros(3), 0
    for stacked, plain in zip(walk(env, 8), walk(twin, 8), strict=True):
        assert np.array_equal(stacked[0][:, 9:], plain[0].transpose(0, 3, 1, 2))
        sums += plain[1]
        for dream in np.flatnonzero(plain[2]):
            ends += 1
            statistics, last = stacked[3][dream]["episode"], stacked[3][dream]["terminal_observation"]
            assert statistics["r"] == statistics["points"] == sums[dream] and statistics["l"] == plain[3][dream]["step"]
            assert np.array_equal(last[9:], plain[3][dream]["terminal_observation"].transpose(2, 0, 1))
            sums[dream] = 0
    assert ends > 3


@pytest.mark.parametrize("arguments", [{"obs_type": "rgb", "obs_size": 36}, {}], ids=["rgb", "latent"])
def test_observations_and_rewards_can_be_normalized(make: Make, arguments: dict[str, Any]) -> None:
    inner = make(**arguments)
    env: Any = VecNormalize(inner)
    env.seed(0)
    assert np.isfinite(env.reset()).all()
    rewards = np.concatenate([step[1] for step in walk(env, 10)])
    assert rewards.dtype == np.float32 and np.abs(rewards).max() <= 10 and rewards.any()
    assert env.get_original_reward().dtype == np.float32


@pytest.mark.parametrize("obs_type", ["rgb", "latent"])
def test_algorithms_learn_in_it(lively_world: Path, obs_type: str) -> None:
    dreams = gym.make_vec(
        ID, num_envs=2, world=str(lively_world), device="cpu", obs_type=obs_type, obs_size=36, max_episode_steps=LIMIT
    )
    env = VecMonitor(DreamVecEnv(dreams))
    policy = "CnnPolicy" if obs_type == "rgb" else "MlpPolicy"
    settings: dict[str, Any] = {"seed": 0, "device": "cpu"}
    for algorithm in (
        PPO(policy, env, n_steps=8, batch_size=8, n_epochs=1, **settings),
        A2C(policy, env, **settings),
        DQN(policy, env, buffer_size=64, learning_starts=4, batch_size=4, **settings),
    ):
        before = [parameter.clone() for parameter in algorithm.policy.parameters()]
        algorithm.learn(32)
        assert algorithm.num_timesteps >= 32 and algorithm.ep_info_buffer
        assert any(not torch.equal(a, b) for a, b in zip(before, algorithm.policy.parameters(), strict=True))
    returns, lengths = evaluate_policy(algorithm, env, n_eval_episodes=4, return_episode_rewards=True)
    assert len(returns) == 4 and 1 <= max(lengths) <= LIMIT  # type: ignore[arg-type]


def test_the_single_environment_suits_sb3_too(lively_world: Path) -> None:
    env = gym.make(
        ID, world=str(lively_world), device="cpu", obs_size=36, render_mode="rgb_array", max_episode_steps=LIMIT
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=False)
        agent = PPO("CnnPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32)
    assert agent.ep_info_buffer and {info["l"] for info in agent.ep_info_buffer} <= {1, 2, 3, 4, 5}


def test_a_missing_sb3_is_named_with_its_cure() -> None:
    script = "import sys; sys.modules['stable_baselines3'] = None; import neural_pacman.sb3"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "neural-pacman[sb3]"' in run.stderr

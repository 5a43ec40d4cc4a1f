"""What Gymnasium's users expect of vector environments, on every id that we register; each wrapper that there is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium.wrappers.vector as vector_wrappers
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import ClipReward, GrayscaleObservation, TransformAction

from neural_pacman import NeuralPacmanVectorEnv, WorldModel
from neural_pacman.engine import DreamEngine

IDS = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("neural_pacman.")]
Make = Callable[..., Any]

pytestmark = [pytest.mark.parametrize("name", IDS), pytest.mark.usefixtures("loaded_world")]


@pytest.fixture(scope="module")
def ending_world(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world where points differ from step to step and two dreams in five end at a step."""
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    heads = (world.outcome.step.head, world.outcome.ending.head)
    felt: list[list[torch.Tensor]] = [[], []]
    hooks = [h.register_forward_pre_hook(lambda _, x, f=f: f.append(x[0])) for h, f in zip(heads, felt, strict=True)]
    engine = DreamEngine(world, num_dreams=4)
    seeds = shared_seeds(tiny_world)
    engine.reset(
        torch.stack([seed.latents for seed in seeds]),
        torch.stack([seed.actions for seed in seeds]),
        [torch.Generator().manual_seed(number) for number in range(4)],
    )
    for action in range(20):
        engine.step(np.arange(4) + action % 2)
    for head, hook, features in zip(heads, hooks, felt, strict=True):
        hook.remove()
        scores = torch.cat(features) @ head.weight.T
        with torch.no_grad():
            head.bias.copy_(-scores.quantile(0.6, dim=0))
    with torch.no_grad():
        world.outcome.ending.head.bias[0] = -9.0  # of the two ways to end, the one that a single number decides
    folder = tmp_path_factory.mktemp("worlds") / "lively"
    world.save_pretrained(folder)
    return folder


def shared_seeds(world: Path) -> list[Any]:
    seeds = NeuralPacmanVectorEnv(1, world=str(world), device="cpu").seeds
    return [seeds[index] for index in range(4)]


@pytest.fixture
def make(name: str, tiny_world: Path) -> Make:
    """Three dreams of this id as `make_vec` gives them, of latents in the tiny world."""
    ours = {"num_envs": 3, "world": str(tiny_world), "device": "cpu", "obs_type": "latent"}
    return lambda **arguments: gym.make_vec(name, **{**ours, **arguments})


@pytest.fixture
def one_by_one(make: Make) -> Make:
    """The same, as Gymnasium makes it of single environments."""
    return lambda **arguments: make(
        vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, **arguments
    )


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Observations equal up to the last bits, which depend on the batch size."""
    assert one.dtype == other.dtype and one.shape == other.shape
    tolerance = 2 if one.dtype == np.uint8 else 1e-4
    return bool(np.abs(one.astype(np.float64) - other).max() <= tolerance)


def final(infos: dict[str, Any]) -> list[Any]:
    return list(infos.pop("final_obs", []))


# --- as single environments in a row


@pytest.mark.parametrize(
    "arguments", [{}, {"obs_type": "rgb", "obs_size": 84}, {"reward": "clipped", "num_inference_steps": 1}], ids=str
)
def test_dreams_in_a_batch_are_single_dreams_in_a_row(
    make: Make, one_by_one: Make, ending_world: Path, arguments: dict[str, Any]
) -> None:
    """Observations, rewards, ends and infos, with keys, types and masks, through ends, cuts and a partial reset."""
    arguments = {"world": str(ending_world), "max_episode_steps": 4, **arguments}
    envs, twins = make(**arguments), one_by_one(**arguments)
    for attribute in ("num_envs", "single_observation_space", "observation_space", "single_action_space"):
        assert getattr(envs, attribute) == getattr(twins, attribute)
    assert envs.action_space == twins.action_space
    assert envs.metadata == {**envs.metadata, **twins.metadata}
    rng = np.random.default_rng(1)
    mixed = cut = paid = 0
    for number in range(10):
        if number == 0:
            results = [each.reset(seed=11) for each in (envs, twins)]
        elif number == 6:
            mask = np.array([True, False, True])
            results = [each.reset(seed=[None, 7, 8], options={"reset_mask": mask.copy()}) for each in (envs, twins)]
        else:
            actions = rng.integers(5, size=3)
            results = [each.step(actions) for each in (envs, twins)]
            ended = results[0][2] | results[0][3]
            mixed += bool(ended.any() and not ended.all())
            cut += bool(results[0][3].any())
            paid += len(set(results[0][1])) > 1
        (seen, *middle, infos), (expected, *others, theirs) = results
        assert seen in envs.observation_space and close(seen, expected)
        last, known = final(infos), final(theirs)
        assert len(last) == len(known)
        for one, other in zip(last, known, strict=True):
            assert one is other is None or close(one, other)
        assert data_equivalence(middle, others) and data_equivalence(infos, theirs)
        assert envs.np_random_seed == twins.np_random_seed
    assert mixed and cut and paid, "a walk without ends, cuts or points proves nothing"


def test_a_batch_is_drawn_from_the_same_numbers(make: Make, one_by_one: Make) -> None:
    envs, twins = make(), one_by_one()
    for seed in (5, [5, 6, 7], [9, None, 4], None):
        for each in (envs, twins):
            each.reset(seed=seed)
        states = [[random.bit_generator.state for random in each.np_random] for each in (envs, twins)]
        assert states[0] == states[1] and envs.np_random_seed == twins.np_random_seed


# --- seeds and determinism


def test_two_runs_from_one_seed_are_the_same_bit_for_bit(make: Make) -> None:
    for arguments in ({"max_episode_steps": 3}, {"obs_type": "rgb", "obs_size": 64, "max_episode_steps": 3}):
        runs = []
        for _ in range(2):
            envs = make(**arguments)
            envs.action_space.seed(4)
            run = [envs.reset(seed=4), *(envs.step(envs.action_space.sample()) for _ in range(5)), envs.reset()]
            runs.append(run)
        assert data_equivalence(runs[0], runs[1], exact=True)
        assert not np.array_equal(runs[0][0][0], runs[0][-1][0]), "an unseeded reset goes on drawing"


def test_a_number_counts_up_and_none_leaves_a_dreams_generator_alone(make: Make) -> None:
    envs, twin = make(), make()
    assert data_equivalence(envs.reset(seed=5), twin.reset(seed=[5, 6, 7]), exact=True)
    follows, _ = twin.reset()
    some, _ = envs.reset(seed=[None, 6, None])
    assert np.array_equal(some[[0, 2]], follows[[0, 2]])
    assert np.array_equal(some[1], twin.reset(seed=5)[0][1])
    assert envs.np_random_seed == (5, 6, 7)


# --- what is returned


def arrays(result: tuple[Any, ...]) -> list[np.ndarray]:
    """Every array in what a call returned, the final observations too."""
    found: list[np.ndarray] = []
    waiting: list[Any] = list(result)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
            waiting += list(value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            found.append(value)
    return found


def test_whatever_is_returned_belongs_to_the_caller(make: Make) -> None:
    for arguments in ({}, {"obs_type": "rgb", "obs_size": 512}):
        ours = {"max_episode_steps": 2, "render_mode": "rgb_array", **arguments}
        envs, untouched = make(**ours), make(**ours)
        before: list[np.ndarray] = []
        for number in range(4):
            result, expected = (
                (*(each.reset(seed=0) if number == 0 else each.step(np.arange(3))), each.render())
                for each in (envs, untouched)
            )
            assert data_equivalence(result, expected, exact=True)
            new = arrays(result)
            assert len(new) > 10
            for one, other in combinations(new, 2):
                assert not np.shares_memory(one, other)
            for one, other in product(before, new):
                assert not np.shares_memory(one, other)
            for array in new:
                array[:] = 0
            before += new


# --- made and closed


def test_make_vec_makes_dreams_in_one_batch_that_gymnasium_cuts(make: Make) -> None:
    envs = make()
    assert type(envs) is NeuralPacmanVectorEnv and envs.max_episode_steps == 1000
    assert make(max_episode_steps=5).max_episode_steps == 5
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(gym.error.Error, match="wrappers"):
        make(wrappers=[GrayscaleObservation])
    assert make(vectorization_mode="sync", obs_type="rgb", obs_size=48, wrappers=[GrayscaleObservation]).reset()[
        0
    ].shape == (
        3,
        48,
        48,
    )


def test_closing_is_done_once(make: Make) -> None:
    envs = make(render_mode="human", num_envs=2)
    envs.reset(seed=0)
    envs.step(np.zeros(2, np.int64))
    assert not envs.closed
    envs.close()
    envs.close()
    assert envs.closed
    make().close()


# --- Gymnasium's wrappers for vector environments

WORK: dict[str, dict[str, Any]] = {
    "ClipReward": {"min_reward": -1.0, "max_reward": 1.0},
    "DictInfoToList": {},
    "NormalizeReward": {},
    "RecordEpisodeStatistics": {},
    "TransformAction": {"func": lambda actions: (actions + 1) % 5},
    "TransformReward": {"func": lambda rewards: rewards / 10},
    "VectorizeTransformAction": {
        "wrapper": TransformAction,
        "func": lambda action: (action + 1) % 5,
        "action_space": gym.spaces.Discrete(5),
    },
    "VectorizeTransformReward": {"wrapper": ClipReward, "min_reward": -1.0, "max_reward": 1.0},
}
REFUSE_SAME_STEP: dict[str, dict[str, Any]] = {
    "DtypeObservation": {"dtype": np.float32},
    "FilterObservation": {"filter_keys": ["screen"]},
    "FlattenObservation": {},
    "GrayscaleObservation": {},
    "NormalizeObservation": {},
    "RescaleObservation": {"min_obs": 0.0, "max_obs": 1.0},
    "ReshapeObservation": {"shape": (48 * 48, 3)},
    "ResizeObservation": {"shape": (24, 24)},
    "TransformObservation": {"func": lambda observations: observations},
    "VectorizeTransformObservation": {"wrapper": GrayscaleObservation},
}
NEED_CONTINUOUS_ACTIONS: dict[str, dict[str, Any]] = {
    "ClipAction": {},
    "RescaleAction": {"min_action": 0.0, "max_action": 1.0},
}
NEED_PACKAGES = {"ArrayConversion", "HumanRendering", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"}
RECORDS = {"RecordVideo"}


def test_no_wrapper_is_forgotten(name: str) -> None:
    ours = [*WORK, *REFUSE_SAME_STEP, *NEED_CONTINUOUS_ACTIONS, *NEED_PACKAGES, *RECORDS]
    assert sorted(ours) == sorted(vector_wrappers.__all__)


@pytest.mark.parametrize("wrapper", WORK)
def test_this_wrapper_works(make: Make, ending_world: Path, wrapper: str) -> None:
    arguments = {"world": str(ending_world), "max_episode_steps": 3}
    envs, plain = getattr(vector_wrappers, wrapper)(make(**arguments), **WORK[wrapper]), make(**arguments)
    envs.reset(seed=0)
    plain.reset(seed=0)
    ended = False
    for number in range(7):
        actions = np.full(3, number % 5)
        expected, points, *others, theirs = plain.step((actions + 1) % 5 if "Action" in wrapper else actions)
        seen, rewards, *ends, infos = envs.step(actions)
        assert np.array_equal(seen, expected) and data_equivalence(ends, others)
        if wrapper in ("ClipReward", "VectorizeTransformReward"):
            points = points.clip(-1, 1)
        elif wrapper == "TransformReward":
            points = points / 10
        elif wrapper == "NormalizeReward":
            points = rewards
        assert np.array_equal(rewards, points) and rewards.dtype == np.float64
        if wrapper == "DictInfoToList":
            assert [info["step"] for info in infos] == theirs["step"].tolist()
            assert ["final_obs" in info for info in infos] == (others[0] | others[1]).tolist()
        elif wrapper == "RecordEpisodeStatistics" and (others[0] | others[1]).any():
            counts = infos.pop("episode")
            assert infos.pop("_episode").tolist() == (others[0] | others[1]).tolist()
            assert np.array_equal(counts["r"], theirs["final_info"]["points"])
            assert np.array_equal(counts["l"], theirs["final_info"]["step"])
            ended = True
    assert ended or wrapper != "RecordEpisodeStatistics"
    envs.close()


def test_a_video_shows_all_dreams_side_by_side(make: Make, tmp_path: Path) -> None:
    envs = make(num_envs=2, render_mode="rgb_array", max_episode_steps=3)
    with pytest.warns(UserWarning, match="will not contain the last frame"):
        recorded = vector_wrappers.RecordVideo(envs, str(tmp_path / "videos"), video_aspect_ratio=(2, 1))
    recorded.reset(seed=1)
    pictures = [envs.render()]
    for _ in range(2):
        recorded.step(np.arange(2))
        pictures.append(envs.render())
    assert np.array_equal(recorded.recorded_frames, [np.concatenate(each, axis=1) for each in pictures])
    recorded.close()
    (file,) = (tmp_path / "videos").iterdir()
    assert imageio_ffmpeg.count_frames_and_secs(str(file))[0] == 3


@pytest.mark.parametrize("wrapper", REFUSE_SAME_STEP)
def test_this_wrapper_refuses_same_step_autoreset(make: Make, wrapper: str) -> None:
    envs = make(obs_type="rgb", obs_size=48)
    with pytest.raises(ValueError, match="autoreset_mode to be NEXT_STEP"):
        getattr(vector_wrappers, wrapper)(envs, **REFUSE_SAME_STEP[wrapper])


@pytest.mark.parametrize("wrapper", NEED_CONTINUOUS_ACTIONS)
def test_this_wrapper_is_for_continuous_actions(make: Make, wrapper: str) -> None:
    with pytest.raises(TypeError, match="Box action space"):
        getattr(vector_wrappers, wrapper)(make(), **NEED_CONTINUOUS_ACTIONS[wrapper])

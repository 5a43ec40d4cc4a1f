"""A reward of one's own: what the function is given, what stays as it was, and that it is never behind the dream."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import GrayscaleObservation, RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorRecordEpisodeStatistics

from neural_pacman import NeuralPacmanEnv, NeuralPacmanVectorEnv, RewardFunction, VectorRewardFunction
from neural_pacman.engine import shared_world

ID = "NeuralPacman-v0"
Call = tuple[tuple[np.ndarray, ...], int, np.ndarray]
Make = Callable[..., Any]


class Notes:
    """A reward function that notes what it was given and pays 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, history: tuple[np.ndarray, ...], action: int, seen: np.ndarray) -> int:
        self.calls.append((history, action, seen))
        return len(self.calls)


def surprise(history: tuple[np.ndarray, ...], action: int, seen: np.ndarray) -> np.floating:
    """How much the picture changed, up to the action: a function of all three arguments."""
    return np.abs(seen.astype(np.float32) - history[-1]).mean() + np.float32(action)


@pytest.fixture(scope="module", autouse=True)
def _one_world(tiny_world: Path) -> Iterator[None]:
    """The world stays loaded from one test to the next."""
    world = shared_world(tiny_world, device="cpu")
    yield
    del world


@pytest.fixture
def make(tiny_world: Path) -> Make:
    return lambda **arguments: gym.make(
        ID, **{"world": str(tiny_world), "device": "cpu", "obs_type": "latent", **arguments}
    )


@pytest.fixture
def make_vec(tiny_world: Path) -> Make:
    return lambda **arguments: gym.make_vec(
        ID, **{"num_envs": 3, "world": str(tiny_world), "device": "cpu", "obs_type": "latent", **arguments}
    )


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    """Histories of the same 32 observations; decoded in batches of different sizes, pictures may differ by a shade."""
    shades = 2 if one[0].dtype == np.uint8 else 0
    return len(one) == len(other) == 32 and np.abs(np.stack(one).astype(float) - other).max() <= shades


@pytest.mark.parametrize("arguments", [{}, {"obs_type": "rgb", "obs_size": 48}], ids=str)
def test_the_function_sees_history_action_and_what_came(make: Make, arguments: dict[str, Any]) -> None:
    notes = Notes()
    env, plain = RewardFunction(make(**arguments), notes), make(**arguments)
    env.reset(seed=2)
    plain.reset(seed=2)
    for number, action in enumerate((0, np.int64(3), 1), start=1):
        before = plain.unwrapped.history()
        observation, reward, *rest = env.step(action)
        expected, points, *others = plain.step(action)
        assert np.array_equal(observation, expected) and rest == others  # nothing but the reward is replaced
        assert reward == number != points and type(reward) is float
        history, done, seen = notes.calls[-1]
        assert same(history, before) and np.array_equal(seen, observation)
        assert done == action and type(done) is int
        for array in (*history, seen):
            assert not array.flags.writeable and array.dtype == env.observation_space.dtype
        observation[:] = 0  # the caller's own: what the function saw and will see stays
    assert same(notes.calls[2][0][-2:] * 16, (notes.calls[0][2], notes.calls[1][2]) * 16)
    assert notes.calls[2][0][-1] is notes.calls[1][2]  # kept, not copied again


def test_wherever_the_dream_is_moved_its_history_is_there(make: Make) -> None:
    notes = Notes()
    env = RewardFunction(make(), notes)
    dream = env.unwrapped
    assert isinstance(dream, NeuralPacmanEnv)
    env.reset(seed=2)
    for action in (0, 1, 2):
        env.step(action)
    state, there = dream.get_state(), dream.history()
    for action in (3, 3):
        env.step(action)
    dream.set_state(state)
    env.step(4)
    assert same(notes.calls[-1][0], there)

    dream.step(1)  # past the wrapper
    here = dream.history()
    env.step(1)
    assert same(notes.calls[-1][0], here)

    env.reset(seed=5)
    begun = dream.history()
    env.step(1)
    assert same(notes.calls[-1][0], begun)


def test_a_copy_goes_on_by_itself_and_carries_no_frames(make: Make) -> None:
    env = RewardFunction(make(), surprise)
    env.reset(seed=2)
    env.step(0)
    bare = len(pickle.dumps(env.env))
    assert len(pickle.dumps(env)) < bare + 2_000
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        original = copy.deepcopy(env)
        for action in (1, 2):
            assert twin.step(action)[1] == original.step(action)[1]


def test_statistics_on_top_count_the_new_reward(make: Make) -> None:
    env = RecordEpisodeStatistics(RewardFunction(make(max_episode_steps=3), Notes()))
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(3)]
    assert steps[-1][3] and steps[-1][4]["episode"]["r"] == 1 + 2 + 3
    assert steps[-1][4]["points"] != 6


def test_the_spec_makes_it_again_but_json_cannot_hold_a_function(make: Make) -> None:
    env = RewardFunction(make(), surprise)
    assert env.spec is not None
    again = gym.make(env.spec)
    assert isinstance(again, RewardFunction) and again.fn is surprise and again.spec == env.spec
    env.reset(seed=1)
    again.reset(seed=1)
    assert again.step(2)[1] == env.step(2)[1]
    with pytest.raises(TypeError, match="not JSON serializable"):
        env.spec.to_json()


@pytest.mark.parametrize("value", [2, 2.5, True, np.float32(0.5), np.array(3), torch.tensor(0.25)], ids=repr)
def test_every_kind_of_number_is_a_reward(make: Make, value: Any) -> None:
    env = RewardFunction(make(), lambda *_: value)
    env.reset(seed=0)
    reward = env.step(0)[1]
    assert reward == float(value) and type(reward) is float


@pytest.mark.parametrize(
    "value", [None, "3", math.nan, np.float32(math.inf), 1j, np.zeros(1), [1.0], 10**400], ids=lambda v: repr(v)[:20]
)
def test_anything_else_is_refused_and_the_next_step_is_none_the_worse(make: Make, make_vec: Make, value: Any) -> None:
    wrong = [value]
    notes = Notes()
    env = RewardFunction(make(), lambda *call: wrong.pop() if wrong else notes(*call))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"returned .*; expected one finite number"):
        env.step(0)
    before = env.unwrapped.history()  # type: ignore[attr-defined]
    assert env.step(0)[1] == 1.0
    assert same(notes.calls[0][0], before)

    wrong.append(value)
    envs = VectorRewardFunction(
        make_vec(), lambda *call: wrong.pop() if wrong and len(notes.calls) > 1 else notes(*call)
    )
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="expected one finite number"):
        envs.step(np.zeros(3, np.int64))
    dreams: Any = envs.unwrapped
    histories = [dreams.history(dream) for dream in range(3)]
    envs.step(np.zeros(3, np.int64))
    assert all(same(call[0], history) for call, history in zip(notes.calls[-3:], histories, strict=True))


def test_what_it_cannot_wrap_is_said(make: Make, make_vec: Make) -> None:
    wrong: list[tuple[Any, Any, str]] = [
        (RewardFunction, make_vec(), "is a NeuralPacmanVectorEnv; expected a NeuralPacmanEnv; VectorRewardFunction is"),
        (VectorRewardFunction, make(), "is a NeuralPacmanEnv; expected a NeuralPacmanVectorEnv; RewardFunction is"),
        (RewardFunction, gym.make("FrozenLake-v1"), "is a FrozenLakeEnv; expected a NeuralPacmanEnv[.]"),
        (
            VectorRewardFunction,
            make_vec(vectorization_mode="sync"),
            "SyncVectorEnv; expected a NeuralPacmanVectorEnv[.]",
        ),
    ]
    for wrapper, env, message in wrong:
        with pytest.raises(TypeError, match=message):
            wrapper(env, surprise)
    with pytest.raises(TypeError, match="fn is 3; expected a function"):
        RewardFunction(make(), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="put the reward function inside"):
        RewardFunction(GrayscaleObservation(make(obs_type="rgb", obs_size=48)), surprise)
    with pytest.raises(ResetNeeded):
        RewardFunction(make(), surprise).step(0)
    with pytest.raises(ResetNeeded):
        VectorRewardFunction(make_vec(), surprise).step(np.zeros(3, np.int64))


# --- many dreams


def test_batched_rewards_are_those_of_single_dreams_through_resets(make: Make, make_vec: Make) -> None:
    """Against the same function around single dreams, where dreams end at different steps and one is reset."""
    arguments: dict[str, Any] = {"max_episode_steps": 4}
    envs = VectorRewardFunction(make_vec(**arguments), surprise)
    twins = make_vec(
        **arguments,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": "SameStep"},
        wrappers=[lambda env: RewardFunction(env, surprise)],
    )
    both = (envs, twins)
    rng = np.random.default_rng(0)
    for each in both:
        each.reset(seed=2)
    ends = 0
    for step in range(9):
        if step == 2:
            for each in both:
                each.reset(seed=[None, 40, None], options={"reset_mask": np.array([False, True, False])})
        actions = rng.integers(5, size=3)
        one, other = (each.step(actions) for each in both)
        assert one[1].dtype == np.float64 and one[1].shape == (3,)
        np.testing.assert_allclose(one[1], other[1], rtol=0, atol=1e-4)
        ends += int((one[2] | one[3]).sum())
    assert ends >= 5


def test_an_ended_dream_is_paid_for_its_last_frame_and_the_next_begins_with_its_own_history(make_vec: Make) -> None:
    notes = Notes()
    envs = VectorRewardFunction(make_vec(max_episode_steps=2), notes)
    dreams: Any = envs.unwrapped
    assert isinstance(dreams, NeuralPacmanVectorEnv)
    envs.reset(seed=2)
    envs.step(np.zeros(3, np.int64))
    envs.reset(seed=9, options={"reset_mask": np.array([True, False, True])})  # the second one alone will end
    before = [dreams.history(dream) for dream in range(3)]
    observations, rewards, _, truncations, infos = envs.step(np.array([0, 1, 2]))
    assert truncations.tolist() == [False, True, False] and rewards.tolist() == [4, 5, 6]
    histories, actions, seen = zip(*notes.calls[3:], strict=True)
    assert all(map(same, histories, before)) and actions == (0, 1, 2)
    assert np.array_equal(seen[1], infos["final_obs"][1]) and not np.array_equal(seen[1], observations[1])
    assert np.array_equal(seen[0], observations[0]) and np.array_equal(seen[2], observations[2])

    begun = dreams.history(1)
    observations[:] = 0
    infos["final_obs"][1][:] = 0
    envs.step(np.array([0, 1, 2]))
    assert same(notes.calls[7][0], begun)
    assert same(notes.calls[6][0], (*before[0][1:], seen[0]))
    assert not any(array.flags.writeable for call in notes.calls for array in (*call[0], call[2]))


def test_a_partial_reset_decodes_one_history(make_vec: Make) -> None:
    notes = Notes()
    envs = VectorRewardFunction(make_vec(), notes)
    envs.reset(seed=2)
    envs.step(np.zeros(3, np.int64))
    kept = notes.calls[0][2]
    envs.reset(seed=9, options={"reset_mask": np.array([False, True, False])})
    begun = envs.unwrapped.history(1)  # type: ignore[attr-defined]
    envs.step(np.zeros(3, np.int64))
    assert notes.calls[3][0][-1] is kept  # the others go on with the very arrays they had
    assert same(notes.calls[4][0], begun)


def test_batched_histories_follow_states_and_copies(make_vec: Make) -> None:
    notes = Notes()
    envs = VectorRewardFunction(make_vec(), notes)
    dreams: Any = envs.unwrapped
    envs.reset(seed=2)
    state = dreams.get_state()
    there = [dreams.history(dream) for dream in range(3)]
    for _ in range(2):
        envs.step(np.ones(3, np.int64))
    dreams.set_state(state)
    envs.step(np.ones(3, np.int64))
    assert all(same(call[0], history) for call, history in zip(notes.calls[-3:], there, strict=True))

    paid = VectorRewardFunction(dreams, surprise)
    paid.step(np.ones(3, np.int64))
    twin = pickle.loads(pickle.dumps(paid))
    assert np.array_equal(twin.step(np.arange(3))[1], paid.step(np.arange(3))[1])


def test_batched_statistics_on_top_count_the_new_reward(make_vec: Make) -> None:
    envs = VectorRecordEpisodeStatistics(VectorRewardFunction(make_vec(max_episode_steps=2), lambda *_: 1.5))
    envs.reset(seed=0)
    envs.step(np.zeros(3, np.int64))
    infos = envs.step(np.zeros(3, np.int64))[4]
    assert infos["episode"]["r"].tolist() == [3.0, 3.0, 3.0]

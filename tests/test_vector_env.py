"""Many dreams in one pass: states that branch, copies that go on, partial resets, a window for all."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import booleans, integers, lists, none

from neural_pacman import DreamState, NeuralPacmanEnv, NeuralPacmanVectorEnv
from neural_pacman.seeds import Seeds
from neural_pacman.world import WorldModel

Make = Callable[..., NeuralPacmanVectorEnv]


@pytest.fixture
def make(tiny_world: Path) -> Make:
    """Three batched dreams of latents in the tiny world."""
    ours = {"num_envs": 3, "world": str(tiny_world), "device": "cpu", "obs_type": "latent"}
    return lambda **arguments: NeuralPacmanVectorEnv(**{**ours, **arguments})


@pytest.fixture
def single(tiny_world: Path) -> NeuralPacmanEnv:
    return NeuralPacmanEnv(world=str(tiny_world), device="cpu", obs_type="latent")


def walk(env: Any, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(5, size=env.num_envs)) for _ in range(steps)]


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    return len(one) == len(other) and all(data_equivalence(a, b) for a, b in zip(one, other, strict=True))


# --- states


def test_a_saved_batch_replays_through_an_autoreset(make: Make) -> None:
    env = make(max_episode_steps=5)
    env.reset(seed=3)
    walk(env, 3)
    state = env.get_state()
    future = walk(env, 6, seed=1)  # the fifth step of each dream begins the next one
    assert any("final_obs" in step[4] for step in future)

    env.set_state(state)
    assert same(walk(env, 6, seed=1), future)

    fresh = make(max_episode_steps=5)
    fresh.set_state(pickle.loads(pickle.dumps(state)))
    assert same(walk(fresh, 6, seed=1), future)


def test_one_of_many_goes_on_alone_and_one_alone_among_many(make: Make, single: NeuralPacmanEnv) -> None:
    env = make()
    env.reset(seed=3)
    walk(env, 3)
    state = env.get_state()
    assert len(state) == 3

    single.set_state(state.take([1]))
    alone = [single.step(action) for action in (0, 2, 4)]
    together = [env.step(np.array([1, action, 3])) for action in (0, 2, 4)]
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], many[0][1], rtol=0, atol=1e-4)
        assert one[4]["step"] == many[4]["step"][1] and one[4]["seed_episode"] == many[4]["seed_episode"][1]

    env.set_state(single.get_state().take([0, 0, 0]))
    np.testing.assert_array_equal(env.step(np.full(3, 2))[4]["step"], [7, 7, 7])


def test_states_that_do_not_fit_are_refused_and_change_nothing(make: Make, tmp_path: Path) -> None:
    env = make()
    env.reset(seed=3)
    state = env.get_state()
    WorldModel.create("tiny").save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="another world"):
        make(world=str(tmp_path / "other")).set_state(state)
    with pytest.raises(ValueError, match="holds 2 dreams; this engine dreams 3"):
        env.set_state(state.take([0, 1]))
    with pytest.raises(ValueError, match="version 99"):
        env.set_state(dataclasses.replace(state, version=99))
    with pytest.raises(TypeError, match="expected the state that get_state"):
        env.set_state(state.engine)  # type: ignore[arg-type]
    untouched = make()
    untouched.set_state(state)
    assert same(walk(env, 2), walk(untouched, 2))


def test_later_steps_leave_a_saved_state_alone(make: Make) -> None:
    env = make(obs_type="rgb", obs_size=32)
    env.reset(seed=3)
    env.step(np.zeros(3, np.int64))
    state = env.get_state()
    shown = pickle.dumps(state)
    env.reset(seed=9, options={"reset_mask": np.array([True, False, True])})
    walk(env, 3)
    assert pickle.dumps(state) == shown


class AnySequence(RuleBasedStateMachine):
    """Two batches that are told the same, whatever it is, and a single dream that is one of theirs."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.envs = make(num_envs=2, max_episode_steps=4), make(num_envs=2, max_episode_steps=4)
        self.states: list[DreamState] = []

    def both(self, told: Callable[[NeuralPacmanVectorEnv], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What both give, which must be the same and what the spaces promise."""
        one, other = (told(env) for env in self.envs)
        assert data_equivalence(one, other, exact=True)
        assert one[0] in self.envs[0].observation_space and np.isfinite(one[0]).all()
        return one

    @initialize(seed=integers(0, 3))
    def begin(self, seed: int) -> None:
        self.both(lambda env: env.reset(seed=seed))

    @rule(mask=lists(booleans(), min_size=2, max_size=2).filter(any), seed=none() | integers(0, 3))
    def reset(self, mask: list[bool], seed: int | None) -> None:
        self.both(lambda env: env.reset(seed=seed, options={"reset_mask": np.array(mask)}))

    @rule(actions=lists(integers(0, 4), min_size=2, max_size=2))
    def step(self, actions: list[int]) -> None:
        _, rewards, terminations, truncations, infos = self.both(lambda env: env.step(np.array(actions)))
        assert np.isfinite(rewards).all() and (infos["step"] < 4).all()
        assert (("_final_obs" in infos) == (terminations | truncations).any()) and (infos["step"] >= 0).all()

    @rule()
    def save(self) -> None:
        self.states.append(pickle.loads(pickle.dumps(self.envs[0].get_state())))

    @precondition(lambda self: self.states)
    @rule(which=integers(0, 99))
    def restore(self, which: int) -> None:
        for env in self.envs:
            env.set_state(self.states[which % len(self.states)])

    @rule(n=integers(1, 3), dream=integers(0, 1), seed=none() | integers(0, 3), action=integers(0, 4))
    def branch(self, n: int, dream: int, seed: int | None, action: int) -> None:
        one, other = (env.branch(n, dream, seed) for env in self.envs)
        seen = one.step(np.full(n, action))
        assert data_equivalence(seen, other.step(np.full(n, action)), exact=True)
        assert seen[0] in one.observation_space
        assert n == 1 or (seed is None) == np.array_equal(seen[0][0], seen[0][-1])


def test_any_sequence_keeps_determinism_and_the_spaces(make: Make) -> None:
    def machine() -> AnySequence:
        return AnySequence(make)

    few = settings(max_examples=12, stateful_step_count=12, deadline=None)
    run_state_machine_as_test(machine, settings=few)  # type: ignore[arg-type]  # any maker of machines will do


# --- branches


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_branches_are_one_dream_until_their_actions_differ(single: NeuralPacmanEnv, n: int) -> None:
    single.reset(seed=4)
    for action in (0, 2):
        single.step(action)
    branches = single.branch(n)
    assert branches.num_envs == n
    for action in (1, 1, 3):
        observations = branches.step(np.full(n, action))[0]
        assert (observations == observations[:1]).all()
    expected = [single.step(action)[0] for action in (1, 1, 3)][-1]
    np.testing.assert_allclose(observations[0], expected, rtol=0, atol=1e-4)
    if n > 1:
        apart = branches.step(np.arange(n) % 5)[0]
        assert not np.array_equal(apart[0], apart[1])


def test_branches_with_a_seed_differ_by_their_noise_and_repeat(make: Make) -> None:
    env = make()
    env.reset(seed=4)
    still = np.full(4, 4)
    noisy, again, other = (env.branch(4, dream=2, seed=seed).step(still)[0] for seed in (7, 7, 8))
    assert len({row.tobytes() for row in noisy}) == 4
    assert np.array_equal(noisy, again)
    assert np.array_equal(noisy[1], other[0])  # copy i has the noise of seed + i
    np.testing.assert_array_equal(env.branch(2, dream=2).history(0)[-1], env.history(2)[-1])


def test_a_branch_counts_its_steps_from_where_the_dream_began(make: Make, single: NeuralPacmanEnv) -> None:
    env = make(max_episode_steps=3)
    single.reset(seed=0)
    env.reset(seed=0)
    single.step(0)
    env.step(np.zeros(3, np.int64))
    for branches in (single.branch(2, max_episode_steps=3), env.branch(2)):
        cut = [branches.step(np.array([0, 1]))[3].tolist() for _ in range(3)]
        assert cut == [[False, False], [True, True], [False, False]]
    endless = single.branch(2)
    assert not any(endless.step(np.array([0, 1]))[3].any() for _ in range(3))


def test_impossible_branches_are_refused(make: Make) -> None:
    env = make()
    with pytest.raises(ResetNeeded):
        env.branch(2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="n is 0"):
        env.branch(0)
    with pytest.raises(IndexError):
        env.branch(2, dream=3)


# --- copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deep", "pickle"])
def test_a_copied_environment_dreams_on_by_itself(make: Make, tiny_world: Path, copied: Callable[[Any], Any]) -> None:
    env = make(max_episode_steps=4)
    env.reset(seed=3)
    walk(env, 2)
    env.action_space.seed(5)
    twin = copied(env)
    assert twin.world is env.world  # the networks are shared, not copied
    assert np.array_equal(twin.action_space.sample(), env.action_space.sample())
    assert same(walk(twin, 5), walk(env, 5))
    assert not same(walk(twin, 2, seed=1), walk(env, 2, seed=2))

    alone = gym.make("NeuralPacman-v0", world=str(tiny_world), device="cpu", obs_size=64, max_episode_steps=3)
    fresh = copied(alone)
    assert data_equivalence(fresh.reset(seed=1), alone.reset(seed=1))
    alone.step(1)
    midway = copied(alone)
    assert midway.spec == alone.spec
    assert [e.step(2)[3] for e in (alone, alone)] == [e.step(2)[3] for e in (midway, midway)] == [False, True]
    assert data_equivalence(alone.reset(), midway.reset())


# --- resets


def test_a_partial_reset_leaves_the_others_where_they_are(make: Make) -> None:
    env, undisturbed = make(obs_type="rgb", obs_size=512), make(obs_type="rgb", obs_size=512)
    for each in (env, undisturbed):
        each.reset(seed=3)
    before = walk(env, 2)[-1][0]
    walk(undisturbed, 2)
    mask = np.array([False, True, False])
    given = {"reset_mask": mask, "seed_index": 2}
    observations, infos = env.reset(seed=[None, 11, None], options=given)
    assert set(given) == {"reset_mask", "seed_index"}  # the caller's options are left alone
    assert np.array_equal(observations[[0, 2]], before[[0, 2]]) and not np.array_equal(observations[1], before[1])
    assert infos["_step"].tolist() == mask.tolist() and infos["seed_episode"][1] == Seeds.of(env.world)[2].episode
    assert env.np_random_seed == (3, 11, 5)
    on, off = walk(env, 2)[-1], walk(undisturbed, 2)[-1]
    assert np.array_equal(on[0][[0, 2]], off[0][[0, 2]])
    assert on[4]["step"].tolist() == [4, 2, 4]

    fresh = make(num_envs=1, obs_type="rgb")
    fresh.reset(seed=11, options={"seed_index": 2})
    difference = walk_one(fresh, 2).astype(int) - walk_one(branch_of(env, 1), 0)
    assert np.abs(difference).max() <= 1


def walk_one(env: NeuralPacmanVectorEnv, steps: int) -> np.ndarray:
    """The frame after the steps that `walk` gives the second of three dreams."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        env.step(rng.integers(5, size=3)[1:2])
    return env._dreams.frames()[0]


def branch_of(env: NeuralPacmanVectorEnv, dream: int) -> NeuralPacmanVectorEnv:
    return env.branch(1, dream)


def test_own_frames_start_every_dream(make: Make) -> None:
    env = make(obs_type="rgb")
    assert np.array_equal(env.reset(seed=np.array([4, 5, 6]))[0], env.reset(seed=np.int64(4))[0])
    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 48, 3), dtype=np.uint8)
    observations, infos = env.reset(seed=0, options={"frames": frames, "actions": [3]})
    assert (observations == observations[:1]).all() and infos["seed_episode"].tolist() == [-1, -1, -1]
    stepped = env.step(np.full(3, 3))[0]
    assert not np.array_equal(stepped[0], stepped[1])  # each dream's own noise


@pytest.mark.parametrize(
    ("seed", "options", "error", "message"),
    [
        ([1, 2], None, ValueError, "2 seeds for 3 dreams"),
        (1.5, None, TypeError, "The seed is 1.5"),
        (None, {"reset_mask": [True, False, True]}, TypeError, "reset_mask is a list"),
        (None, {"reset_mask": np.ones(3)}, TypeError, "array of float64"),
        (None, {"reset_mask": np.ones(2, bool)}, ValueError, r"shape \[2\]"),
        (None, {"reset_mask": np.zeros(3, bool)}, ValueError, "0 dreams to begin anew"),
        ([1, -2, None], None, ValueError, "numbers from 0 on"),
        ([1, 2.5, None], None, TypeError, r"The seed is \[1, 2.5, None\]"),
        (7, {"seed_index": 99}, ValueError, "seed_index is 99"),
        (None, {"seed_index": 99}, ValueError, "seed_index is 99"),
        (None, {"speed": 2}, ValueError, r"Unknown reset options \['speed'\]"),
    ],
)
def test_wrong_resets_are_refused_and_lose_nothing(
    make: Make, seed: Any, options: dict[str, Any] | None, error: type[Exception], message: str
) -> None:
    env, untouched = make(), make()
    for each in (env, untouched):
        each.reset(seed=3)
    with pytest.raises(error, match=message):
        env.reset(seed=seed, options=options)
    assert env.np_random_seed == untouched.np_random_seed
    assert [r.bit_generator.state for r in env.np_random] == [r.bit_generator.state for r in untouched.np_random]
    assert same(walk(env, 1), walk(untouched, 1))


def test_wrong_use_is_refused(make: Make) -> None:
    for wrong in ({"num_envs": 0}, {"max_episode_steps": 0}):
        with pytest.raises(ValueError, match="expected 1 or more"):
            make(**wrong)
    with pytest.raises(ValueError, match="render_mode is 'ansi'"):
        make(render_mode="ansi")
    env = make()
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(ResetNeeded):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    env.reset(seed=0)
    for actions in ([0, 1], [0, 1, 9], [0.0, 1.0, 2.0], 3):
        with pytest.raises(ValueError, match=r"(?i)action"):
            env.step(actions)  # type: ignore[arg-type]


# --- what is shown


def test_pictures_of_all_dreams(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    pictures = env.render()
    assert pictures is not None and len(pictures) == 3
    assert all(picture.shape == (512, 512, 3) and picture.dtype == np.uint8 for picture in pictures)

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = make(render_mode="human", num_envs=5)
    shown.reset(seed=0)
    window = shown._window
    assert window is not None
    mosaic = shown._dreams.mosaic()
    assert mosaic.shape == (2 * 170, 3 * 170, 3)
    np.testing.assert_array_equal(mosaic[170:, 170:340], shown._dreams.engine.decode(170)[4])
    assert not mosaic[170:, 340:].any()
    assert shown.render() is None
    shown.close()
    shown.close()
    assert shown._window is None


def test_a_window_cannot_be_copied_but_its_dream_can(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make(render_mode="human", num_envs=2)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert twin._window is None and env._window is not None
    assert same(walk(twin, 1), walk(env, 1))
    for each in (env, twin):
        each.close()

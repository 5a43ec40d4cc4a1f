"""The environment: a Gymnasium citizen without a warning, the same dream from the same seed, plain words otherwise."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded

import neural_pacman
from neural_pacman.actions import Action
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.episodes import read_episodes
from neural_pacman.frames import to_images, to_tensor
from neural_pacman.seeds import encode_history
from neural_pacman.world import WorldModel

ID = "NeuralPacman-v0"
Make = Callable[..., NeuralPacmanEnv]


@pytest.fixture
def make(tiny_world: Path) -> Make:
    """The bare environment on the tiny world."""
    return lambda **arguments: NeuralPacmanEnv(**{"world": str(tiny_world), "device": "cpu", **arguments})


@pytest.fixture(scope="module")
def generous_world(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that gives 100 points, takes a life and ends at every step."""
    world = WorldModel.from_pretrained(tiny_world, device="cpu")
    world.outcome.step.head.bias[world.outcome.config.points.index(100)] = 100.0
    world.outcome.step.head.bias[-1] = 100.0
    world.outcome.ending.head.bias[-1] = 100.0
    folder = tmp_path_factory.mktemp("worlds") / "generous"
    world.save_pretrained(folder)
    return folder


def picture(env: NeuralPacmanEnv) -> np.ndarray:
    frame = env.render()
    assert frame is not None and frame.shape == (512, 512, 3) and frame.dtype == np.uint8
    return frame


def play(env: gym.Env, actions: list[int]) -> list[tuple[Any, ...]]:
    return [env.step(action) for action in actions]


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    return all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(one, other, strict=True))


def random_actions(count: int) -> list[int]:
    return np.random.default_rng(7).integers(5, size=count).tolist()


# --- a Gymnasium citizen


def test_the_spec_survives_json(tiny_world: Path) -> None:
    arguments: dict[str, Any] = {
        "world": str(tiny_world),
        "obs_type": "latent",
        "reward": "clipped",
        "num_inference_steps": 1,
        "device": "cpu",
    }
    env = gym.make(ID, max_episode_steps=3, **arguments)
    spec = env.spec
    assert spec is not None
    again = EnvSpec.from_json(spec.to_json())
    assert again == spec and json.loads(spec.to_json())["kwargs"] == arguments
    copy = gym.make(again)
    assert np.array_equal(env.reset(seed=1)[0], copy.reset(seed=1)[0])
    assert same(play(env, [0, 1, 2]), play(copy, [0, 1, 2]))


def test_gymnasium_cuts_after_the_time_limit(tiny_world: Path) -> None:
    assert gym.spec(ID).max_episode_steps == 1000
    env = gym.make(ID, world=str(tiny_world), device="cpu", obs_type="latent", max_episode_steps=3)
    env.reset(seed=0)
    assert [step[3] for step in play(env, [0, 0, 0])] == [False, False, True]


def test_one_line_makes_it_without_an_import_and_the_import_is_light(tiny_world: Path) -> None:
    code = (
        "import sys, neural_pacman; assert 'torch' not in sys.modules and 'pygame' not in sys.modules;"
        "del sys.modules['neural_pacman'];"
        "import gymnasium; gymnasium.registry.pop('NeuralPacman-v0');"
        f"env = gymnasium.make('neural_pacman:NeuralPacman-v0', world={str(tiny_world)!r}, device='cpu');"
        "env.reset(seed=0); env.step(0); env.close(); assert 'pygame' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", neural_pacman.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(neural_pacman, name).__name__ == name
    assert name in dir(neural_pacman)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Ghost'"):
        neural_pacman.Ghost  # noqa: B018


# --- what is seen


def test_the_first_observation_is_the_decoded_last_latent(make: Make) -> None:
    env = make(render_mode="rgb_array")
    observation, info = env.reset(seed=0, options={"seed_index": 2})
    seed = env.seeds[2]
    assert np.array_equal(observation, to_images(env.world.decode(seed.latents[-1:]))[0])
    assert info == {"seed_episode": seed.episode, "seed_row": seed.row, "step": 0, "points": 0.0, "life_lost": False}
    assert np.array_equal(picture(env), observation)


def test_small_observations_average_areas_of_the_frame(make: Make) -> None:
    env = make(obs_size=64, render_mode="rgb_array")
    small, _ = env.reset(seed=0)
    assert np.abs(picture(env).reshape(64, 8, 64, 8, 3).mean(axis=(1, 3)) - small).max() <= 1


def test_observation_and_picture_share_one_decoding_and_latents_need_none(make: Make) -> None:
    for arguments, expected in (
        ({"render_mode": "rgb_array"}, 3),
        ({"render_mode": "rgb_array", "obs_size": 84}, 3),
        ({"obs_type": "latent"}, 0),
        ({"obs_type": "latent", "render_mode": "rgb_array"}, 3),
    ):
        env = make(**arguments)
        decoded: list[int] = []
        handle = env.world.autoencoder.dc.decoder.register_forward_hook(lambda *_, seen=decoded: seen.append(1))
        env.reset(seed=0)
        for action in (0, 1):
            if env.render_mode:
                env.render()
                env.render()
            env.step(action)
        if env.render_mode:
            env.render()
        handle.remove()
        assert len(decoded) == expected, arguments


def test_what_is_returned_belongs_to_the_caller(make: Make) -> None:
    for arguments in ({}, {"obs_type": "latent"}):
        env, untouched = make(render_mode="rgb_array", **arguments), make(render_mode="rgb_array", **arguments)
        untouched.reset(seed=0)
        observation, info = env.reset(seed=0)
        observation[:] = 0
        info.clear()
        picture(env)[:] = 0
        assert np.array_equal(picture(env), picture(untouched))
        assert same(play(env, [0, 1]), play(untouched, [0, 1]))


def test_human_mode_shows_every_step_and_closes_twice(make: Make) -> None:
    env = make(render_mode="human")
    env.close()
    env.reset(seed=0)
    env.step(0)
    assert env.render() is None
    env.close()
    env.close()
    make().close()


def test_rendering_without_a_mode_warns(make: Make) -> None:
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


# --- rewards and ends


def test_points_and_ends_are_the_worlds(generous_world: Path, make: Make) -> None:
    env, clipped = make(world=str(generous_world)), make(world=str(generous_world), reward="clipped")
    env.reset(seed=0)
    clipped.reset(seed=0)
    for step in (1, 2, 3):  # past its end too
        _, reward, terminated, truncated, info = env.step(0)
        assert (reward, terminated, truncated) == (100.0, True, False)
        assert (type(reward), type(terminated)) == (float, bool)
        assert info["points"] == 100.0 * step and info["step"] == step and info["life_lost"] is True
        _, reward, _, _, info = clipped.step(0)
        assert reward == 1.0 and info["points"] == 100.0 * step
    assert env.reset()[1]["points"] == 0.0


# --- determinism and states


def test_the_same_seed_gives_the_same_hundred_steps(make: Make) -> None:
    actions = random_actions(100)
    env, other = make(), make()
    assert np.array_equal(env.reset(seed=5)[0], other.reset(seed=5)[0])
    one = play(env, actions)
    torch.randn(3)  # nobody else's random numbers matter
    assert same(one, play(other, actions))
    assert not np.array_equal(one[0][0], one[99][0]), "a dream that stands still proves nothing"
    assert env.reset()[1] == other.reset()[1], "nor may the dreams after the seeded one differ"


def test_actions_and_noise_make_a_difference(make: Make) -> None:
    env = make(obs_type="latent")
    options = {"seed_index": 1}
    env.reset(seed=1, options=options)
    first = env.step(0)[0]
    env.reset(seed=1, options=options)
    assert not np.array_equal(first, env.step(1)[0])
    env.reset(seed=2, options=options)
    assert not np.array_equal(first, env.step(0)[0])


def test_resets_pick_different_seeds(make: Make) -> None:
    env = make(obs_type="latent")
    env.reset(seed=0)
    assert len({(info["seed_episode"], info["seed_row"]) for _, info in (env.reset() for _ in range(20))}) == len(
        env.seeds
    )


def test_a_state_saved_half_way_replays_the_second_half(make: Make) -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=3)
    actions = random_actions(100)
    play(env, actions[:50])
    shown = picture(env)
    state = env.get_state()
    second = play(env, actions[50:])
    after = env.reset()

    env.set_state(state)
    assert np.array_equal(picture(env), shown)
    assert same(second, play(env, actions[50:]))

    fresh = make(render_mode="rgb_array")
    fresh.set_state(pickle.loads(pickle.dumps(state)))
    assert np.array_equal(picture(fresh), shown)
    assert same(second, play(fresh, actions[50:]))
    again = fresh.reset()
    assert np.array_equal(after[0], again[0]) and after[1] == again[1], "the state holds np_random too"


def test_foreign_states_are_refused(make: Make, generous_world: Path) -> None:
    env = make()
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(ValueError, match="dreamed in another world"):
        make(world=str(generous_world)).set_state(state)
    with pytest.raises(ValueError, match="has version 99"):
        env.set_state(dataclasses.replace(state, version=99))
    with pytest.raises(TypeError, match="Given a bytes"):
        env.set_state(b"")  # type: ignore[arg-type]


# --- where dreams start


def test_a_dream_starts_from_the_callers_own_frames(make: Make, sample: Path) -> None:
    env = make()
    episode = next(read_episodes(sample))
    screens = np.stack([episode.raw(k) for k in range(3)])
    observation, info = env.reset(seed=0, options={"frames": screens, "actions": episode.actions[:2]})
    latents, *_ = encode_history(env.world, episode.frames(0, 3), episode.actions[:2])
    assert np.array_equal(observation, to_images(env.world.decode(latents[-1:]))[0])
    assert (info["seed_episode"], info["seed_row"]) == (-1, -1)
    env.step(0)
    env.reset(options={"frames": screens[:1]})
    env.reset(options={"frames": screens[:1], "actions": []})


def test_a_dream_starts_from_a_dataset(make: Make, sample: Path) -> None:
    env = make(dataset=str(sample))
    observation, info = env.reset(seed=4)
    episode = next(e for e in read_episodes(sample) if e.number == info["seed_episode"])
    latent = env.world.encode(to_tensor(episode.frames(info["seed_row"], info["seed_row"] + 1))[None])[0]
    difference = to_images(env.world.decode(latent))[0].astype(int) - observation
    assert np.abs(difference).max() <= 1, "info names the state that the dream began with"


# --- bad input

SCREENS = np.zeros((4, 552, 456, 3), np.uint8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sed_index": 1}, r"Unknown reset options \['sed_index'\]; expected some of \['seed_index'"),
        ({"seed_index": 4}, "seed_index is 4; expected a whole number from 0 to 3"),
        ({"seed_index": -1}, "seed_index is -1"),
        ({"seed_index": 0.5}, "seed_index is 0.5"),
        ({"seed_index": 0, "frames": SCREENS}, "both seed_index and frames"),
        ({"actions": [0]}, "frames is NoneType; expected upright screens"),
        ({"frames": SCREENS.tolist()}, "frames is list"),
        ({"frames": SCREENS.astype(np.float32)}, r"frames is float32 \[4, 552, 456, 3\]"),
        ({"frames": SCREENS[0]}, r"frames is uint8 \[552, 456, 3\]"),
        ({"frames": SCREENS[..., :1]}, r"frames is uint8 \[4, 552, 456, 1\]"),
        ({"frames": SCREENS[:0]}, "expected 1 to 32 frames"),
        ({"frames": np.zeros((33, 8, 8, 3), np.uint8)}, "expected 1 to 32 frames"),
        ({"frames": SCREENS}, r"actions has shape \[0\]; expected \[3\]"),
        ({"frames": SCREENS, "actions": [0, 1, 2, 3]}, r"actions has shape \[4\]; expected \[3\]"),
        ({"frames": SCREENS, "actions": [0, 1, 5]}, "Action 5 is outside"),
        ({"frames": SCREENS, "actions": [0.0, 1.0, 2.0]}, "dtype float64"),
    ],
)
def test_wrong_reset_options_are_refused(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().reset(options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"render_mode": "ansi"}, "render_mode is 'ansi'; expected one of None, 'human', 'rgb_array'"),
        ({"obs_type": "ram"}, "obs_type is 'ram'"),
        ({"obs_size": 0}, "obs_size is 0; expected a whole number from 1 to 512"),
        ({"obs_size": 1024}, "obs_size is 1024"),
        ({"obs_size": 84.0}, "obs_size is 84.0"),
        ({"reward": "score"}, "reward is 'score'"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_wrong_arguments_are_refused(make: Make, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_what_is_not_there_is_said(make: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no world 'mspacman'"):
        make(world="mspacman")
    with pytest.raises(FileNotFoundError, match="No dataset at"):
        make(dataset=str(tmp_path / "nothing"))


def test_nothing_happens_before_reset(make: Make) -> None:
    env = make(render_mode="rgb_array")
    for act in (lambda: env.step(0), env.render, env.get_state):
        with pytest.raises(ResetNeeded, match=r"before reset\(\); call reset"):
            act()


@pytest.mark.parametrize("action", [5, -1, 1.0, "LEFT", None, [0], np.array([0, 1])], ids=str)
def test_actions_outside_the_space_are_refused(make: Make, action: Any) -> None:
    env = make(obs_type="latent")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected an integer in Discrete\(5\) \(0=LEFT, 1=RIGHT"):
        env.step(action)


@pytest.mark.parametrize("action", [Action.UP, np.int64(2), np.array(2)], ids=repr)
def test_every_kind_of_integer_is_an_action(make: Make, action: Any) -> None:
    env = make(obs_type="latent")
    env.reset(seed=0)
    first = env.step(action)[0]
    env.reset(seed=0)
    assert np.array_equal(first, env.step(2)[0])

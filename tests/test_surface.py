"""What Gymnasium offers around one environment, on every id that we register: checkers, rendering, play, wrappers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pygame
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.wrappers import (
    FrameStackObservation,
    GrayscaleObservation,
    RecordEpisodeStatistics,
    RecordVideo,
    ResizeObservation,
)
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import neural_pacman  # noqa: F401  registers
from neural_pacman.actions import Action

IDS = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("neural_pacman.")]
Make = Callable[..., Any]

pytestmark = [pytest.mark.parametrize("name", IDS), pytest.mark.usefixtures("loaded_world")]


@pytest.fixture
def make(name: str, tiny_world: Path) -> Make:
    """The environment of this id as users get it, on the tiny world."""
    return lambda **arguments: gym.make(name, **{"world": str(tiny_world), "device": "cpu", **arguments})


def walk(env: gym.Env, actions: list[int]) -> list[tuple[Any, ...]]:
    return [env.step(action) for action in actions]


# --- checkers


@pytest.mark.parametrize("arguments", [{}, {"obs_size": 84}, {"obs_type": "latent"}], ids=str)
def test_gymnasiums_checker_has_nothing_to_say(make: Make, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(**arguments).unwrapped)


@pytest.mark.parametrize("arguments", [{}, {"obs_size": 84}], ids=str)
def test_stable_baselines3s_checker_has_nothing_to_say(make: Make, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(make(**arguments))


def test_stable_baselines3_only_remarks_that_latents_are_no_pictures(make: Make) -> None:
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        sb3_check_env(make(obs_type="latent"))
    assert remarks and all("image" in str(remark.message) for remark in remarks)


def test_stable_baselines3_learns_from_it(make: Make) -> None:
    env = make(obs_size=36, max_episode_steps=5)
    agent = PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu").learn(16)
    assert [episode["l"] for episode in agent.ep_info_buffer or []] == [5, 5, 5]
    assert agent.predict(env.reset()[0])[0] in env.action_space


# --- seen and played


def test_a_list_of_pictures_collects_every_step_since_it_was_asked_for(make: Make) -> None:
    env, one = make(render_mode="rgb_array_list", obs_size=64), make(render_mode="rgb_array", obs_size=64)
    expected = []
    for each in (env, one):
        each.reset(seed=3)
    expected.append(one.render())
    for action in (0, 2):
        env.step(action)
        one.step(action)
        expected.append(one.render())
    pictures: Any = env.render()
    assert np.array_equal(pictures, expected) and np.asarray(pictures).shape == (3, 512, 512, 3)
    env.step(1)
    assert len(env.render()) == 1


def test_a_person_watches(make: Make) -> None:
    env, picture = make(render_mode="human", obs_type="latent"), make(render_mode="rgb_array", obs_type="latent")
    for each in (env, picture):
        each.reset(seed=3)
        each.step(0)
    base: Any = env.unwrapped
    shown = pygame.surfarray.array3d(base._window._window.get_surface()).swapaxes(0, 1)
    assert np.array_equal(shown, np.asarray(picture.render()))
    assert env.render() is None
    env.close()
    env.close()


def test_a_person_plays(make: Make) -> None:
    """Gymnasium's own player, with keys that go down and up between its steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of plots without a display
        from gymnasium.utils.play import play
    env = make(render_mode="rgb_array", obs_size=64, max_episode_steps=4)
    left, up = pygame.K_LEFT, pygame.K_UP
    presses = iter(
        [
            [(pygame.KEYDOWN, left)],
            [(pygame.KEYDOWN, up)],
            [(pygame.KEYUP, left)],
            [(pygame.KEYUP, up), (pygame.KEYDOWN, pygame.K_RIGHT)],
            [(pygame.KEYUP, pygame.K_RIGHT), (pygame.KEYDOWN, pygame.K_DOWN)],
            [(pygame.KEYDOWN, pygame.K_ESCAPE)],
        ]
    )
    done: list[int] = []
    ends: list[bool] = []
    drawn: list[Any] = []

    def callback(_before: Any, after: Any, action: int, _reward: float, _end: bool, cut: bool, info: Any) -> None:
        if drawn and not ends[-1]:  # the window still shows the step before
            surface = pygame.display.get_surface()
            assert surface is not None and np.array_equal(pygame.surfarray.array3d(surface).swapaxes(0, 1), drawn[-1])
        done.append(action)
        ends.append(cut)
        drawn.append(env.render())
        for kind, key in next(presses):
            pygame.event.post(pygame.event.Event(kind, key=key))

    play(env, seed=0, noop=int(Action.NO_ACTION), callback=callback, fps=1000)
    assert done == [Action.NO_ACTION, Action.LEFT, Action.NO_ACTION, Action.UP, Action.RIGHT, Action.DOWN]
    assert ends == [False, False, False, True, False, False]
    env.close()


# --- wrappers


def test_frames_stack(make: Make) -> None:
    env, plain = FrameStackObservation(make(obs_size=48), 4), make(obs_size=48)
    stacked, _ = env.reset(seed=1)
    first, _ = plain.reset(seed=1)
    assert np.array_equal(stacked, np.stack([first] * 4))
    seen = [step[0] for step in walk(plain, [0, 1, 2, 3])]
    stacks = [step[0] for step in walk(env, [0, 1, 2, 3])]
    assert np.array_equal(stacks[-1], seen) and stacks[-1] in env.observation_space
    assert np.array_equal(stacks[1], [first, first, *seen[:2]])


def test_colours_can_be_given_up(make: Make) -> None:
    env, plain = GrayscaleObservation(make(obs_size=48)), make(obs_size=48)
    gray, _ = env.reset(seed=1)
    colour, _ = plain.reset(seed=1)
    assert gray in env.observation_space and gray.shape == (48, 48)
    assert np.abs(colour @ np.array([0.2125, 0.7154, 0.0721]) - gray).max() <= 1


def test_pictures_become_another_size(make: Make) -> None:
    env = ResizeObservation(make(), (128, 128))
    small, _ = env.reset(seed=1)
    own, _ = make(obs_size=128).reset(seed=1)
    assert small in env.observation_space and small.shape == (128, 128, 3)
    assert np.abs(small.astype(int) - own).max() <= 1  # both average areas


def test_episodes_are_counted(make: Make) -> None:
    env = RecordEpisodeStatistics(make(obs_type="latent", max_episode_steps=3))
    for _ in range(2):
        env.reset(seed=0)
        steps = walk(env, [0, 1, 2])
    assert list(env.length_queue) == [3, 3]
    statistics = steps[-1][4]["episode"]
    assert statistics["r"] == sum(step[1] for step in steps) == steps[-1][4]["points"] and statistics["l"] == 3


def test_episodes_become_videos(make: Make, tmp_path: Path) -> None:
    env = make(render_mode="rgb_array", obs_type="latent", max_episode_steps=4)
    recorded: Any = RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda number: number == 1)
    pictures = []
    for _ in range(2):
        recorded.reset(seed=1)
        for action in range(4):
            pictures.append(env.render())
            recorded.step(action)
    assert np.array_equal(recorded.recorded_frames, [*pictures[4:], env.render()])
    recorded.close()
    (file,) = (tmp_path / "videos").iterdir()
    assert imageio_ffmpeg.count_frames_and_secs(str(file)) == (5, pytest.approx(5 / 15, abs=0.01))


# --- specs


@pytest.mark.parametrize("vectorization_mode", [None, "sync"])
def test_a_batchs_spec_survives_json(name: str, tiny_world: Path, vectorization_mode: Any) -> None:
    arguments: dict[str, Any] = {"world": str(tiny_world), "obs_type": "latent", "device": "cpu"}
    envs = gym.make_vec(name, num_envs=2, vectorization_mode=vectorization_mode, max_episode_steps=3, **arguments)
    assert envs.spec is not None
    text = envs.spec.to_json()
    spec = EnvSpec.from_json(text)
    assert spec == envs.spec and json.loads(text)["kwargs"].items() >= arguments.items()
    again = gym.make_vec(spec)
    assert type(again) is type(envs) and again.num_envs == 2 and again.spec == envs.spec
    for each in (envs, again):
        each.reset(seed=1)
    for action in range(4):
        actions = np.full(2, action)
        assert data_equivalence(envs.step(actions), again.step(actions), exact=True)


# --- sharing


def test_many_environments_hold_one_world(make: Make, name: str, tiny_world: Path) -> None:
    envs: list[Any] = [make(obs_type="latent") for _ in range(8)]
    envs += [gym.make_vec(name, 4, world=str(tiny_world), device="cpu") for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    assert len({id(env.unwrapped.world) for env in envs}) == 1
    assert len({env.unwrapped.seeds[1].latents.data_ptr() for env in envs}) == 1

"""Playing: keys reach the very next step, dreams follow each other, and videos are whole or not there."""

from __future__ import annotations

import itertools
import re
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest

from neural_pacman.actions import NUM_ACTIONS, Action
from neural_pacman.play import PLAYERS, Dream, Play, Steering, interruptible, play, play_in_window, play_script
from neural_pacman.renderer import Key, Renderer
from neural_pacman.video import Video
from tests.test_video import read_video

COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (90, 90, 90)]


class ColorGame(gym.Env[np.ndarray, np.integer]):
    """A game with nothing to dream: each step shows its action's colour, scores ten, and ends after `length` steps."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(NUM_ACTIONS)

    def __init__(self, length: int = 1000) -> None:
        self.length = length
        self.seeds: list[int | None] = []
        self.starts: list[dict[str, Any] | None] = []
        self.actions: list[Action] = []
        self.steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.seeds.append(seed)
        self.starts.append(options)
        self.steps = 0
        return np.zeros((64, 64, 3), np.uint8), {}

    def step(self, action: np.integer | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.actions.append(Action(int(action)))
        self.steps += 1
        return np.full((64, 64, 3), COLORS[action], np.uint8), 10.0, self.steps >= self.length, False, {}


class Person(Renderer):
    """The real window, with somebody at its keyboard.

    `script[i]` is pressed (+) and let go (-) while frame `i` stands there, at the end of the wait for the next step.
    """

    def __init__(self, script: dict[int, str]) -> None:
        super().__init__("a person plays")
        pygame.event.clear()
        self._script = script
        self.titles: list[str] = []
        self.shown: list[np.ndarray] = []

    def show(self, frame: np.ndarray, message: str = "") -> None:
        super().show(frame, message)
        for sign, name in re.findall(r"([+-])(\w+)", self._script.get(len(self.shown), "")):
            kind = pygame.KEYDOWN if sign == "+" else pygame.KEYUP
            pygame.event.post(pygame.Event(kind, key=pygame.key.key_code(name)))
        self.titles.append(self.title)
        self.shown.append(frame)


def played(script: dict[int, str], game: ColorGame, steps: int | None = None) -> Person:
    with Person(script) as person:
        play_in_window(Play(steps=steps), Dream(game, seed=0), person, "tiny on cpu")
    return person


def test_a_held_key_steers_from_the_very_next_step_until_it_is_let_go() -> None:
    game = ColorGame()
    person = played({1: "+left", 3: "-left", 5: "+up", 6: "+right", 7: "-right", 8: "-up"}, game, steps=10)
    names = "NO_ACTION LEFT LEFT NO_ACTION NO_ACTION UP RIGHT UP NO_ACTION NO_ACTION"
    assert game.actions == [Action[name] for name in names.split()]
    # The frame that a key led to is the next one shown.
    assert tuple(person.shown[2][0, 0]) == COLORS[Action.LEFT]


def test_a_key_tapped_between_two_steps_steers_one_of_them() -> None:
    game = ColorGame()
    played({0: "+up", 1: "+left-left", 3: "-up+down-down"}, game, steps=5)
    assert [action.name for action in game.actions] == ["UP", "LEFT", "UP", "DOWN", "NO_ACTION"]


def test_steering_ignores_other_keys() -> None:
    steering = Steering()
    steering.feed(Key("q", True))
    assert steering.take() == Action.NO_ACTION


@pytest.mark.parametrize("script", [{3: "+escape"}, {3: "+left+escape"}])
def test_escape_quits_before_another_step(script: dict[int, str]) -> None:
    game = ColorGame()
    played(script, game)
    assert len(game.actions) == 3


def test_r_begins_the_next_seed_and_shows_how_it_begins() -> None:
    game = ColorGame()
    person = played({2: "+r-r", 5: "+r-r"}, game, steps=6)
    assert game.seeds == [0, 1, 2]
    assert [i for i, frame in enumerate(person.shown) if not frame.any()] == [0, 3, 6]


def test_an_ended_dream_waits_for_enter_and_goes_on_with_the_next_seed() -> None:
    game = ColorGame(length=3)
    played({0: "+return", 6: "+return"}, game, steps=5)
    assert game.seeds == [0, 1]
    assert len(game.actions) == 5
    assert game.steps == 2


def test_the_title_tells_points_step_rate_world_and_device() -> None:
    person = played({}, ColorGame(), steps=4)
    assert re.search(r"30 points +step 3 +\d+ of 15 fps +tiny on cpu", person.titles[-1])


@pytest.mark.parametrize("name", PLAYERS)
def test_scripted_players_repeat_themselves_from_a_seed_and_use_every_direction(name: str) -> None:
    first, again = (list(itertools.islice(PLAYERS[name](np.random.default_rng(7)), 300)) for _ in range(2))
    assert first == again
    assert set(Action) == set(first)


def test_the_demo_holds_its_directions() -> None:
    actions = list(itertools.islice(PLAYERS["demo"](np.random.default_rng(0)), 300))
    runs = [(action, len(list(run))) for action, run in itertools.groupby(actions)]
    held = [length for action, length in runs[:-1] if action != Action.NO_ACTION]
    assert min(held) >= 4
    assert len(held) > 25


def test_a_script_plays_one_dream_after_the_other_into_the_video(tmp_path: Path) -> None:
    game = ColorGame(length=10)
    with Video(tmp_path / "dream.mp4", fps=15) as video:
        play_script(Play(steps=25, seed=4, seed_index=2), Dream(game, 4, 2, video))
    assert game.seeds == [4, 5, 6]
    assert game.starts == [{"seed_index": 2}] * 3
    _, frames = read_video(tmp_path / "dream.mp4")
    assert len(frames) == 25 + 3  # each dream's first frame too
    colors = np.array([(0, 0, 0), *(COLORS[action] for action in game.actions[:10])])
    assert np.abs(frames[:11, 32, 32].astype(int) - colors).max() < 16


def test_a_demo_lasts_fifteen_seconds_of_the_game() -> None:
    game = ColorGame()
    play_script(Play(), Dream(game, 0))
    assert len(game.actions) == 225


def test_an_unwritable_video_is_refused_before_the_world_is_even_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Cannot write a video into .*missing"):
        play(Play(world="no such world", headless=True, out=tmp_path / "missing" / "v.mp4"))


@pytest.mark.parametrize("setting", ["seed", "seed_index", "steps", "fps", "num_inference_steps"])
def test_a_setting_out_of_its_range_is_named(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"--{setting.replace('_', '-')} is -1"):
        play(Play(**{setting: -1}))  # type: ignore[arg-type]


def test_the_first_interrupt_is_a_request_and_the_second_an_interrupt() -> None:
    # Shells start what runs in the background deaf to interrupts.
    given = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruptible() as asked:
            signal.raise_signal(signal.SIGINT)
            assert asked.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, given)

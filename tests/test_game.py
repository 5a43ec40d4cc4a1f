"""The game on its tape: going back is going back to the very same dream, however long it has been dreamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neural_pacman.actions import Action
from neural_pacman.engine import shared_world
from neural_pacman.env import NeuralPacmanEnv
from neural_pacman.game import Game
from neural_pacman.session import Begin, DreamOn, Event, Rewind, Step
from neural_pacman.tape import BLOCK_ROWS, Rows


@pytest.fixture
def game(lively_world: Path) -> Game:
    env = NeuralPacmanEnv(str(lively_world), render_mode="rgb_array", device="cpu")
    return Game(env, observe=lambda frame, latent: frame[::64, ::64].copy(), keep=True)


def some_actions(count: int) -> list[Action]:
    return [Action(int(number)) for number in np.random.default_rng(5).integers(0, 5, count)]


def test_rewinding_goes_back_to_the_same_dream_and_the_same_actions_lead_on_alike(game: Game) -> None:
    game.begin(3)
    actions = some_actions(BLOCK_ROWS + 6)
    frames, checks, points, states = [game.frame], [game.checksum], [0.0], [game.env.get_state()]
    for action in actions:
        game.step(action)
        frames.append(game.frame)
        checks.append(game.checksum)
        points.append(game.points)
        states.append(game.env.get_state())
    assert points[-1] > 0
    for step in reversed(range(len(actions))):
        assert game.rewind()
        assert (game.steps, game.points, game.checksum) == (step, points[step], checks[step])
        assert np.array_equal(game.frame, frames[step])
        if step in (BLOCK_ROWS, 40, 7, 0):
            now, then = game.env.get_state(), states[step]
            assert all(bool((a == b).all()) for a, b in zip(now.engine.latents, then.engine.latents, strict=True))
            assert bool((now.engine.actions == then.engine.actions).all())
            assert bool((now.engine.generators[0] == then.engine.generators[0]).all())
            assert {name: values.tolist() for name, values in now.progress.items()} == {
                name: values.tolist() for name, values in then.progress.items()
            }
            assert all(a.dtype == b.dtype for a, b in zip(now.progress.values(), then.progress.values(), strict=True))
    assert not game.rewind()
    for step, action in enumerate(actions[:45], start=1):
        game.step(action)
        assert game.checksum == checks[step]
    game.rewind()
    game.step(Action((actions[44] + 1) % 5))
    assert game.checksum != checks[45]


def test_a_dream_that_settles_is_the_same_after_going_back() -> None:
    game = Game(NeuralPacmanEnv(render_mode="rgb_array", device="cpu"), keep=True)
    game.begin(0)
    checks, frames = [], [game.frame]
    for action in some_actions(9):
        game.step(action)
        checks.append(game.checksum)
        frames.append(game.frame)
    assert shared_world("pacman", "cpu").config.settled_share > 0
    for _ in range(6):
        game.rewind()
    for step, action in enumerate(some_actions(9)[3:], start=3):
        game.step(action)
        assert game.checksum == checks[step], step
    game.begin(1)
    (recording,) = game.recordings()  # shows what was shown
    assert all(np.array_equal(kept, frame) for kept, frame in zip(recording.frames, frames[:9], strict=True))


def test_an_agent_sees_the_branch_that_is_played(game: Game) -> None:
    game.begin(0)
    seen = [game.observations(3)[-1]]
    for action in some_actions(8):
        game.step(action)
        seen.append(game.observations(3)[-1])
        assert all(np.array_equal(a, b) for a, b in zip(game.observations(3), seen[-3:], strict=False))
    for _ in range(5):
        game.rewind()
    assert [np.array_equal(a, b) for a, b in zip(game.observations(3), seen[1:4], strict=True)] == [True] * 3
    game.step(Action((some_actions(8)[3] + 1) % 5))
    newest = game.observations(2)
    assert np.array_equal(newest[0], seen[3]) and not np.array_equal(newest[1], seen[4])
    assert len(game.observations(100)) == 5


def test_an_end_holds_until_it_is_dreamed_past_or_rewound(game: Game) -> None:
    told: list[Event] = []
    game._log = told.append
    game.begin(1)
    while not game.over:
        game.step(Action.UP)
        assert game.steps < 300
    length = game.steps
    game.dream_on()
    game.dream_on()
    game.step(Action.LEFT)
    assert not game.over
    for _ in range(2):
        game.rewind()
    game.step(Action.UP)
    assert game.over and game.steps == length
    assert [type(event) for event in told[length:]] == [Step, DreamOn, Step, Rewind, Rewind, Step]
    (dream,) = game.recordings()
    assert dream.dones.tolist() == [False] * (length - 1) + [True]
    game.begin(2)
    assert isinstance(told[-1], Begin) and not game.over and game.action is None


def test_rows_are_those_that_were_kept() -> None:
    rows = Rows()
    for number in range(3 * BLOCK_ROWS):
        rows.append(np.full(2, number))
    for _ in range(BLOCK_ROWS + 5):
        rows.pop()
    for number in range(500, 510):
        rows.append(np.full(2, number))
    kept = [*range(2 * BLOCK_ROWS - 5), *range(500, 510)]
    assert [int(rows[index][1]) for index in range(len(kept))] == kept

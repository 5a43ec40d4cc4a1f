"""Scripted players: they repeat themselves from a seed, and a file of actions is checked before anything is played."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from neural_pacman.actions import Action
from neural_pacman.players import PLAYERS, actions_from


def played(source: str | Path, seed: int = 0, count: int = 300) -> list[Action]:
    return list(itertools.islice(actions_from(str(source), np.random.default_rng(seed)), count))


@pytest.mark.parametrize("name", PLAYERS)
def test_scripted_players_repeat_themselves_from_a_seed_and_use_every_direction(name: str) -> None:
    first = played(name, seed=7)
    assert first == played(name, seed=7) != played(name, seed=8)
    assert set(Action) == set(first) and len(first) == 300


def test_the_demo_holds_its_directions() -> None:
    runs = [(action, len(list(run))) for action, run in itertools.groupby(played("demo"))]
    held = [length for action, length in runs[:-1] if action != Action.NO_ACTION]
    assert min(held) >= 4
    assert len(held) > 25


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file_plays_its_lines_and_ends(tmp_path: Path, ending: str) -> None:
    lines = ["# to the corner", "LEFT", "", "  down  # held", "4", "no_action", "0", "# 1", "Up"]
    file = tmp_path / "actions.txt"
    file.write_bytes("\ufeff".encode() + ending.join(lines).encode())
    expected = [Action.LEFT, Action.DOWN, Action.NO_ACTION, Action.NO_ACTION, Action.LEFT, Action.UP]
    assert played(file) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("LEFT\n\n jump # high\nfly", r"line 3, is 'jump # high'; expected an action: LEFT, .*, or its number, 0 to 4"),
        ("5", "line 1, is '5'"),
        ("-1", "line 1, is '-1'"),
        ("LEFT RIGHT", "line 1, is 'LEFT RIGHT'"),
        ("", "has no action in it"),
        ("# nothing\n\n", "has no action in it"),
    ],
)
def test_a_file_with_a_line_that_is_no_action_is_refused_at_once(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "actions.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"{file.name}.*{said}"):
        actions_from(str(file), np.random.default_rng(0))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="video.mp4 is no text in UTF-8"):
        actions_from(str(tmp_path / "video.mp4"), np.random.default_rng(0))


@pytest.mark.parametrize("name", ["", "demos"])
def test_a_file_that_is_not_there_is_named_beside_what_else_there_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"No file of actions at .*; expected one, or demo or random"):
        actions_from(str(tmp_path / name), np.random.default_rng(0))

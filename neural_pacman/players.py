"""Who plays when nobody does: a script that strolls about, dice, or a file of actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from neural_pacman.actions import ACTION_ORDER, NUM_ACTIONS, Action

WORDS = {action.name: action for action in Action} | {str(action.value): action for action in Action}
"""What a line of a file of actions may say, in any case."""


def demo_actions(rng: np.random.Generator) -> Iterator[Action]:
    """Somebody strolling about: a turn every half second or so, keys held until the corner and then let go.

    It sees nothing of the game. Holding a key across the direction of travel turns Pac-Man at the next junction that
    allows it, and a wall in that direction changes nothing, so blind turns from axis to axis cover much of the maze.
    """
    across = {
        Action.LEFT: (Action.UP, Action.DOWN),
        Action.RIGHT: (Action.UP, Action.DOWN),
        Action.UP: (Action.LEFT, Action.RIGHT),
        Action.DOWN: (Action.LEFT, Action.RIGHT),
    }
    direction = Action.LEFT
    while True:
        yield from [direction] * int(rng.integers(4, 10))
        yield from [Action.NO_ACTION] * int(rng.integers(0, 5))
        direction = across[direction][int(rng.integers(2))]


def random_actions(rng: np.random.Generator) -> Iterator[Action]:
    """Any of the five actions, each as likely, anew at every step."""
    while True:
        yield Action(int(rng.integers(NUM_ACTIONS)))


PLAYERS: dict[str, Callable[[np.random.Generator], Iterator[Action]]] = {
    "demo": demo_actions,
    "random": random_actions,
}


def actions_from(source: str, rng: np.random.Generator) -> Iterable[Action]:
    """The actions of a player in `PLAYERS`, who never ends, or those of a text file (`read_actions`), which end.

    A file that bears a player's name is named with its folder: "./demo". Raises what `read_actions` raises, at once.
    """
    return PLAYERS[source](rng) if source in PLAYERS else read_actions(Path(source))


def read_actions(file: Path) -> list[Action]:
    """The actions in a text file: one a line, by its name in any case or its number.

    Blank lines, and what follows a #, say nothing. Raises FileNotFoundError when there is no such file, ValueError when
    it is no text, has a line that is no action (which is named), or none that is one.
    """
    if not file.is_file():
        raise FileNotFoundError(f"No file of actions at {file}; expected one, or {' or '.join(PLAYERS)}.")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}); expected one action a line.") from error
    actions = []
    for number, line in enumerate(lines, start=1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        if said.upper() not in WORDS:
            raise ValueError(
                f"{file}, line {number}, is {line.strip()!r}; expected an action: {', '.join(ACTION_ORDER)}, or its "
                f"number, 0 to {NUM_ACTIONS - 1}."
            )
        actions.append(WORDS[said.upper()])
    if not actions:
        raise ValueError(f"{file} has no action in it; expected one a line: {', '.join(ACTION_ORDER)}.")
    return actions

"""Which of the maze's pellets stand in a prepared frame.

Each place is compared with the game's own picture of its pellet there: the strength at which that picture fits best (0
for black ground, 1 for the pellet itself, 0.5 for one that has half faded) says whether a pellet stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from neural_pacman.frames import prepare
from training.maze import PELLET_XY, POWER, TILE_SIZE
from training.sprites import SCREEN_HEIGHT, SCREEN_WIDTH, Sprite, hidden_by, to_screen_xy

MIN_STRENGTH = 0.55
"""Smallest strength of a standing pellet: one that has half faded is none."""
MIN_IN_SIGHT = 0.5
"""Smallest share of a pellet's picture that no sprite may cover, for the place to be judged."""
MAX_REMAINDER = 0.5
"""Largest share of what is seen at a place that a pellet does not explain, root mean square in units of a whole pellet:
beyond it something else is there, such as a sprite that was not found."""

_SMALL = ".##.\n####\n####\n.##."
_POWER_RADIUS = 8.2
"""Of a power pellet's disc, screen px."""
_SMALL_REACH, _POWER_REACH = 3, 9
"""Half the side of the square that is looked at, frame px: the pellet and a dark ring around it."""


def read_pellets(frame: np.ndarray, sprites: list[Sprite]) -> tuple[np.ndarray, np.ndarray]:
    """Which places hold a standing pellet, and which cannot be judged because a sprite or a blot is over them.

    Args:
        frame: a prepared frame, uint8 `[512, 512, 3]`.
        sprites: the actors found in it.

    Returns:
        `standing` and `hidden`, bool `[P]` each and never both, in the order of `PELLET_XY`.
    """
    covered = hidden_by(sprites)
    strength, remainder, in_sight = (np.empty(len(POWER)) for _ in range(3))
    for patch in _patches():
        seen = frame[patch.rows, patch.columns].astype(np.float32)
        weight = ~covered[patch.rows, patch.columns]
        whole = np.square(patch.picture).sum(axis=(1, 2))
        shown = np.square(patch.picture * weight).sum(axis=(1, 2))
        white = np.minimum(np.minimum(seen[..., 0], seen[..., 1]), seen[..., 2])
        fit = (white * patch.picture * weight).sum(axis=(1, 2)) / np.maximum(shown, 1)
        rest = (seen - (fit[:, None, None] * patch.picture)[..., None]) * weight[..., None]
        strength[patch.places], in_sight[patch.places] = fit, shown / whole
        remainder[patch.places] = np.sqrt(np.square(rest).sum(axis=(1, 2, 3)) / (3 * whole))
    hidden = (in_sight < MIN_IN_SIGHT) | (remainder > MAX_REMAINDER)
    return (strength >= MIN_STRENGTH) & ~hidden, hidden


@dataclass(frozen=True)
class _Patch:
    """The squares around all places of one size of pellet.

    Attributes:
        places: int `[N]`, their numbers.
        rows, columns: int `[N, S, 1]` and `[N, 1, S]`, the pixels of their squares.
        picture: float32 `[N, S, S]`, brightness 0 to 255 where a pellet stands.
    """

    places: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    picture: np.ndarray


@cache
def _patches() -> tuple[_Patch, ...]:
    picture = prepare(_full_maze())[..., 0].astype(np.float32)
    patches = []
    for places, reach in ((np.flatnonzero(~POWER), _SMALL_REACH), (np.flatnonzero(POWER), _POWER_REACH)):
        x, y = np.floor(PELLET_XY[places]).astype(int).T[:, :, None]
        square = np.arange(-reach, reach + 1)
        rows, columns = (y + square)[:, :, None], (x + square)[:, None, :]
        patches.append(_Patch(places, rows, columns, picture[rows, columns]))
    return tuple(patches)


def _full_maze() -> np.ndarray:
    """A screen with every pellet and nothing else, uint8 `[552, 456, 3]`."""
    y, x = np.mgrid[:TILE_SIZE, :TILE_SIZE] - (TILE_SIZE - 1) / 2
    small = np.pad(np.array([list(line) for line in _SMALL.split("\n")]) == "#", (TILE_SIZE - 4) // 2)
    shapes = {False: small, True: x**2 + y**2 <= _POWER_RADIUS**2}
    screen = np.zeros((SCREEN_HEIGHT, SCREEN_WIDTH, 3), dtype=np.uint8)
    for (middle_x, middle_y), power in zip(to_screen_xy(PELLET_XY).round().astype(int), POWER, strict=True):
        left, top = middle_x - TILE_SIZE // 2, middle_y - TILE_SIZE // 2
        screen[top : top + TILE_SIZE, left : left + TILE_SIZE][shapes[bool(power)]] = 255
    return screen

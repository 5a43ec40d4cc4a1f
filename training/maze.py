"""The classic maze: where its walls and its pellets are, on a prepared frame.

The screen is 19 x 22 tiles of 24 px. Every actor walks from one tile's middle to the next, so that the paths between
the middles of open tiles are the only places where an actor is ever seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.sprites import SPRITE_SIZE, Sprite, to_frame_xy

MAZE = """
###################
#........#........#
#o##.###.#.###.##o#
#.##.###.#.###.##.#
#.................#
#.##.#.#####.#.##.#
#....#...#...#....#
####.###.#.###.####
####.#..._...#.####
####.#.##_##.#.####
____...#___#...____
####.#.#####.#.####
####.#.......#.####
####.#.#####.#.####
#........#........#
#.##.###.#.###.##.#
#o.#....._.....#.o#
##.#.#.#####.#.#.##
#....#...#...#....#
#.######.#.######.#
#.................#
###################
"""[1:-1]
"""Wall or out of bounds (#), a pellet's place (.), a power pellet's (o), a path without one (_): the tunnels, the
ghosts' house and its door."""

_TILES = np.array([list(line) for line in MAZE.split("\n")])
TILE_SIZE = SPRITE_SIZE
"""Side of a tile, screen px; a sprite is as large."""

WALL: np.ndarray = _TILES == "#"
"""bool `[22, 19]` (rows, columns of tiles), True where no actor may be."""


def _middles(tiles: np.ndarray) -> np.ndarray:
    """Middles of the tiles that a bool `[22, 19]` names, row by row, in frame px, float `[N, 2]`."""
    return to_frame_xy((np.argwhere(tiles)[:, ::-1] + 0.5) * TILE_SIZE)


_PLACES = (_TILES == ".") | (_TILES == "o")
PELLET_XY: np.ndarray = _middles(_PLACES)
"""float `[181, 2]`, the middles (x, y) of the places where pellets stand, in pixels of a prepared frame."""
POWER: np.ndarray = _TILES[_PLACES] == "o"
"""bool `[181]`, which of them are power pellets."""

OFF_PATH = 6.0
"""Distance from the nearest path, frame px, beyond which an actor is in a wall: a corridor leaves it 3.7 to each side.

Read on real frames, every actor lies within 2 px of a path."""


def _paths() -> Iterator[tuple[float, float, float, float]]:
    """The straight pieces of path between middles of neighbouring open tiles: left, top, right, bottom in frame px."""
    for row, column in np.argwhere(~WALL):
        for below, beside in ((0, 0), (1, 0), (0, 1)):
            if (
                row + below < WALL.shape[0]
                and column + beside < WALL.shape[1]
                and not WALL[row + below, column + beside]
            ):
                ends = np.array([(column, row), (column + beside, row + below)])
                yield tuple(to_frame_xy((ends + 0.5) * TILE_SIZE).ravel())


_PATHS = np.array(list(_paths()))


def off_path(sprite: Sprite) -> float:
    """How far the middle of a sprite is from the nearest path, frame px (the larger of both directions)."""
    x, y = to_frame_xy(np.array([SPRITE_SIZE / 2] * 2)) - to_frame_xy(np.zeros(2)) + (sprite.x, sprite.y)
    left, top, right, bottom = _PATHS.T
    beside = np.maximum(np.maximum(left - x, x - right), 0)
    above = np.maximum(np.maximum(top - y, y - bottom), 0)
    return float(np.maximum(beside, above).min())


def in_wall(sprite: Sprite) -> bool:
    """Whether a sprite stands where no actor can: further than `OFF_PATH` from every path."""
    return off_path(sprite) > OFF_PATH

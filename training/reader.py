"""A reader of the classic maze: what a frame, real or dreamed, says in the game's own terms.

    python -m training.reader --dataset D [--world W] [--out table.md]

checks it on recorded frames with labels, and on a world's reconstructions of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.hud import read_lives, read_score
from training.maze import PELLET_XY, POWER, WALL, in_wall
from training.pellets import read_pellets
from training.sprites import Sprite, read_sprites

__all__ = ["PELLET_XY", "POWER", "WALL", "Reading", "in_wall", "read"]


@dataclass(frozen=True)
class Reading:
    """What one prepared frame says.

    Attributes:
        sprites: every actor found (`training/sprites.py`).
        pellets: bool `[P]`, which of the maze's places (`PELLET_XY`) hold a standing pellet.
        hidden: bool `[P]`, places that a sprite covers, so that they cannot be judged; `pellets` is False there.
        score: the number below the maze; None when unreadable.
        lives: those shown below the maze, the one being played among them; None when unreadable.
    """

    sprites: tuple[Sprite, ...]
    pellets: np.ndarray
    hidden: np.ndarray
    score: int | None
    lives: int | None


def read(frame: np.ndarray) -> Reading:
    """Read a prepared frame, uint8 `[512, 512, 3]`; ValueError for another dtype or shape."""
    sprites = read_sprites(frame)
    pellets, hidden = read_pellets(frame, sprites)
    return Reading(tuple(sprites), pellets, hidden, read_score(frame), read_lives(frame))


if __name__ == "__main__":
    from neural_pacman.command import command
    from training.reader_check import Check, main

    command(main, Check)

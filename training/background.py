"""What of a dataset's frames stands still, the spots of it that have one other look, and the colours of what moves.

A pellet stands or is eaten, a ghost is pink or blue; nothing is between. A small autoencoder draws it between all the
same, so decoded frames show such spots in one of their looks and such colours pure (`FrameAutoencoder`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from neural_pacman.world_folder import PICTURES

Pictures = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]
"""Background, other look, palette."""

LEAST_DIFFERENCE = 60
"""From the background, in one colour of 256, for a look to be another."""
LEAST_SHARE = 0.05
"""Of the frames that show it."""
LEAST_AGREEMENT, SAME_LOOK = 0.75, 24
"""Share of the frames differing from the background that differ alike, and how alike that is, in one colour of 256."""
LEAST_SPOT = 4
"""Pixels of a spot."""
LEAST_TOGETHER, SHARE_OF_SPOT = 0.9, 0.9
"""Share of the frames in which a spot is as one, and the share of its pixels that makes it so. Pellets come to 0.96 and
more, the figures of a score to 0.7 and less: they have many looks, though each of their pixels has two."""

LEAST_OF_ALL = 0.01
"""Share of what moves that a colour has to have for the palette: those of edges, where two are mixed, have less."""


def median_frame(frames: np.ndarray, count: int = 301) -> np.ndarray:
    """The most common look of each pixel over `count` evenly spaced frames: the maze with nobody in it."""
    spread = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    return np.stack([np.median(spread[:, row], axis=0) for row in range(spread.shape[1])]).astype(np.uint8)


def other_look(frames: np.ndarray, background: np.ndarray, count: int = 301) -> np.ndarray:
    """The background with every spot that has one other look in that look: the maze with the other pellets eaten.

    A pixel has one when it differs from the background in some of `count` evenly spaced frames, and then nearly always
    in the same way; where actors pass, it differs in many. A spot of such pixels has one when they change together.
    """
    spread = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    look = background.copy()
    differs = np.empty(spread.shape[:3], bool)
    for row in range(len(background)):
        seen = spread[:, row].astype(np.int16)
        differs[:, row] = np.abs(seen - background[row]).max(axis=-1) >= LEAST_DIFFERENCE
        for column in np.flatnonzero(differs[:, row].mean(axis=0) >= LEAST_SHARE):
            colours = seen[differs[:, row, column], column]
            middle = np.median(colours, axis=0)
            if (np.abs(colours - middle).max(axis=-1) < SAME_LOOK).mean() >= LEAST_AGREEMENT:
                look[row, column] = middle
    for rows, columns in _spots((look != background).any(axis=-1)):
        share = differs[:, rows, columns].mean(axis=1)
        together = (np.maximum(share, 1 - share) >= SHARE_OF_SPOT).mean()
        if len(rows) < LEAST_SPOT or together < LEAST_TOGETHER:
            look[rows, columns] = background[rows, columns]
    return look


def _spots(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each set of true pixels that touch, corners counted."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    while left:
        spot = [left.pop()]
        for row, column in spot:  # grows while it is gone through
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            spot.extend(around)
        rows, columns = np.array(spot).T
        yield rows, columns


def palette_of(frames: np.ndarray, background: np.ndarray, other: np.ndarray, count: int = 301) -> np.ndarray | None:
    """The colours of what moves, uint8 `[1, N, 3]`: the frequent ones of pixels that show neither look of the maze.

    None when nothing moves.
    """
    spread = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    seen: Counter[bytes] = Counter()
    for frame in spread:
        apart = [np.abs(frame.astype(np.int16) - look).max(axis=-1) >= LEAST_DIFFERENCE for look in (background, other)]
        colours, times = np.unique(frame[np.logical_and(*apart)], axis=0, return_counts=True)
        seen.update({colour.tobytes(): int(n) for colour, n in zip(colours, times, strict=True)})
    frequent = sorted(colour for colour, times in seen.items() if times >= LEAST_OF_ALL * seen.total())
    return np.array([[list(colour) for colour in frequent]], np.uint8) if frequent else None


def read_pictures(folder: Path) -> Pictures:
    """What a trained autoencoder's folder has of its background, the other look, uint8 `[512, 512, 3]`, and palette."""
    files = (folder / name for name in PICTURES)
    background, other, palette = (np.array(Image.open(f).convert("RGB")) if f.exists() else None for f in files)
    return background, other, palette


def find_pictures(frames: np.ndarray, kept: Pictures = (None, None, None)) -> Pictures:
    """Background, other look and palette of prepared frames `[N, 512, 512, 3]`, as far as they are not there."""
    background, other, palette = kept
    background = median_frame(frames) if background is None else background
    other = other_look(frames, background) if other is None else other
    return background, other, palette_of(frames, background, other) if palette is None else palette

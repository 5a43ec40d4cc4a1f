"""What of a dataset's frames stands still, and the spots of it that have one other look.

A pellet stands or is eaten; nothing is between. A small autoencoder draws it between all the same, so decoded frames
show such spots in one of their looks (`FrameAutoencoder`).
"""

from __future__ import annotations

import numpy as np

from neural_pacman.looks import spots

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
        red, green, blue = np.moveaxis(np.abs(seen - background[row]), -1, 0)  # quicker than a maximum
        differs[:, row] = np.maximum(np.maximum(red, green), blue) >= LEAST_DIFFERENCE
        for column in np.flatnonzero(differs[:, row].mean(axis=0) >= LEAST_SHARE):
            colours = seen[differs[:, row, column], column]
            middle = np.median(colours, axis=0)
            if (np.abs(colours - middle).max(axis=-1) < SAME_LOOK).mean() >= LEAST_AGREEMENT:
                look[row, column] = middle
    for rows, columns in spots((look != background).any(axis=-1)):
        share = differs[:, rows, columns].mean(axis=1)
        together = (np.maximum(share, 1 - share) >= SHARE_OF_SPOT).mean()
        if len(rows) < LEAST_SPOT or together < LEAST_TOGETHER:
            look[rows, columns] = background[rows, columns]
    return look

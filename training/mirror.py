"""The mirror image of recorded play, where a game is its own: as much again to learn from.

A maze whose left half is its right half's image is such a game, but for what is to be read, such as the score below it,
and for who begins on either side: a ghost that is to the left of the house in one is to the right of it in the other,
so the two exchange their colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neural_pacman.actions import Action
from neural_pacman.episodes import Episode

LEFT_IS_RIGHT = np.array([Action.RIGHT, Action.LEFT, Action.UP, Action.DOWN, Action.NO_ACTION])
"""What every action is in the mirror."""


@dataclass(frozen=True)
class Mirror:
    """What a mirror image is. The defaults mirror nothing.

    Raises ValueError for a number of rows below zero, a colour that is not six hexadecimal digits, or an odd number of
    them.
    """

    rows: int = 0
    """Rows of the upright screen, from the top, that every episode is encoded a second time with their mirror image in;
    what is below stays. 0 for no second time."""
    exchange: tuple[str, ...] = ()
    """Colours that change places in the mirror, two by two, such as FF80FF FF8000: of who begins on either side."""

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError(f"rows is {self.rows}; expected the number of rows to mirror, or 0 for no mirror image.")
        if len(self.exchange) % 2:
            raise ValueError(f"Given {len(self.exchange)} colours to exchange; expected pairs of them.")
        for colour in self.exchange:
            _rgb(colour)

    def image(self, screen: np.ndarray) -> np.ndarray:
        """The mirror image of an upright screen uint8 `[H, W, 3]`; ValueError when it has fewer rows than that."""
        if len(screen) < self.rows:
            raise ValueError(f"A screen has {len(screen)} rows; expected {self.rows} at least, which are mirrored.")
        image = screen.copy()
        image[: self.rows] = screen[: self.rows, ::-1]
        above = image[: self.rows]
        places = {colour: (above == _rgb(colour)).all(-1) for colour in self.exchange}
        for one, other in zip(self.exchange[::2], self.exchange[1::2], strict=True):
            above[places[one]], above[places[other]] = _rgb(other), _rgb(one)
        return image

    def __call__(self, episode: Episode) -> Episode:
        """An episode in the mirror, with those labels alone that are one number a state, such as lives."""
        labels = {name: values for name, values in episode.labels.items() if values.ndim == 1}
        parts = {**vars(episode), "labels": labels, "actions": LEFT_IS_RIGHT[episode.actions]}
        return _Mirrored(**parts, mirror=self)


@dataclass
class _Mirrored(Episode):
    mirror: Mirror = field(default_factory=Mirror)

    def raw(self, k: int) -> np.ndarray:
        return self.mirror.image(super().raw(k))


def _rgb(colour: str) -> np.ndarray:
    try:
        red, green, blue = bytes.fromhex(colour)
    except ValueError as error:
        raise ValueError(f"Given the colour {colour!r}; expected six hexadecimal digits, such as FF80FF.") from error
    return np.array([red, green, blue], np.uint8)

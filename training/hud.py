"""The score and the lives below the maze, read from a prepared frame.

Both are drawn on black in places of their own: digits 13 screen pixels apart from the left, a small Pac-Man every 10
for each life. Every place is compared with the game's own pictures, resized as the frame was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from neural_pacman.frames import FRAME_SIZE, prepare
from training.sprites import HUD_TOP, SCALE, SCREEN_HEIGHT, SCREEN_WIDTH, to_frame_xy

MAX_DIGITS = 6
MAX_LIVES = 5
"""Places that are looked at; the game begins with 3 lives and the recordings hold no more."""
MAX_REMAINDER = 0.6
"""Largest difference of a place from the picture that is nearest to it, root mean square in units of a whole digit."""
MIN_STRENGTH = 0.55
"""Smallest strength of a life's picture: one that has half faded is none."""

TOP = HUD_TOP + 1
"""Where the pictures begin, screen px."""

_LEVELS = ".:+*#"
"""Brightness in quarters of 248."""
_EMPTY = 10
"""Stands for no digit."""
_DIGITS = """
...:+*##*+... ......:+#+... ....:+*###*.. ....+**##*+.. ....+#:......
..:#######+.. ....+*###*... ...*########. ..:########+. ....*#+...##.
..##*:..+##:. ....*##*#*... ..+##+:...*#+ ..*#*+:..+#*. ...:##....##.
.+#*.....*#+. ....:+.:#*... ..:*:.....+#+ ..:+.....+#*. ...+#+...:#*.
.*#:.....+#*. .......:#*... ..........+#+ ......+*###.. ...##:...:#*.
.##......:#*. .......:#*... .........:##: ......#####+. ..+#*....:#*.
.##......:#*. .......:#*... ........+##+. ......:::+##. ..*#+....:#*.
.##......+#+. .......:#*... .....:+###+.. ..........*#: .:##########:
.##:.....*#+. .......:#*... ....*###*:... ..........##: .:##########.
.*#+....:##:. .......:#*... ...*##+:..... ..::.....+##. ..:::....:#*.
.:##:..+##*.. .......:#*::: ..+##::::::+: ..##:..:*##:. .........:#*.
..*######*... ....*######## ..########### ..*#######+.. .........+#*.
...+###*+.... ....*#####*#* ..*###******+ ...+###*+.... .........:#*.

....****####+ .....+*##*+.. ...+****####* .....+*###+.. .....+*##*+..
...+########+ ....*######:. ...########## ....#######+. ....*######*.
...+#*::...:. ...+##+..+#.. ...##:::::##+ ...*#*:..+#*. ...+##:..:##:
...+#++***+.. ...##:....... ...++....:##. ...*#:...+#*. ...*#:....+#*
...+#######*. ..+#++*###*.. .........*#+. ...+#######+. ...##.....:##
...+##*:::*#+ ..*#########. ........:##.. ...+########: ...##:...:*##
...:*:....:## ..####+...*#+ ........*#+.. ..+##+::..+## ...+#*++*####
...........## ..###:....:#* ........##... ..*#+......## ....*#####*#*
..........:#* ..##+.....+#+ .......+#*... ..##.......## .....:++:.+#+
...::.....##+ ..*#+....:##: .......*#+... ..##:.....+#* .........:##:
...##:..+##*. ..:##+..:##*. .......##:... ..*#*:..:*##: ....++..+##+.
...*######*.. ...+######*.. ......:##.... ...########+. ....######*..
....+###*:... ....:*##*+... ......:#*.... ....+###*+:.. ....:*##*:...
"""
_LIFE = """
...*####*.
..*######*
.*#######*
*######*..
#####*....
#####.....
#####.....
#####*....
*######*..
.*#######*
..*######*
...*####*.
"""


@dataclass(frozen=True)
class _Row:
    """A row of `count` pictures, `pitch` screen px apart from `left` on; `channels` make their brightness (the least).

    `width` and `height` are a picture's, screen px.
    """

    left: int
    pitch: int
    count: int
    width: int
    height: int
    channels: int

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each place on a prepared frame: rows `[1, h, 1]` and columns `[count, 1, w]`."""
        corners = np.stack([self.left + self.pitch * np.arange(self.count), np.full(self.count, TOP)], axis=1)
        x, y = np.floor(to_frame_xy(corners)).astype(int).T
        height, width = (int(np.ceil(side * SCALE)) + 1 for side in (self.height, self.width))
        return (y[:, None] + np.arange(height))[:, :, None], (x[:, None] + np.arange(width))[:, None, :]

    def seen(self, frame: np.ndarray) -> np.ndarray:
        """Brightness of each place in a prepared frame, float32 `[count, h, w]`."""
        rows, columns = self.places
        return frame[rows, columns, : self.channels].min(axis=-1).astype(np.float32)

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The same where each place shows a picture, brightness `[height, width]` on the screen."""
        shown = np.zeros_like(self.seen(np.zeros((FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)))
        for place in range(self.count):  # one at a time: neighbours may overlap
            screen = np.zeros((SCREEN_HEIGHT, SCREEN_WIDTH, 3), dtype=np.uint8)
            left = self.left + self.pitch * place
            screen[TOP : TOP + self.height, left : left + self.width] = picture.astype(np.uint8)[..., None]
            shown[place] = self.seen(prepare(screen))[place]
        return shown


_SCORE = _Row(left=0, pitch=13, count=MAX_DIGITS, width=13, height=13, channels=3)
_LIVES = _Row(left=193, pitch=10, count=MAX_LIVES, width=10, height=12, channels=2)


def read_score(frame: np.ndarray) -> int | None:
    """The number at the lower left of a prepared frame, uint8 `[512, 512, 3]`; None when it is no clear number."""
    pictures = _digits()
    difference = np.square(pictures - _SCORE.seen(frame)).sum(axis=(2, 3))
    nearest = difference.argmin(axis=0)
    count = int(np.append(nearest == _EMPTY, True).argmax())
    whole = np.square(pictures[:_EMPTY]).sum(axis=(2, 3)).mean()
    unclear = difference.min(axis=0).max() > MAX_REMAINDER**2 * whole
    if unclear or count == 0 or (nearest[count:] != _EMPTY).any() or (count > 1 and nearest[0] == 0):
        return None
    return int("".join(str(digit) for digit in nearest[:count]))


def read_lives(frame: np.ndarray) -> int | None:
    """How many lives a prepared frame shows; None for none at all, which the game never shows, or with a gap."""
    picture = _life()
    strength = (_LIVES.seen(frame) * picture).sum(axis=(1, 2)) / np.square(picture).sum(axis=(1, 2))
    there = strength >= MIN_STRENGTH
    count = int(there.sum())
    return count if count and there[:count].all() else None


@cache
def _digits() -> np.ndarray:
    """Brightness of every digit, and of none, at every place: float32 `[11, 6, h, w]`."""
    lines = [line.split() for line in _DIGITS.split("\n") if line]
    half = len(lines) // 2
    drawn = [_bright([line[i] for line in part]) for part in (lines[:half], lines[half:]) for i in range(_EMPTY // 2)]
    return np.stack([_SCORE.of(picture) for picture in [*drawn, np.zeros_like(drawn[0])]])


@cache
def _life() -> np.ndarray:
    """Brightness of a life at every place: float32 `[5, h, w]`."""
    return _LIVES.of(_bright(_LIFE.split()))


def _bright(lines: list[str]) -> np.ndarray:
    """A drawing as brightness, 0 to 248."""
    return np.array([[_LEVELS.index(mark) * 62 for mark in line] for line in lines])

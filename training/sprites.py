"""A reader of the classic maze's actors: from one prepared frame, where Pac-Man and the ghosts are, and how whole.

PSNR applauds a model that fades out what moves, so a dream is also read in the game's own terms. The game draws its
actors in flat colours, 24 x 24 screen pixels each, one over the other (Pac-Man lowest, then red, pink, cyan, orange).
A pixel belongs to an actor when its colour is nearer to that actor's than to any other colour of the game and within
`COLOUR_TOLERANCE`: wide enough for a bilinear resize and an autoencoder's blur, too narrow for an actor that is half
faded into the black maze. Silhouettes are then laid over those pixels where they fit best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property

import numpy as np
from PIL import Image

from neural_pacman.frames import FRAME_SIZE

SCREEN_WIDTH, SCREEN_HEIGHT = 456, 552
SCALE = FRAME_SIZE / SCREEN_HEIGHT
SIDE_BAR = (SCREEN_HEIGHT - SCREEN_WIDTH) // 2
HUD_TOP = 528
"""Screen row below which score and lives stand: no actor goes there, and the lives are drawn in Pac-Man's yellow."""
SPRITE_SIZE = 24

COLOUR_TOLERANCE = 90.0
"""Largest Euclidean RGB distance from a flat colour. An actor at half strength over black is 127 or more away."""
MIN_EYE_LIGHT = 100
"""Darkest channel of the white of eyes: around an eaten ghost's pupils it is two pixels wide and blurs into them."""
MIN_VISIBLE = 0.3
"""Smallest share of a silhouette that must show its colour for a sprite to be found (the rest may be covered)."""
MIN_SPRITE = 0.6
"""Smallest share of the uncovered silhouette for a find to be a sprite."""
MIN_INTACT = 0.8
"""Smallest share of the uncovered silhouette that must show its colour for a sprite to be whole."""
MAX_BODY_LIGHT = 40
"""Brightest that the place of a body may be (its median) for eyes to count as eyes alone, not as a faded ghost's."""

MAX_EYE_SPILL = 0.25
"""Largest white share of what surrounds a pair of eyes: a pellet beside them is less, a power pellet more."""


class Actor(StrEnum):
    """What a sprite shows. EYES is an eaten ghost going home, or a frightened one in a blink of its body."""

    PACMAN = "pacman"
    RED = "red"
    PINK = "pink"
    CYAN = "cyan"
    ORANGE = "orange"
    FRIGHTENED = "frightened"
    EYES = "eyes"


GHOST_COLOURS = (Actor.RED, Actor.PINK, Actor.CYAN, Actor.ORANGE)
"""The four ghosts in the order of the dataset's `ghost_xy` and of their drawing."""

_RGB = {
    Actor.PACMAN: (255, 255, 0),
    Actor.RED: (255, 0, 0),
    Actor.PINK: (255, 128, 255),
    Actor.CYAN: (128, 255, 255),
    Actor.ORANGE: (255, 128, 0),
    Actor.FRIGHTENED: (50, 50, 255),
}
_OTHER_RGB = ((0, 0, 0), (0, 0, 255), (255, 255, 255))
"""Ground, walls and pupils, pellets and eyes."""

_GHOST = """
......############......
....################....
...##################...
..####################..
.######################.
.#####ooo######ooo#####.
#####ooooo####ooooo#####
#####ooooo####ooooo#####
#####ooooo####ooooo#####
#####ppooo####ppooo#####
#####ppooo####ppooo#####
#####ppooo####ppooo#####
######ooo######ooo######
########################
########################
########################
########################
########################
########################
########################
########################
#####..######..######..#
####....####....####....
.##......##......##.....
"""
"""A ghost: body (#), white of the eyes (o) and pupils (p), as a frightened one looks; a normal one's pupils move."""

_EATEN = """
........................
........................
........................
........................
........................
......ooo......ooo......
.....ooooo....ooooo.....
.....oopoo....oopoo.....
.....opppo....opppo.....
.....opppo....opppo.....
.....opppo....opppo.....
.....ooooo....ooooo.....
......ooo......ooo......
........................
........................
........................
........................
........................
........................
........................
........................
........................
........................
........................
"""
"""An eaten ghost."""


@dataclass(frozen=True)
class Sprite:
    """One actor found in a frame.

    Attributes:
        actor: what it shows.
        x, y: top-left corner of its 24 x 24 screen pixels, in pixels of the 512 x 512 frame (22.3 px wide there).
        visible: share of its silhouette that shows its colour, 0 to 1.
        intact: the same share among the pixels that no other found sprite covers.
    """

    actor: Actor
    x: float
    y: float
    visible: float
    intact: float

    @property
    def whole(self) -> bool:
        """Whether all of it that is in sight is there: partly behind another it is whole, eroded it is not."""
        return self.intact >= MIN_INTACT

    @property
    def is_ghost(self) -> bool:
        return self.actor is not Actor.PACMAN


def to_frame_xy(screen_xy: np.ndarray) -> np.ndarray:
    """Screen pixels `[..., 2]` (x, y), as label columns have them, in pixels of a prepared frame, float64."""
    return (np.asarray(screen_xy, dtype=np.float64) + (SIDE_BAR, 0)) * SCALE


def to_screen_xy(frame_xy: np.ndarray) -> np.ndarray:
    """Pixels of a prepared frame `[..., 2]` (x, y) in screen pixels, float64."""
    return np.asarray(frame_xy, dtype=np.float64) / SCALE - (SIDE_BAR, 0)


def read_sprites(frame: np.ndarray) -> list[Sprite]:
    """Every actor in a prepared frame, uint8 `[512, 512, 3]`; ValueError for another dtype or shape.

    Each normal ghost and Pac-Man are looked for twice, so that a doubled one shows; frightened ghosts and eyes four
    times. A ghost exactly behind another cannot be seen, in the game or in a dream.
    """
    if frame.dtype != np.uint8 or frame.shape != (FRAME_SIZE, FRAME_SIZE, 3):
        raise ValueError(
            f"A frame has dtype {frame.dtype} and shape {list(frame.shape)}; "
            f"expected uint8 [{FRAME_SIZE}, {FRAME_SIZE}, 3]."
        )
    field = _playfield(frame)
    pixels = _pixels(field)
    anyone = np.logical_or.reduce(list(pixels.values()))
    anyone[_DOOR] = True
    found: list[_Match] = []
    for actor in _RGB:
        found += _find_solid(pixels[actor], anyone, actor, limit=4 if actor is Actor.FRIGHTENED else 2)
    found = [m for m, sprite in zip(found, _judge(found, pixels), strict=True) if sprite.intact >= MIN_SPRITE]
    if sum(match.actor is not Actor.PACMAN for match in found) < len(GHOST_COLOURS):
        found += _find_eyes(pixels[Actor.EYES], found, field)
    return _judge(found, pixels)


def pacman(sprites: Sequence[Sprite]) -> Sprite | None:
    """The whole Pac-Man among `sprites`, if there is one."""
    return next((s for s in sprites if s.actor is Actor.PACMAN and s.whole), None)


def count_ghosts(sprites: Sequence[Sprite]) -> int:
    """How many different ghosts are there and whole, 0 to 4: each colour once, frightened ghosts and eyes each one."""
    whole = [s.actor for s in sprites if s.is_ghost and s.whole]
    coloured = {actor for actor in whole if actor in GHOST_COLOURS}
    return min(len(coloured) + sum(actor not in GHOST_COLOURS for actor in whole), len(GHOST_COLOURS))


def hidden_by(sprites: Sequence[Sprite]) -> np.ndarray:
    """The pixels of a frame that sprites hide, edges included: bool `[512, 512]`; Pac-Man's mouth counts as shut."""
    hidden = np.zeros((FRAME_SIZE + 2 * _MARGIN, FRAME_SIZE + 2 * _MARGIN), dtype=bool)
    for sprite in sprites:
        x, y = (round(place) + _MARGIN - _RING - 1 for place in (sprite.x, sprite.y))
        shade = _shade(sprite.actor)
        hidden[y : y + len(shade), x : x + len(shade)] |= shade
    return hidden[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


@cache
def _shade(actor: Actor) -> np.ndarray:
    """What an actor hides and a pixel around it, bool `[_SQUARE + 2, _SQUARE + 2]`."""
    outline = np.pad(_resized(silhouette(actor)) >= 0.15, 2)
    side = _SQUARE + 2
    return np.logical_or.reduce([outline[dy : dy + side, dx : dx + side] for dy in range(3) for dx in range(3)])


@dataclass(frozen=True)
class _Poses:
    """How an actor may look, in frame pixels, bool `[P, _SQUARE, _SQUARE]` each.

    Attributes:
        inside: must show the actor's colour.
        around: must not. The edge, which blurs, is in neither.
        outline: hides what lies behind it.
    """

    inside: np.ndarray
    around: np.ndarray
    outline: np.ndarray

    @cached_property
    def kernels(self) -> tuple[np.ndarray, np.ndarray]:
        """What an actor's own pixels count for in each pose, and another's, float32 `[_SQUARE ** 2, P]` each."""
        inside, around = (a.reshape(len(a), -1).T.astype(np.float32) for a in (self.inside, self.around))
        return 2 * inside - around, inside

    @cached_property
    def size(self) -> int:
        """Pixels inside the smallest pose."""
        return int(self.inside.sum(axis=(1, 2)).min())


@dataclass(frozen=True)
class _Match:
    """Pose number `pose` of an actor laid at column `x`, row `y` of the classified playfield."""

    actor: Actor
    x: int
    y: int
    pose: int

    def under(self, pixels: np.ndarray) -> np.ndarray:
        """The view of a playfield array `[height, width]` under this match's square."""
        return pixels[self.y : self.y + _SQUARE, self.x : self.x + _SQUARE]

    @property
    def inside(self) -> np.ndarray:
        return _poses(self.actor).inside[self.pose]

    @property
    def outline(self) -> np.ndarray:
        return _poses(self.actor).outline[self.pose]


_LEFT = round(SIDE_BAR * SCALE)
_RIGHT = round((SIDE_BAR + SCREEN_WIDTH) * SCALE)
_BOTTOM = round(HUD_TOP * SCALE)
_MARGIN = 16
"""Black pixels added around the playfield, so that a silhouette may be tried anywhere without bounds checks."""
_RING = 1
_SQUARE = round(SPRITE_SIZE * SCALE) + 2 * _RING
"""Side of a silhouette in frame pixels, with a ring around it that should be free of its colour."""
_DOOR = np.s_[
    int(221 * SCALE) + _MARGIN : int(233 * SCALE) + _MARGIN + 1,
    int((SIDE_BAR + 216) * SCALE) + _MARGIN - _LEFT : int((SIDE_BAR + 240) * SCALE) + _MARGIN - _LEFT + 1,
]
"""Where the door of the ghosts' house is on the playfield, as red as the red ghost: what is there says nothing of who
is there."""
_NOBODY = 255
_NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))
_BITS = 5
"""Leading bits of each colour channel that the classification looks at."""


@cache
def _colour_table() -> np.ndarray:
    """Class of every colour: uint8 `[2 ** (3 * _BITS)]`, the actor's place in `_RGB` or `_NOBODY`."""
    levels = (np.arange(2**_BITS) + 0.5) * 2 ** (8 - _BITS)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    known = np.array([*_RGB.values(), *_OTHER_RGB], dtype=np.float64)
    distance = np.linalg.norm(colours - known, axis=-1)
    nearest = distance.argmin(axis=1)
    inside = (nearest < len(_RGB)) & (distance.min(axis=1) <= COLOUR_TOLERANCE)
    return np.where(inside, nearest, _NOBODY).astype(np.uint8)


def _playfield(frame: np.ndarray) -> np.ndarray:
    """The part of a frame where actors go with `_MARGIN` black pixels around, channels first: uint8 `[3, H, W]`."""
    rows, columns = frame[:_BOTTOM, _LEFT:_RIGHT].shape[:2]
    field = np.zeros((3, rows + 2 * _MARGIN, columns + 2 * _MARGIN), dtype=np.uint8)
    for plane, channel in zip(field, np.moveaxis(frame[:_BOTTOM, _LEFT:_RIGHT], -1, 0), strict=True):
        plane[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = channel
    return field


def _pixels(field: np.ndarray) -> dict[Actor, np.ndarray]:
    """Which pixels of the playfield show each actor's colour, bool `[H, W]` each."""
    red, green, blue = (field >> (8 - _BITS)).astype(np.uint16)
    classes = _colour_table().take((red << 2 * _BITS) | (green << _BITS) | blue)
    pixels = {actor: classes == number for number, actor in enumerate(_RGB)}
    pixels[Actor.RED][_DOOR] = False
    return pixels | {Actor.EYES: np.minimum(np.minimum(field[0], field[1]), field[2]) >= MIN_EYE_LIGHT}


def _resized(mask: np.ndarray) -> np.ndarray:
    """A 24 x 24 screen mask in frame pixels: coverage 0 to 1, float `[_SQUARE, _SQUARE]`, its corner at `_RING`."""
    border = 2  # screen pixels, room for the ring
    canvas = Image.fromarray(np.pad(mask.astype(np.float32), border))
    start, side = border - _RING / SCALE, _SQUARE / SCALE
    box = (start, start, start + side, start + side)
    return np.asarray(canvas.resize((_SQUARE, _SQUARE), Image.Resampling.BILINEAR, box=box))


def _core(coverage: np.ndarray) -> np.ndarray:
    """Pixels of silhouettes `[P, _SQUARE, _SQUARE]` that are well inside: an autoencoder blurs the outermost ones."""
    solid = np.pad(coverage > 0.5, ((0, 0), (1, 1), (1, 1)))
    around = [solid[:, 1 + dy : 1 + dy + _SQUARE, 1 + dx : 1 + dx + _SQUARE] for dy, dx in ((0, 0), *_NEIGHBOURS)]
    return np.logical_and.reduce(around)


def _coverage(masks: list[np.ndarray]) -> np.ndarray:
    return np.stack([_resized(mask) for mask in masks])


def silhouette(actor: Actor) -> np.ndarray:
    """What an actor hides of the screen behind it, bool `[24, 24]`; Pac-Man's mouth counts as shut."""
    if actor is Actor.PACMAN:
        return _pacman_masks()[0]
    ghost, eaten = _drawings()
    return eaten != "." if actor is Actor.EYES else ghost != "."


@cache
def _drawings() -> tuple[np.ndarray, np.ndarray]:
    """A ghost and an eaten one, character arrays `[24, 24]`."""
    ghost, eaten = (np.array([list(line) for line in art.split()]) for art in (_GHOST, _EATEN))
    return ghost, eaten


@cache
def _poses(actor: Actor) -> _Poses:
    if actor is Actor.PACMAN:
        shown = _coverage(_pacman_masks())
        return _Poses(inside=_core(shown), around=shown < 0.15, outline=shown >= 0.15)
    ghost, eaten = _drawings()
    if actor is Actor.EYES:
        near = np.zeros_like(ghost, dtype=bool)
        near[3:15, 3:21] = True
        inside = _coverage([ghost == "o", eaten == "o"]) > 0.7
        clear = [near & (ghost != "o") & (ghost != "p"), near & (eaten == ".")]
        return _Poses(inside=inside, around=_coverage(clear) > 0.85, outline=inside)
    body, whole = _coverage([ghost == "#"]), _coverage([ghost != "."])
    eyes = _coverage([(ghost == "o") | (ghost == "p")])
    return _Poses(inside=_core(body), around=(whole < 0.15) | (eyes > 0.85), outline=whole >= 0.15)


def _pacman_masks() -> list[np.ndarray]:
    """Pac-Man's disc with its mouth shut, and open three ways in four directions, bool `[24, 24]` each."""
    centre = (SPRITE_SIZE - 1) / 2
    y, x = np.mgrid[:SPRITE_SIZE, :SPRITE_SIZE] - centre
    disc = x**2 + y**2 <= (SPRITE_SIZE / 2) ** 2
    mouths = [
        np.abs(aside) < (ahead + 1.5) * slope
        for ahead, aside in ((x, y), (-x, y), (y, x), (-y, x))
        for slope in (0.3, 0.55, 1.0)
    ]
    return [disc, *(disc & ~mouth for mouth in mouths)]


def _box_sum(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum of `mask` over each `height x width` box, indexed by its top-left corner."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
    total[1:, 1:] = mask.cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]


def _find_solid(own: np.ndarray, anyone: np.ndarray, actor: Actor, limit: int) -> list[_Match]:
    """Up to `limit` places where an actor's own colour fills enough of its silhouette."""
    own, other = own.copy(), anyone & ~own
    needed = MIN_VISIBLE * _poses(actor).size
    matches: list[_Match] = []
    while len(matches) < limit and np.count_nonzero(own) >= needed:
        # Boxes that begin where the colour does are all that matter, and often they are few.
        rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        top, left = (min(int(a[0]), side - _SQUARE) for a, side in zip((rows, columns), own.shape, strict=True))
        boxes = _box_sum(own[top : rows[-1] + _SQUARE, left : columns[-1] + _SQUARE], _SQUARE, _SQUARE)
        y, x = np.unravel_index(boxes.argmax(), boxes.shape)
        if boxes[y, x] < needed:
            break
        match = _fit(own, other, actor, left + int(x), top + int(y))
        if _visible(match, own) < MIN_VISIBLE:
            break
        matches.append(match)
        match.under(own)[match.outline] = False  # the next round meets another sprite
    return matches


def _find_eyes(white: np.ndarray, found: list[_Match], field: np.ndarray) -> list[_Match]:
    """Pairs of eyes without a body, outside every sprite already found."""
    white, taken = white.copy(), np.zeros_like(white)
    for match in found:
        match.under(taken)[match.outline] = True
        if (
            match.actor is not Actor.PACMAN
        ):  # which has no white: what is over him may be a ghost that he has just eaten
            match.under(white)[match.outline] = False
    taken[_DOOR] = True
    # Where nobody else is, the place of the body must be dark.
    light, body = np.where(taken, 0, np.maximum(np.maximum(*field[:2]), field[2])), _poses(Actor.FRIGHTENED).inside[0]
    eyes = np.any(_poses(Actor.EYES).inside, axis=0)
    rows, columns = np.flatnonzero(np.any(eyes, axis=1)), np.flatnonzero(np.any(eyes, axis=0))
    top, left, height = int(rows[0]), int(columns[0]), len(rows)
    width = int(np.argmax(np.diff(columns) > 1)) + 1  # of one eye
    apart = int(columns[width] - columns[0])
    needed = MIN_VISIBLE * np.count_nonzero(eyes) / 2
    ovals, gaps = _box_sum(white, height, width), _box_sum(white, height, apart - width)
    # Of the two ovals the emptier counts, and white between them counts against: no power pellet looks like a pair.
    pairs = np.minimum(ovals[:, :-apart], ovals[:, apart:])
    pairs = pairs - gaps[:, width : width + pairs.shape[1]] // 2
    matches: list[_Match] = []
    while len(matches) < len(GHOST_COLOURS):
        y, x = (int(i) for i in np.unravel_index(pairs.argmax(), pairs.shape))
        if pairs[y, x] < needed:
            break
        match = _fit(white, np.zeros_like(white), Actor.EYES, max(x - left, 0), max(y - top, 0))
        dark = np.median(match.under(light)[body]) <= MAX_BODY_LIGHT
        blob = match.under(white)[_poses(Actor.EYES).around[match.pose]].mean() > MAX_EYE_SPILL
        if dark and not blob and _visible(match, white) >= MIN_SPRITE:
            matches.append(match)
        match.under(white)[:] = False  # whole: what a silhouette cuts out of a power pellet leaves something like eyes
        pairs[max(y - height, 0) : y + height, max(x - apart, 0) : x + apart] = 0
    return matches


def _fit(own: np.ndarray, other: np.ndarray, actor: Actor, x: int, y: int) -> _Match:
    """Lay an actor's poses about `(x, y)` and keep the one that fits best.

    Own pixels inside count for a place, own pixels around it and empty ones inside count against it, and pixels of
    other actors inside count neither way: a covered sprite is placed by its visible edges.
    """
    reach = _MARGIN - 2
    top, left = max(y - reach, 0), max(x - reach, 0)
    patch = np.s_[top : y + reach + _SQUARE, left : x + reach + _SQUARE]
    mine, others = own[patch], other[patch]
    # Every second place, then those beside the best.
    row, column, _ = _best(mine, others, actor, step=2)
    row, column = max(row - 1, 0), max(column - 1, 0)
    near = np.s_[row : row + _SQUARE + 2, column : column + _SQUARE + 2]
    down, right, pose = _best(mine[near], others[near], actor, step=1)
    return _Match(actor, left + column + right, top + row + down, pose)


def _best(own: np.ndarray, other: np.ndarray, actor: Actor, step: int) -> tuple[int, int, int]:
    """Row, column and pose that fit best of the places `step` apart in a patch."""
    for_own, for_other = _poses(actor).kernels
    columns = (own.shape[1] - _SQUARE) // step + 1
    score = _windows(own, step) @ for_own
    if other.any():
        score += _windows(other, step) @ for_other
    score -= for_other.sum(axis=0)
    place, pose = divmod(int(score.argmax()), score.shape[1])
    row, column = divmod(place, columns)
    return row * step, column * step, pose


def _windows(patch: np.ndarray, step: int) -> np.ndarray:
    """The squares of a patch, `step` apart, float32 `[N, _SQUARE ** 2]`."""
    windows = np.lib.stride_tricks.sliding_window_view(patch.astype(np.float32), (_SQUARE, _SQUARE))
    return windows[::step, ::step].reshape(-1, _SQUARE**2)


def _visible(match: _Match, own: np.ndarray) -> float:
    """Share of the match's silhouette where `own` is set."""
    return float(match.under(own)[match.inside].mean())


def _judge(found: list[_Match], pixels: dict[Actor, np.ndarray]) -> list[Sprite]:
    """How much of each match is there, given what the others cover."""
    layers = np.zeros(pixels[Actor.EYES].shape, dtype=np.uint8)
    layers[_DOOR] = 1
    for match in found:
        match.under(layers)[match.outline] += 1
    sprites = []
    for match in found:
        own = match.under(pixels[match.actor])
        covered = match.under(layers) > match.outline
        in_sight = match.inside & (own | ~covered)
        sprites.append(
            Sprite(
                actor=match.actor,
                x=match.x + _RING - _MARGIN + _LEFT,
                y=match.y + _RING - _MARGIN,
                visible=float(own[match.inside].mean()),
                intact=float(own[in_sight].mean()) if in_sight.any() else 0.0,
            )
        )
    return sprites

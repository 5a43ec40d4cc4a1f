"""The pictures of an autoencoder: background, other look, and the looks of what is drawn, signs and sprites.

What differs from both looks of the maze (`training.background`) moves, or is a sign. A sign shows one of a few
pictures and stays at its place; a sprite is the same picture, pixel by pixel, wherever it goes. Two sprites that touch,
or one that is half covered, make a picture that hardly ever comes again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, product
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from neural_pacman.autoencoder import RENEWED
from neural_pacman.frames import FRAME_SIZE, prepare, to_tensor
from neural_pacman.looks import FAR, STEP, TILE, Place, Sprites, spots
from neural_pacman.world_folder import PICTURES
from training.background import median_frame, other_look

Pictures = tuple[np.ndarray | None, ...]
"""In the order of `PICTURES`."""

SOME = 301
"""Screens that tell what stands still and what are signs."""
LEAST_ALIKE = 4
"""Spots of two looks that look alike."""
MOST_LOOKS = 12
"""Pictures that a sign has, at most."""
LEAST_SHOWN, LEAST_SHARE = 3, 0.95
"""Times that each of them is seen, and the share of the screens that show one of them: others are of passers-by."""
BLOCK = 4
"""Pixels whose blocks of so many touch belong to one sprite."""
LEAST_PIXELS = 60
"""Pixels of a sprite."""
MOST_SPRITES = 254
"""Sprites on a sheet, at most: one colour of a pixel numbers them."""
LEAST_TIMES = 6
"""Screens on which a sprite is seen, and on which so many are."""
MARGIN = 2
"""Empty pixels before a sprite in its tile."""
GAP, SLACK = 5, 1
"""Half the cells between places on a path that are not seen, and the cells beside it."""
LEAST_CHANGES, LEAST_NEAR = 20, 0.8
"""Spots that change while a thing is on the screen, and the share of these that it is near to, for it to be what
changes them."""
FIGURES = 10
"""Looks of a sign that shows one of a number's figures, and perhaps one more for none."""
LEAST_ALIKE_POINTS = 0.9
"""Share of the times that a spot of some look goes alone in which the score grows by the same, which it then brings."""
LEAST_EXPECTED, MOST_TOGETHER = 3.0, 0.1
"""Screens that would show two sprites together by chance, for them to be looks of one thing, and the share of these
that may do so."""

CHANGER = 1
"""The number of what changes spots."""

Picture = tuple[int, int, bytes]
"""Height, width and pixels of a sprite."""
Seen = tuple[Picture, int, int]
"""And its first row and column on a screen."""
Tile = tuple[int, int, int]
"""Which thing a sprite is a look of, `CHANGER` that which changes spots, 0 if there may be several; and how far from
its first row and column on a screen the middle of its tile is, on the screen padded to a square."""
Sign = tuple[np.ndarray, np.ndarray, list[np.ndarray]]
"""Rows and columns of its pixels, and its looks."""


def read_pictures(folder: Path) -> Pictures:
    """What a trained autoencoder's folder has of its pictures, uint8 `[H, W, 3]` each."""
    files = (folder / name for name in PICTURES)
    return tuple(np.array(Image.open(file).convert("RGB")) if file.exists() else None for file in files)


def find_pictures(frames: np.ndarray, screens: Sequence[np.ndarray], kept: Pictures | None = None) -> Pictures:
    """The pictures of prepared frames `[N, 512, 512, 3]` and of screens, as far as they are not there."""
    background, other, signs, sprites, ways = kept or [None] * len(PICTURES)
    background = median_frame(frames) if background is None else background
    if signs is None and sprites is None:
        *maze, signs, sprites = find_looks(screens)
        other = _both(background, *maze) if other is None else other
    return background, other, signs, sprites, ways


def _both(background: np.ndarray, maze: np.ndarray, other: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Both looks of the maze one above the other, uint8 `[1024, 512, 3]`, like the background where they agree; and
    below them what counts, if anything does."""
    looks = prepare(maze), prepare(other)
    both = [np.where(_differ(*looks)[..., None], look, background) for look in looks]
    sharp = np.array(Image.fromarray(_square(counts)).resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.NEAREST))
    return np.concatenate([*both, sharp] if counts.any() else both)


def find_looks(
    screens: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Both looks of the maze on upright screens uint8 `[H, W, 3]`, what counts as `neural_pacman.autoencoder` wants it,
    and signs and sprites as `neural_pacman.looks` does, None for none.

    Every screen is asked for once or twice, some thrice, one at a time: two in a row, then another two, and so on.
    Those of another shape than the first are left out.
    """
    some = [screens[i] for i in np.linspace(0, len(screens) - 1, min(SOME, len(screens))).astype(int)]
    few = np.stack([screen for screen in some if screen.shape == some[0].shape])
    screens = some if len(some) == len(screens) else screens
    maze = median_frame(few)
    other, alike = _alike(maze, other_look(few, maze))
    signs = [
        (rows, columns, dict[int, bytes]())
        for rows, columns in spots(np.logical_or.reduce([_differ(screen, maze) for screen in few]))
        if _cut(maze, rows, columns) not in alike and (other == maze)[rows, columns].all()
        if _looks(Counter(screen[rows, columns].tobytes() for screen in few))
    ]
    still = np.zeros(maze.shape[:2], bool)
    for rows, columns, _ in signs:
        still[rows, columns] = True
    small = Counter[Seen]()
    shown: list[list[Seen]] = []
    changed: list[np.ndarray] = []
    gone: dict[int, np.ndarray] = {}
    stays: dict[int, np.ndarray] = {}
    two, looks = [*spots(_differ(maze, other))], np.zeros(0)
    lit = [1 if maze[spot].sum() > other[spot].sum() else -1 for spot in two]
    bright = [_cut(maze if one > 0 else other, *spot) for one, spot in zip(lit, two, strict=True)]
    for i, screen in enumerate(screens):
        shown.append([])
        changed.append(np.zeros((0, 2)))
        if screen.shape != maze.shape:
            looks = np.zeros(0)
            continue
        before, looks = looks, np.array([_which(screen, maze, other, spot) for spot in two])
        if i % 2 and len(before):
            changed[-1] = np.reshape([np.mean(two[k], axis=1) for k in np.flatnonzero(before * looks < 0)], (-1, 2))
            gone[i] = np.flatnonzero((before == lit) & (looks == np.negative(lit)))
            stays[i] = np.flatnonzero((before == lit) & (looks == lit))
        for rows, columns, pictures in signs:
            pictures[i] = screen[rows, columns].tobytes()
        moving = _differ(screen, maze) & _differ(screen, other) & ~still
        for rows, columns in _blocks(moving):
            row, column = int(rows.min()), int(columns.min())
            height, width = int(rows.max()) + 1 - row, int(columns.max()) + 1 - column
            if len(rows) < LEAST_PIXELS:
                small[_cut(screen, rows, columns), row, column] += 1
            elif max(height, width) <= TILE - 2 * MARGIN:
                shown[-1].append((_cut(screen, rows, columns), row, column))
    # What looks like the other spots now and then is one too: where actors pass all the time none was recognized.
    seen_at: defaultdict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    for ((height, width, pixels), row, column), times in small.items():
        if times >= LEAST_SHOWN and (height, width, pixels) in alike:
            seen_at[row, row + height, column, column + width].append(np.frombuffer(pixels, np.uint8))
    for (top, bottom, left, right), both in seen_at.items():
        for look, seen in zip((other, maze), both, strict=False):
            look[top:bottom, left:right] = seen.reshape(bottom - top, right - left, 3)
    # And where somebody passed so often that one look is not clear, the other one tells which it is.
    for rows, columns in [*spots(_differ(maze, other))]:
        one, another = (_cut(look, rows, columns) for look in (maze, other))
        for look, clear, unclear in ((other, one, another), (maze, another, one)):
            if clear in alike and unclear not in alike:
                height, width, pixels = alike[clear]
                here = look[rows.min() : rows.min() + height, columns.min() : columns.min() + width]
                here[:] = np.frombuffer(pixels, np.uint8).reshape(here.shape)
    found = [(rows, columns, _strip(pictures)) for rows, columns, pictures in signs]
    went = {i: [bright[k] for k in numbers] for i, numbers in gone.items()}
    counts = _counts([(*sign, pictures) for sign, (*_, pictures) in zip(found, signs, strict=True)], went, maze, other)
    sheet, paths, crowd, home, tiles = _sheet(shown, changed, maze.shape)
    if sheet is not None:
        sheet = np.concatenate([sheet, _paths(paths, crowd, home, len(sheet))])
        sprites = Sprites(sheet, to_tensor(np.stack([prepare(maze), prepare(other)])))
        may_begin = _may_begin(shown)
        begun = _begun(sprites, [(screens[i], screens[i + 1]) for i in may_begin])
        places = {i: _middles(screen, tiles) for i, screen in enumerate(shown)}
        went_on = [_ways(*places[i]) for i in sorted({*range(0, len(shown) - 1, 2)} - {*may_begin})]
        _mark(sheet, sprites, _starts(sprites, begun), _meets(sprites, begun, chain(*went_on)))
        middles = np.reshape([np.mean(spot, axis=1) for spot in two], (-1, 2)) + _margins(maze.shape) + 0.5
        ways = (chain(*(_ways(places[i][0], middles[k]) for i, k in some.items())) for some in (gone, stays))
        bite = _bite(*ways)
        for spot in spots(_differ(maze, other)):
            counts[*_around(*spot), 0] = bite
    return maze, other, counts, _stacked([sign for sign in found if sign[2]], maze), sheet


def _alike(maze: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, dict[Picture, Picture]]:
    """The other look of a maze without the spots that look like hardly any other, which are pieces of a spot or of who
    passes; and the pictures of those that are left, with that of the other look of each."""
    found = [(spot, tuple(sorted(_cut(look, *spot) for look in (maze, other)))) for spot in spots(_differ(maze, other))]
    times = Counter(looks for _, looks in found)
    other = other.copy()
    for spot, looks in found:
        if times[looks] < LEAST_ALIKE:
            other[spot] = maze[spot]
    often = [looks for looks, count in times.items() if count >= LEAST_ALIKE]
    return other, {picture: partner for one, another in often for picture, partner in ((one, another), (another, one))}


def _cut(screen: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Picture:
    """The picture that pixels of a screen make."""
    row, column = int(rows.min()), int(columns.min())
    picture = np.zeros((int(rows.max()) + 1 - row, int(columns.max()) + 1 - column, 3), np.uint8)
    picture[rows - row, columns - column] = screen[rows, columns]
    return picture.shape[0], picture.shape[1], picture.tobytes()


def _which(screen: np.ndarray, maze: np.ndarray, other: np.ndarray, spot: tuple[np.ndarray, np.ndarray]) -> int:
    """Whether a spot shows its one look, 1, or its other one, -1, or neither, 0."""
    seen = screen[spot]
    return int(np.array_equal(seen, maze[spot])) - int(np.array_equal(seen, other[spot]))


def _looks(pictures: Counter[bytes]) -> list[bytes]:
    """The looks of a place with these pictures, the frequent ones first; none if it is not a sign's."""
    often = [(picture, times) for picture, times in pictures.most_common() if times >= LEAST_SHOWN]
    if not 2 <= len(often) <= MOST_LOOKS or sum(times for _, times in often) < LEAST_SHARE * pictures.total():
        return []
    return [picture for picture, _ in often]


def _strip(pictures: Mapping[int, bytes]) -> list[np.ndarray]:
    """The looks `[pixels, 3]` of a sign that showed these pictures on screens by number, each followed by the one that
    follows on it most often."""
    looks = _looks(Counter(pictures.values()))
    pairs = Counter((pictures[i], pictures[i + 1]) for i in pictures if i % 2 == 0 and i + 1 in pictures)
    follows = {
        one: other for (one, other), _ in reversed(pairs.most_common()) if one != other and {one, other} <= {*looks}
    }
    strip: list[bytes] = []
    # First those that follow on none, or nobody would come to them; then, in circles, the others.
    for look in sorted(looks, key=lambda look: look in follows.values()):
        if look not in strip:
            while look not in strip:
                strip.append(look)
                look = follows.get(look, look)
            if strip[-1] != look:
                strip.append(look)
    return [np.frombuffer(picture, np.uint8).reshape(-1, 3) for picture in strip]


def _counts(
    signs: Sequence[tuple[np.ndarray, np.ndarray, list[np.ndarray], Mapping[int, bytes]]],
    gone: Mapping[int, Sequence[Picture]],
    maze: np.ndarray,
    other: np.ndarray,
) -> np.ndarray:
    """A screen of what counts, black elsewhere: in green and blue, as 256 and 1, by how much a number grows when a spot
    goes, and, where its figures are, which are red, by how much it does at least for anything else.

    `signs` are rows, columns, looks, and pictures by screen; `gone` the brighter looks of the spots that are gone on a
    screen since the one before it.
    """
    figures: list[tuple[int, slice, slice, dict[bytes, int], Mapping[int, bytes]]] = []
    for rows, columns, looks, pictures in signs:
        lit = dict.fromkeys(look.tobytes() for look in looks if look.any())
        values = {look: i for i, look in enumerate(lit)} | {look.tobytes(): -1 for look in looks if not look.any()}
        high, wide = (slice(int(line.min()), int(line.max()) + 1) for line in (rows, columns))
        figures.append((len(lit), high, wide, values, pictures))
    # A number's figures, and beside them those that are hardly ever there.
    number = [figure for figure in figures if figure[0] == FIGURES]
    number = [figure for figure in number if figure[1] == number[0][1]]
    number += [
        figure
        for figure in figures
        if 0 < figure[0] < FIGURES
        and any(figure[1] == by[1] and 0 <= figure[2].start - by[2].stop < TILE // 2 for by in number)
    ]
    number.sort(key=lambda figure: figure[2].start)

    def read(i: int) -> int | None:
        """The number on a screen, None where it cannot be read."""
        shown = [values.get(pictures.get(i, b"")) for *_, values, pictures in number]
        text = "".join(str(value) for value in shown if value is not None and value >= 0)
        return int(text) if text and None not in shown else None

    gains = defaultdict[Picture, Counter[int | None]](Counter)
    others = Counter[int]()
    for i, went in gone.items():
        one, another = read(i - 1), read(i)
        gain = None if one is None or another is None else another - one
        if len(went) == 1:
            gains[went[0]][gain] += 1
        elif not went and gain is not None:
            others[gain] += 1
    screen, most = np.zeros_like(maze), 1
    for rows, columns in spots(_differ(maze, other)):
        # One look of a spot may be a little off, where somebody passed too often.
        gained = max((gains[_cut(look, rows, columns)] for look in (maze, other)), key=Counter.total)
        points, times = max(gained.items(), key=lambda gain: gain[1], default=(None, 0))
        if points is not None and points > 0 and times >= max(LEAST_SHOWN, LEAST_ALIKE_POINTS * gained.total()):
            screen[*_around(rows, columns), 1:] = divmod(points, 256)
            most = max(most, points)
    rest = [gain for gain, times in others.items() if gain > most and times >= LEAST_SHOWN]
    if screen.any():
        for _, high, wide, *_ in number:
            screen[high, wide] = 255, *divmod(min(rest, default=most), 256)
    return screen


def _around(rows: np.ndarray, columns: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a spot and of a margin around it."""
    high, wide = (slice(max(0, int(line.min()) - MARGIN), int(line.max()) + 1 + MARGIN) for line in (rows, columns))
    return high, wide


def _stacked(signs: Sequence[Sign], maze: np.ndarray) -> np.ndarray | None:
    """Mazes one above the other with the looks of all signs; the last one comes again where there are fewer."""
    if not signs:
        return None
    screens = np.stack([maze] * max(len(looks) for *_, looks in signs))
    for rows, columns, looks in signs:
        for i, screen in enumerate(screens):
            screen[rows, columns] = looks[min(i, len(looks) - 1)]
    return np.concatenate([_square(screen) for screen in screens])


def _differ(one: np.ndarray, another: np.ndarray) -> np.ndarray:
    """Where two screens differ, bool `[H, W]`; quicker than `any`."""
    red, green, blue = (one != another).transpose(2, 0, 1)
    return np.asarray(red | green | blue)


def _blocks(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each set of true pixels whose blocks touch."""
    padded = np.pad(mask, [(0, -size % BLOCK) for size in mask.shape])
    blocks = padded.reshape(len(padded) // BLOCK, BLOCK, -1, BLOCK)
    found = []
    for rows, columns in spots(np.asarray(blocks.any((1, 3)))):
        inside = np.argwhere(blocks[rows, :, columns])
        found.append((rows[inside[:, 0]] * BLOCK + inside[:, 1], columns[inside[:, 0]] * BLOCK + inside[:, 2]))
    return found


def _sheet(
    shown: Sequence[Sequence[Seen]], changed: Sequence[np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray | None, set[tuple[int, int]], set[tuple[int, int]], set[tuple[int, int]], dict[Picture, Tile]]:
    """The frequent sprites, those of one thing side by side, and first those of what `changed` spots; where their tiles
    are seen, on all screens, on one of those that show most of them, and where most things come back to; and the tiles.

    Each is shifted in its tile so that its places are cells, and those of the others where it can be: a ghost's eyes
    alone lie where they do in a ghost.
    """
    found: defaultdict[Picture, Counter[tuple[int, int]]] = defaultdict(Counter)
    for picture, row, column in chain(*shown):
        found[picture][row, column] += 1
    screens_with = Counter(chain(*({picture for picture, *_ in screen} for screen in shown)))
    sheet = _square(np.zeros(shape, np.uint8))
    side, tiles, shift = len(sheet) // TILE, {}, {}
    lanes = np.zeros(sheet.shape[:2], bool)
    often = [(picture, places) for picture, places in found.items() if screens_with[picture] >= LEAST_TIMES]
    for picture, places in sorted(often, key=lambda sprite: -sprite[1].total())[: min(side**2 // 2, MOST_SPRITES)]:
        height, width, pixels = picture
        starts, times = np.array([*places]) + _margins(shape), np.array([*places.values()])
        row, column = _shift(height, width, starts, times, lanes)
        lanes[tuple((starts - (row, column)).T)] = True
        tile = np.zeros((TILE, TILE, 3), np.uint8)
        tile[row : row + height, column : column + width] = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
        tiles[picture] = tile
        shift[picture] = _margins(shape)[0] - row, _margins(shape)[1] - column
    seen = [
        {(row + shift[picture][0], column + shift[picture][1]) for picture, row, column in screen if picture in tiles}
        for screen in shown
    ]
    things = [(not _changes(thing, shown, changed), thing) for thing in _things(tiles, shown)]
    i = int(all(other for other, _ in things))  # the first tile is black where nothing changes spots
    which: dict[Picture, Tile] = {}
    for number, (_, thing) in enumerate(sorted(things, key=lambda each: each[0]), CHANGER + i):
        for look in thing:
            down, across = shift[look]
            which[look] = number * (len(thing) > 1), down + TILE // 2, across + TILE // 2
            top, left = i // side * TILE, i % side * TILE
            sheet[top : top + TILE, left : left + TILE] = tiles[look]
            i += 1
        i += 1
    crowds = sorted(seen, key=len, reverse=True)
    crowd = crowds[min(LEAST_TIMES, len(crowds)) - 1] if tiles else set()
    home = _home([look for _, look in things], shown, shift)
    return sheet if tiles else None, set().union(*seen), crowd, home, which


def _home(
    things: Sequence[Sequence[Picture]], shown: Sequence[Sequence[Seen]], shift: Mapping[Picture, tuple[int, int]]
) -> set[tuple[int, int]]:
    """Where a thing's tile is, when it is back on a screen, most often, while there is one fewer of what there are
    several: nowhere, or one place."""
    which = {look: k for k, looks in enumerate(things) for look in looks if len(looks) > 1}
    several = {*shift} - {*which}
    back = []
    for one, two in zip(shown[::2], shown[1::2], strict=False):
        before, after = ([look for look, *_ in screen] for screen in (one, two))
        if sum(look in several for look in before) > sum(look in several for look in after):
            there = {which.get(look) for look in before}
            new = [(look, row, column) for look, row, column in two if look in which and which[look] not in there]
            back += [(row + shift[look][0], column + shift[look][1]) for look, row, column in new]
    places = np.reshape(back, (-1, 2))
    near = (np.abs(places[:, None] - places).max(-1) <= TILE // 2).sum(1)
    return {back[int(near.argmax())]} if back and near.max() >= LEAST_SHOWN else set()


def _may_begin(shown: Sequence[Sequence[Seen]]) -> list[int]:
    """The first of each two screens of which the second one shows somebody farther than `FAR` from all of the first."""
    places = [np.reshape([place for _, *place in screen], (-1, 2)) for screen in shown]
    ways = {i: np.abs(places[i][:, None] - places[i + 1]).max(-1) for i in range(0, len(places) - 1, 2)}
    return [i for i, way in ways.items() if len(way) and (way.min(0) > FAR).any()]


def _begun(sprites: Sprites, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[list[Place], list[Place]]]:
    """Who is where on each two screens between which another scene has begun.

    They are looked for as in a decoded frame: where a scene begins they often touch.
    """
    found = [[sprites.find(to_tensor(prepare(screen)))[0] for screen in pair] for pair in pairs]
    return [(before, after) for before, after in found if sprites.elsewhere(after, before)]


def _starts(sprites: Sprites, begun: Sequence[tuple[list[Place], list[Place]]]) -> list[Place]:
    """Where things are when another scene has begun, and how they look there most often."""
    there: defaultdict[int, list[Place]] = defaultdict(list)
    for place in chain(*(after for _, after in begun)):
        there[int(sprites.things[place.sprite])].append(place)
    starts = []
    for thing, places in there.items():
        if thing and len(places) >= LEAST_SHOWN:
            row, column = (int(x) // STEP * STEP for x in np.median([place[1:3] for place in places], axis=0))
            starts.append(Place(Counter(place.sprite for place in places).most_common(1)[0][0], row, column))
    return starts


def _meets(sprites: Sprites, begun: Sequence[tuple[list[Place], list[Place]]], went_on: Iterable[float]) -> int:
    """How near, each way, what changes spots never is to a thing where a scene goes on, half a tile at most; 0 unless
    it was near to one on the screens after which a scene has `begun`. `went_on` are the ways where none has."""
    near = []
    for before, _ in begun:
        places: list[list[tuple[int, int]]] = [[], []]
        for place in before:
            if thing := int(sprites.things[place.sprite]):
                places[thing != sprites.changing].append((place.row, place.column))
        near.append(min(_ways(*(np.reshape(some, (-1, 2)) for some in places)), default=TILE * TILE) <= FAR)
    known = sprites.changing and len(near) >= LEAST_SHOWN and np.mean(near) >= LEAST_NEAR
    return int(min(chain([TILE // 2], went_on))) if known else 0


def _bite(gone: Iterable[float], left: Iterable[float]) -> int:
    """How near to what changes spots those are that are `gone`, while all that are `left` are farther; 0 if that is not
    clear."""
    farthest, nearest = sorted(gone, reverse=True)[LEAST_SHOWN - 1 :], sorted(left)[LEAST_SHOWN - 1 :]
    clear = farthest and nearest and farthest[0] < nearest[0]
    return int(nearest[0]) - STEP // 2 if clear else 0  # places are rounded to cells


def _middles(screen: Sequence[Seen], tiles: Mapping[Picture, Tile]) -> tuple[np.ndarray, np.ndarray]:
    """Where on a screen padded to a square the middles of tiles are, `[N, 2]`: of what changes spots, and of things."""
    places: list[list[tuple[int, int]]] = [[], []]
    for picture, row, column in screen:
        thing, down, across = tiles.get(picture, (0, 0, 0))
        if thing:
            places[thing != CHANGER].append((row + down, column + across))
    eater, things = (np.reshape(some, (-1, 2)) for some in places)
    return eater, things


def _ways(places: np.ndarray, others: np.ndarray) -> list[float]:
    """How far places `[N, 2]` are from others `[M, 2]`, the larger of both ways."""
    return np.abs(places[:, None] - others).max(-1).ravel().tolist()


def _shift(height: int, width: int, starts: np.ndarray, times: np.ndarray, lanes: np.ndarray) -> tuple[int, int]:
    """Where in its tile a sprite is that begins in these places `[P, 2]` of a square, so many times each: so that its
    tile is most often where others are, in `lanes`, and then as near to the middle as it can be."""
    odd = [int(np.bincount(start % STEP).argmax()) for start in starts.T]
    ends = (max(MARGIN + k, TILE - MARGIN - n) for k, n in zip(odd, (height, width), strict=True))
    down, across = (range(MARGIN + k, end + 1, STEP) for k, end in zip(odd, ends, strict=True))

    def good(shift: tuple[int, int]) -> tuple[int, int]:
        met = times[lanes[tuple((starts - shift).T)]].sum()
        return int(met), -abs(2 * shift[0] + height - TILE) - abs(2 * shift[1] + width - TILE)

    return max(product(down, across), key=good)


def _paths(
    places: Iterable[tuple[int, int]], crowd: Iterable[tuple[int, int]], home: Iterable[tuple[int, int]], side: int
) -> np.ndarray:
    """A screen with the middles of these tiles in white, and what is between and right beside them; red the middles of
    those in which somebody is at the same time, green that of the one to which things come back, yellow both."""
    cells = np.zeros((side // STEP, side // STEP), np.uint8)
    for row, column in places:
        cells[(row + TILE // 2) // STEP, (column + TILE // 2) // STEP] = 255
    grown = Image.fromarray(cells).filter(ImageFilter.MaxFilter(2 * GAP + 1))
    white = np.array(grown.filter(ImageFilter.MinFilter(2 * (GAP - SLACK) + 1)))
    screen = np.stack([white] * 3, -1)
    marks = np.zeros_like(screen)
    for colour, tiles in enumerate((crowd, home)):
        for row, column in tiles:
            marks[(row + TILE // 2) // STEP, (column + TILE // 2) // STEP, colour] = 255
    screen = np.where(marks.any(-1, keepdims=True), marks, screen)
    return screen.repeat(STEP, 0).repeat(STEP, 1)


def _mark(sheet: np.ndarray, sprites: Sprites, starts: Iterable[Place], meets: int) -> None:
    """Mark on the paths of a sheet, in blue, where these sprites are when a scene begins, as numbers from 1 on; and in
    green, at what changes spots, how near a thing never is to it."""
    for sprite, row, column, *_ in starts:
        middle = sheet[len(sheet) // 2 + row + TILE // 2 :, column + TILE // 2 :][:STEP, :STEP]
        middle[middle.all(-1)] = 0
        middle[..., 2] = sprite + 1
        if meets and int(sprites.things[sprite]) == sprites.changing:
            middle[..., 1] = meets


def _things(tiles: Mapping[Picture, np.ndarray], shown: Sequence[Sequence[Seen]]) -> list[list[Picture]]:
    """The sprites, looks of one thing together: no screen shows two of them, though by chance many would.

    What is most alike is put together first, as long as what screens show allows it.
    """
    index = {picture: i for i, picture in enumerate(tiles)}
    times = np.zeros((len(shown), len(tiles)))
    for screen, pictures in zip(times, shown, strict=True):
        np.add.at(screen, [index[picture] for picture, *_ in pictures if picture in index], 1)
    # How many screens show one and another; one twice.
    there = (times > 0).astype(float)
    together = there.T @ there
    np.fill_diagonal(together, (times > 1).sum(0))
    count, screens = there.sum(0), max(1, len(shown))
    pixels = np.stack([tile.ravel() for tile in tiles.values()]).astype(np.float32) if tiles else np.zeros((0, 1))
    apart = np.square(pixels).sum(1)[:, None] + np.square(pixels).sum(1) - 2 * pixels @ pixels.T
    once = together.diagonal() <= MOST_TOGETHER * count**2 / screens
    things = [[i] for i in range(len(tiles))]
    thing = list(range(len(tiles)))
    pairs = [divmod(int(pair), len(tiles)) for pair in apart.argsort(axis=None)]
    pairs = [(i, j) for i, j in pairs if i < j and once[i] and once[j]]
    grown = True
    while grown:
        grown = False
        for i, j in pairs:
            one, other = things[thing[i]], things[thing[j]]
            expected = count[one].sum() * count[other].sum() / screens
            seen = together[np.ix_(one, other)].sum()
            if one is not other and expected >= LEAST_EXPECTED and seen <= MOST_TOGETHER * expected:
                one += other
                for look in [*other]:
                    thing[look] = thing[i]
                grown = True
    names = list(tiles)
    return [[names[look] for look in sorted(things[k])] for k in dict.fromkeys(thing)]


def _changes(thing: Sequence[Picture], shown: Sequence[Sequence[Seen]], changed: Sequence[np.ndarray]) -> bool:
    """Whether spots change where a thing of several looks is. `changed` are the middles `[spots, 2]` of those that each
    screen shows otherwise than the one before; where `RENEWED` or more are, it is a new maze."""
    near: list[bool] = []
    pictures = {*thing}
    for before, middles in zip(shown, changed[1:], strict=False):
        if len(middles) >= RENEWED:
            continue
        for (height, width, _), row, column in (seen for seen in before if seen[0] in pictures):
            near += (np.abs(middles - (row + height / 2, column + width / 2)).max(1) <= TILE).tolist()
    return len(thing) > 1 and len(near) >= LEAST_CHANGES and float(np.mean(near)) >= LEAST_NEAR


def _margins(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows above and columns before a screen when `neural_pacman.frames.prepare` pads it to a square."""
    side = max(shape[:2])
    return (side - shape[0]) // 2, (side - shape[1]) // 2


def _square(screen: np.ndarray) -> np.ndarray:
    """A screen padded to a square with black, as `neural_pacman.frames.prepare` does."""
    side = max(screen.shape[:2])
    square = np.zeros((side, side, 3), np.uint8)
    row, column = _margins(screen.shape)
    square[row : row + screen.shape[0], column : column + screen.shape[1]] = screen
    return square

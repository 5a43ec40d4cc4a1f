"""The pictures of an autoencoder: background, other look, and the looks of what is drawn, signs and sprites.

What differs from both looks of the maze (`training.background`) moves, or is a sign. A sign shows one of a few
pictures and stays at its place; a sprite is the same picture, pixel by pixel, wherever it goes. Two sprites that touch,
or one that is half covered, make a picture that hardly ever comes again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from neural_pacman.autoencoder import RENEWED
from neural_pacman.frames import prepare, to_tensor
from neural_pacman.looks import STEP, TILE, Sprites, spots
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
LEAST_TIMES = 6
"""Screens on which a sprite is seen, and on which so many are."""
MARGIN = 2
"""Empty pixels before a sprite in its tile."""
GAP, SLACK = 5, 2
"""Half the cells between places on a path that are not seen, and the cells beside it: a ghost's eyes alone, say, lie
elsewhere in their tile than in a ghost's."""
LEAST_CHANGES, LEAST_NEAR = 20, 0.8
"""Spots that change while a thing is on the screen, and the share of these that it is near to, for it to be what
changes them."""
LEAST_EXPECTED, MOST_TOGETHER = 3.0, 0.1
"""Screens that would show two sprites together by chance, for them to be looks of one thing, and the share of these
that may do so."""

Picture = tuple[int, int, bytes]
"""Height, width and pixels of a sprite."""
Seen = tuple[Picture, int, int]
"""And its first row and column on a screen."""
Sign = tuple[np.ndarray, np.ndarray, list[np.ndarray]]
"""Rows and columns of its pixels, and its looks."""


def read_pictures(folder: Path) -> Pictures:
    """What a trained autoencoder's folder has of its pictures, uint8 `[H, W, 3]` each."""
    files = (folder / name for name in PICTURES)
    return tuple(np.array(Image.open(file).convert("RGB")) if file.exists() else None for file in files)


def find_pictures(frames: np.ndarray, screens: Sequence[np.ndarray], kept: Pictures | None = None) -> Pictures:
    """The pictures of prepared frames `[N, 512, 512, 3]` and of screens, as far as they are not there."""
    background, other, signs, sprites = kept or [None] * len(PICTURES)
    background = median_frame(frames) if background is None else background
    if signs is None and sprites is None:
        *maze, signs, sprites = find_looks(screens)
        other = _both(background, *maze) if other is None else other
    return background, other, signs, sprites


def _both(background: np.ndarray, *looks: np.ndarray) -> np.ndarray:
    """Both looks of the maze one above the other, uint8 `[1024, 512, 3]`, like the background where they agree."""
    one, other = map(prepare, looks)
    return np.concatenate([np.where(_differ(one, other)[..., None], look, background) for look in (one, other)])


def find_looks(screens: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Both looks of the maze on upright screens uint8 `[H, W, 3]`, and signs and sprites as `neural_pacman.looks` wants
    them, None for none.

    Every screen is asked for once or twice, one at a time: two in a row, then another two, and so on. Those of another
    shape than the first are left out.
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
    touching: list[int] = []
    two, looks = [*spots(_differ(maze, other))], np.zeros(0)
    for i, screen in enumerate(screens):
        shown.append([])
        changed.append(np.zeros((0, 2)))
        if screen.shape != maze.shape:
            looks = np.zeros(0)
            continue
        before, looks = looks, np.array([_which(screen, maze, other, spot) for spot in two])
        if i % 2 and len(before):
            changed[-1] = np.reshape([np.mean(two[k], axis=1) for k in np.flatnonzero(before * looks < 0)], (-1, 2))
        for rows, columns, pictures in signs:
            pictures[i] = screen[rows, columns].tobytes()
        moving = _differ(screen, maze) & _differ(screen, other) & ~still
        for rows, columns in _blocks(moving):
            row, column = int(rows.min()), int(columns.min())
            height, width = int(rows.max()) + 1 - row, int(columns.max()) + 1 - column
            if max(height, width) > TILE - 2 * MARGIN:
                touching.append(i)
            elif len(rows) >= LEAST_PIXELS:
                shown[-1].append((_cut(screen, rows, columns), row, column))
            else:
                small[_cut(screen, rows, columns), row, column] += 1
    # What looks like the other spots now and then is one too: where actors pass all the time none was recognized.
    seen_at: defaultdict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    for ((height, width, pixels), row, column), times in small.items():
        if times >= LEAST_SHOWN and (height, width, pixels) in alike:
            seen_at[row, row + height, column, column + width].append(np.frombuffer(pixels, np.uint8))
    for (top, bottom, left, right), both in seen_at.items():
        for look, seen in zip((other, maze), both, strict=False):
            look[top:bottom, left:right] = seen.reshape(bottom - top, right - left, 3)
    found = [(rows, columns, _strip(pictures)) for rows, columns, pictures in signs]
    sheet, places, crowd = _sheet(shown, changed, maze.shape)
    if sheet is not None:
        chosen = np.unique(touching)
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(SOME, len(chosen))).astype(int)]
        places |= _places(sheet, np.stack([maze, other]), (screens[i] for i in chosen))
        sheet = np.concatenate([sheet, _paths(places, crowd, len(sheet))])
    return maze, other, _stacked([sign for sign in found if sign[2]], maze), sheet


def _alike(maze: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, set[Picture]]:
    """The other look of a maze without the spots that look like hardly any other, which are pieces of a spot or of who
    passes; and the pictures of those that are left."""
    found = [(spot, frozenset(_cut(look, *spot) for look in (maze, other))) for spot in spots(_differ(maze, other))]
    times = Counter(looks for _, looks in found)
    other = other.copy()
    for spot, looks in found:
        if times[looks] < LEAST_ALIKE:
            other[spot] = maze[spot]
    return other, {picture for looks, count in times.items() if count >= LEAST_ALIKE for picture in looks}


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
) -> tuple[np.ndarray | None, set[tuple[int, int]], set[tuple[int, int]]]:
    """The frequent sprites, each shifted in its tile so that its places are cells, those of one thing side by side, and
    first those of what `changed` spots; and where their tiles are seen, on all screens and on one of those that show
    most of them."""
    found: defaultdict[Picture, Counter[tuple[int, int]]] = defaultdict(Counter)
    for picture, row, column in chain(*shown):
        found[picture][row, column] += 1
    screens_with = Counter(chain(*({picture for picture, *_ in screen} for screen in shown)))
    sheet = _square(np.zeros(shape, np.uint8))
    across, tiles, shift = len(sheet) // TILE, {}, {}
    often = [(picture, places) for picture, places in found.items() if screens_with[picture] >= LEAST_TIMES]
    for picture, places in sorted(often, key=lambda sprite: -sprite[1].total())[: across**2 // 2]:
        height, width, pixels = picture
        starts = np.array([*places]) + _margins(shape)
        row, column = (MARGIN + int(np.bincount(start % STEP).argmax()) for start in starts.T)
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
    for _, thing in sorted(things, key=lambda each: each[0]):
        for look in thing:
            top, left = i // across * TILE, i % across * TILE
            sheet[top : top + TILE, left : left + TILE] = tiles[look]
            i += 1
        i += 1
    crowds = sorted(seen, key=len, reverse=True)
    return sheet if tiles else None, set().union(*seen), crowds[min(LEAST_TIMES, len(crowds)) - 1] if tiles else set()


def _places(sheet: np.ndarray, looks: np.ndarray, screens: Iterable[np.ndarray]) -> set[tuple[int, int]]:
    """Where tiles of sprites are on screens on which they touch: what is found there and half of whose pixels agree."""
    sprites = Sprites(sheet, to_tensor(np.stack([prepare(look) for look in looks])))
    seen = set()
    for screen in screens:
        pixels = to_tensor(_square(screen))
        for sprite, row, column, _ in sprites.find(to_tensor(prepare(screen)))[0]:
            tile = pixels[:, row : row + TILE, column : column + TILE]
            agree = ((tile - sprites.colours[sprite]).abs() < 1 / 255).all(0)
            if agree[sprites.covers[sprite] > 0].float().mean() > 0.5:
                seen.add((row, column))
    return seen


def _paths(places: Iterable[tuple[int, int]], crowd: Iterable[tuple[int, int]], side: int) -> np.ndarray:
    """A screen with the middles of these tiles in white, and what is between and right beside them; in red the middles
    of those in which somebody is at the same time."""
    cells = np.zeros((side // STEP, side // STEP), np.uint8)
    for row, column in places:
        cells[(row + TILE // 2) // STEP, (column + TILE // 2) // STEP] = 255
    grown = Image.fromarray(cells).filter(ImageFilter.MaxFilter(2 * GAP + 1))
    white = np.array(grown.filter(ImageFilter.MinFilter(2 * (GAP - SLACK) + 1)))
    screen = np.stack([white] * 3, -1)
    for row, column in crowd:
        screen[(row + TILE // 2) // STEP, (column + TILE // 2) // STEP] = (255, 0, 0)
    return screen.repeat(STEP, 0).repeat(STEP, 1)


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

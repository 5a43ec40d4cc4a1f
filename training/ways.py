"""Where things turn, and what they do there: `ways.png` of `neural_pacman.ways`, found in recordings.

Whoever turns within a step was where the row of one place crosses the column of the other: on a grid of nodes, as it
shows. How long before a turn it counts where what changes spots was, how often the way is the shortest, and whether one
search tells which of several ways that are as short is taken, is tried: what was likely most often happened. And
whether what changes spots goes where the actions lead is seen by letting them lead it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
import torch.nn.functional as F

from neural_pacman.autoencoder import FrameAutoencoder
from neural_pacman.frames import FRAME_SIZE, to_tensor
from neural_pacman.looks import FAR, STANDS_OUT, STEP, TILE, Place, Sprites, middle
from neural_pacman.progress import progress_bar
from neural_pacman.ways import LEADS, OFF, WAYS, Chase, Heading, Ways, straight

Cast = dict[int, Place]
"""Who is found on a screen, by the number of the thing."""

Run = tuple[np.ndarray, np.ndarray]
"""Consecutive prepared frames, uint8 `[T, 512, 512, 3]`, and the actions that lead out of them, `[T]`."""

LEAST_CORNERS = 20
"""Turns that tell where nodes are."""
UNITS = range(40, 11, -1)
"""Distances of nodes side by side, in the game's pixels, that are tried."""
LEAST_ON_GRID = 0.9
"""Share of the turns that are where nodes are."""
LAGS = (0, 32, 64, 96, 128)
"""What is tried: how long before a turn, in 255ths of a step."""
SHORTEST = (230, 242, 250, 253)
"""And how many of 255 turns go the shortest way."""
SEARCHED = (2, 3, 0, 1)
"""The order, of `WAYS`, in which a search looks at what is beside a tile: left, right, up and down."""
WALL = 1000
"""What a tile that is no node costs."""
MOST_CHOICES = 8
"""Choices on a way that there is room for."""
LEAST_LED = 0.98
"""Share of the steps that must lead where actions do."""
LEAST_GAIN = 0.2
"""Share of the surprise at what things do that must be gone where it is known where they are heading."""


def find_ways(model: FrameAutoencoder, runs: Iterable[Run]) -> np.ndarray | None:
    """The nodes of an autoencoder's paths, uint8 `[side, side, 3]` or two of these as `Ways` wants them, found in runs;
    None where things go by no rule of that kind, or it is not known what they are."""
    sprites = model.sprites
    if sprites is None or not sprites.changing or not sprites.cast:
        return None
    trails, actions = [], []
    for frames, led in runs:
        trails.append(_trail(model, frames))
        actions.append(led)
    corners = [corner for trail in trails for corner in _corners(trail)]
    screen = np.zeros((sprites.side, sprites.side, 3), np.uint8)
    nodes = _grid(corners, sprites)
    if nodes is None:
        return None
    pace = _pace(trails, sprites.changing)

    def tried(shortest: int, lag: int) -> tuple[float, float]:
        screen[tuple(nodes.T)] = shortest, lag, pace
        return _surprise(Ways(screen), trails, sprites.changing)

    lag = min(LAGS, key=lambda lag: tried(SHORTEST[-1], lag))
    alike, chosen = screen, np.concatenate([screen, _choices(Ways(screen), _numbers(nodes, sprites), sprites.side)])
    for it, count in _over(trails).items():
        chosen[sprites.side + it, 0, 2] = 1 + count
    chosen[sprites.side + sprites.changing, 1, 2] = _led(Ways(screen), trails, actions, sprites.changing)
    before = tried(SHORTEST[-1], lag)
    screen = chosen
    if tried(SHORTEST[-1], lag) >= before:
        screen = alike
    shortest = min(SHORTEST, key=lambda shortest: tried(shortest, lag))
    told, untold = tried(shortest, lag)
    return screen if told < (1 - LEAST_GAIN) * untold else None


def _over(trails: Iterable[Sequence[Cast]]) -> dict[int, int]:
    """Over how many others every thing is drawn that is ever seen where another one is: who is hidden is named last."""
    seen: Counter[tuple[int, int]] = Counter()
    for cast in (cast for trail in trails for cast in trail):
        things = [it for it, place in cast.items() if not place.was]  # who is one of several looks like all of them
        seen.update((one, other) for one, other in combinations(things, 2) if cast[one][1:3] == cast[other][1:3])
    ever = {it for pair in seen for it in pair}
    return {it: sum(seen[it, other] > seen[other, it] for other in ever) for it in ever}


def _led(ways: Ways, trails: Iterable[Sequence[Cast]], actions: Iterable[np.ndarray], changing: int) -> int:
    """How far what changes spots goes in a step, in the game's pixels, if that is where actions lead it, or 0."""
    moves: list[tuple[np.ndarray, np.ndarray, int, np.ndarray]] = []
    for trail, led in zip(trails, actions, strict=True):
        for first, one, other, action in zip(trail, trail[1:], trail[2:], led[1:].tolist(), strict=False):
            if changing in {*first} & {*one} & {*other}:
                came, goes = _step(first[changing], one[changing]), _step(one[changing], other[changing])
                if max(*np.abs(came), *np.abs(goes)) <= FAR:
                    moves.append((middle(one[changing]), came, LEADS[action], middle(other[changing])))
    steps = Counter(int(np.abs(to - at).sum()) for at, _, _, to in moves if (to != at).any())
    far = steps.most_common(1)[0][0] if steps else 0
    places = [(ways.lead(at, came, way, far), to) for at, came, way, to in moves]
    right = [place is not None and np.abs(place - to).max() <= 2 * OFF for place, to in places]
    return far if right and np.mean(right) >= LEAST_LED else 0


def _numbers(nodes: np.ndarray, sprites: Sprites) -> list[tuple[int, int]]:
    """The column and row of every node's tile, counted from where the maze begins."""
    drawn = (sprites.maze + 1 > STANDS_OUT).any(0).any(0).cpu().numpy()
    begins = np.argwhere(drawn).min(0) * sprites.side / FRAME_SIZE if drawn.any() else np.zeros(2)
    apart = np.abs(nodes[:, None] - nodes).sum(-1)
    unit = apart[apart > 0].min()
    return [(int(column), int(row)) for row, column in (nodes - begins) // unit]


def _choices(ways: Ways, numbers: Sequence[tuple[int, int]], side: int) -> np.ndarray:
    """Which of the ways that are as short a search takes from node to node, uint8 `[side, side, 3]` as `Ways` wants it.

    Args:
        numbers: the column and row of every node's tile.
    """
    told = np.zeros((side, side, 3), np.uint8)
    node_at = {tile: node for node, tile in enumerate(numbers)}
    for start in progress_bar(range(len(numbers)), desc="ways", unit="node"):
        for goal in range(len(numbers)):
            code, count, node = 0, 0, start
            for tile in _search(numbers[start], numbers[goal], node_at)[1:]:
                way = ways.beside[node].tolist().index(node_at[tile])
                nearer = (ways.beside[node] >= 0) & (ways.distance[ways.beside[node], goal] < ways.distance[node, goal])
                if not nearer[way]:
                    break  # a roundabout way
                if nearer.sum() > 1 and count < MOST_CHOICES:
                    code, count = code | way << 2 * count, count + 1
                node = node_at[tile]
            told[start, goal, :2] = code & 255, code >> 8
    return told


def _search(start: tuple[int, int], goal: tuple[int, int], nodes: Container[tuple[int, int]]) -> list[tuple[int, int]]:
    """The tiles (column, row) on the way from one to another, both counted, none if there is no way.

    It is an A* search by Manhattan distance that keeps what it has yet to look at in a set, walls among it for what
    they cost, and takes the first of the nearest: so it depends on the order of the set, which goes by the hashes of
    tuples of integers and is always the same. The game of the public recordings searches like that (PyPacman, MIT).
    """
    first = (*start, 0)
    far, before = {first: 0}, {first: first}
    left, done = {first}, set()
    while left:
        tile = min(left, key=lambda it: it[2] + far[it] + abs(it[0] - goal[0]) + abs(it[1] - goal[1]))
        if tile[:2] == goal:
            way = [tile]
            while way[-1] != first:
                way.append(before[way[-1]])
            return [(column, row) for column, row, _ in reversed(way)]
        if tile[2]:
            return []  # nothing but walls is left
        left.remove(tile)
        done.add(tile)
        for down, across in (WAYS[way] for way in SEARCHED):
            place = tile[0] + across, tile[1] + down
            beside = (*place, 0 if place in nodes else WALL)
            if beside not in done and beside not in left:
                far[beside], before[beside] = far[tile] + 1, tile
                left.add(beside)
    return []


@torch.no_grad()
def _trail(model: FrameAutoencoder, run: np.ndarray) -> list[Cast]:
    """Who is where on each of consecutive frames, as far as they are found."""
    assert model.sprites is not None
    things: list[int] = model.sprites.things.tolist()
    known, trail = model.blank(1), []
    for frame in run:
        known = model.follow(to_tensor(frame[None]), known)
        rows = model.cast_of(known)[0].tolist()
        places = [Place(*row) for row in rows if row[0] >= 0]
        who = {things[place.sprite] or place.was: place for place in places if not place.unseen}
        trail.append({it: place for it, place in who.items() if it})
    return trail


def _step(one: Place, other: Place) -> np.ndarray:
    return straight(middle(other) - middle(one))


def _corners(trail: Sequence[Cast]) -> list[np.ndarray]:
    """Where things turned: middles of tiles, `[2]`."""
    corners = []
    for first, one, other in zip(trail, trail[1:], trail[2:], strict=False):
        for it in {*first} & {*one} & {*other}:
            before, step = _step(first[it], one[it]), _step(one[it], other[it])
            if np.abs(step).max() > FAR or np.count_nonzero(before) != 1:
                continue
            axis = int(np.abs(before).argmax())
            if step.all():
                at = middle(one[it])
                at[axis] = middle(other[it])[axis]
                corners.append(at)
            elif step[1 - axis]:
                corners.append(middle(one[it]))
    return corners


def _pace(trails: Iterable[Sequence[Cast]], changing: int) -> int:
    """How far things go in a step, most often, in the game's pixels."""
    steps = (
        _step(one[it], other[it])
        for trail in trails
        for one, other in pairwise(trail)
        for it in {*one} & {*other} - {changing}
    )
    far = Counter(int(np.abs(step).sum()) for step in steps if step.any())
    return far.most_common(1)[0][0]


def _grid(corners: Sequence[np.ndarray], sprites: Sprites) -> np.ndarray | None:
    """The nodes: the points of the widest grid, `[n, 2]`, on which there are turns, as far as they are on paths."""
    if len(corners) < LEAST_CORNERS:
        return None
    turns = np.stack(corners)
    for unit in UNITS:
        offsets, shares = [], []
        for line in turns.T:
            apart = np.abs((line[:, None] - np.arange(unit) + unit // 2) % unit - unit // 2)
            right = (apart <= OFF).mean(0)
            best = np.flatnonzero(right == right.max())
            # Of those as good, the one that turns are at most often.
            offset = max(best.tolist(), key=lambda offset: int((line % unit == offset).sum()))
            offsets.append(offset)
            shares.append(right.max())
        if min(shares) >= LEAST_ON_GRID:
            break
    else:
        return None
    lines = [np.arange(offset, sprites.side - TILE // 2, unit) for offset in offsets]
    points = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 2)
    corner = (points - TILE // 2) // STEP
    inside = (corner >= 0).all(1) & (corner < sprites.paths.shape[0]).all(1)
    near = F.max_pool2d(sprites.paths.float()[None], 2 * (OFF // STEP) + 1, 1, OFF // STEP)[0] > 0
    points, corner = points[inside], corner[inside]
    nodes = points[near.cpu().numpy()[tuple(corner.T)]]
    beside = np.abs(nodes[:, None] - nodes).sum(-1) == unit
    return nodes[beside.any(1)]


def _surprise(ways: Ways, trails: Iterable[Sequence[Cast]], changing: int) -> tuple[float, float]:
    """How little likely what things do at nodes is, in nats, where it is known what they did before, and where not."""
    told, untold = [], []
    for trail in trails:
        beliefs: dict[int, Heading] = {}
        for first, one, other in zip(trail, trail[1:], trail[2:], strict=False):
            here = {*first} & {*one} & {*other}
            beliefs = {it: belief for it, belief in beliefs.items() if it in here}
            if changing not in here:
                continue
            chase = Chase(middle(one[changing]), _step(first[changing], one[changing]), middle(other[changing]))
            for it in here - {changing}:
                step, at, to = _step(first[it], one[it]), middle(one[it]), middle(other[it])
                if not 0 < np.abs(step).sum() <= FAR // 2 or not ways.may_be(at, step, to):
                    beliefs.pop(it, None)
                    continue
                turn = ways.turn(beliefs.get(it), at, step, to, chase)
                if turn is None or turn.way < 0 or not turn.likely[turn.way]:
                    continue
                if it in beliefs:
                    fresh = ways.turn(None, at, step, to, chase)
                    assert fresh is not None
                    told.append(-np.log(turn.likely[turn.way]))
                    untold.append(-np.log(fresh.likely[turn.way]))
                beliefs[it] = ways.took(turn, turn.way)
    return (float(np.mean(told)), float(np.mean(untold))) if told else (0.0, 0.0)

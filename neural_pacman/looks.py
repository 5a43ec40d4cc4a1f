"""The looks of what is drawn: blurred figures and ghosts of a decoded frame, shown as the game draws them.

A small autoencoder draws what changes a little blurred, and a dream's ghosts fade, change colour and split. Yet the
game draws them as one of a few pictures, in whole pixels of its own screen: a figure of the score at a place of its
own, a sprite wherever it goes. With these at hand, found in the data, every place of a figure is decided, and then
sprite by sprite: the best fit first, what it covers is explained, until nothing is left that fits. Some sprites are
looks of one thing, of which a screen shows one at most, and all of them keep to their paths. So where a ghost has come
to be two, one half on either way of a junction, the better half is shown; and where it has all but faded, or changed
its colour, it is looked for again in what is left. What fits nothing stays as it was decoded.

What is left in doubt goes by the frame before. A figure stays as it was, or is followed by the one that follows it in
the data. Who was there is there: the like of it that is nearest, or out of sight behind somebody, or where it was; and
where all who may be there are known, nothing else is shown, be it what somebody left behind. But where some come from
nowhere to where they begin a scene in the data, a life, it begins as it does there: with everybody, whatever is drawn
of them; and so it does where Pac-Man met who is never seen so near to him. Pellets, the spots of two looks that
`neural_pacman.autoencoder` decides, change near who changes them in the data, and then the score grows by what they
bring there.

Ghosts go where they were heading, as far as that is known (`neural_pacman.ways`). In a dream, one that is drawn where
it would hardly have turned is shown where it would, one that is drawn nearly where it would be is shown there, and one
that is not found goes on. Of recorded frames whatever they show is so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from neural_pacman.frames import FRAME_SIZE, to_tensor
from neural_pacman.ways import LEADS, OFF, WAYS, Chase, Heading, Turn, Ways

TILE = 32
"""Side of the square that a sprite has on the sheet, in the game's pixels."""
STEP = 2
"""The game's pixels, each way, that are one cell in the search: places are tried so far apart."""
CELLS = TILE // STEP

STANDS_OUT = 0.3
"""How far, in one colour on the scale of [-1, 1], something must be from the maze to be of what moves."""
LEAST_MOVING = 15
"""Cells of a tile that must stand out for a sprite to be looked for in it."""
NEAR_PEAK = 0.8
"""Share of them, of the tile's that has most, in the tiles around that are searched too."""
INSIDE = 0.3
"""Share of a cell that a sprite must cover for the cell to be compared."""
LEAST_VISIBLE = 0.15
"""Share of a sprite that others must leave uncovered."""
MISFIT = 0.2
"""Most squared error of a sprite, as a share of its own contrast to black: one quarter is half faded."""
BESIDE = 0.5
"""What counts, next to that error, of what stands out close around the sprite: it may be another one, below it."""
DOUBT = 3.0
"""How much more than the difference that a sprite explains counts what it gets wrong: of two that lie one over the
other, the whole one is to be found first."""
FAINT, FAINT_SEVERAL = 0.2, 0.5
"""Least strength of a thing that has faded, as a share of its contrast; and of what may be there several times."""
FAINT_VISIBLE = 0.6
"""Share of such a sprite that others must leave uncovered."""
ALIKE = 0.6
"""Share of what stands out in and around it that it must explain, at its strength."""
MOST_TRIES = 12
"""Places of a frame at which a sprite is looked for."""
HALO = 3
"""Pixels around a sprite in which what moves is its blur."""
TOUCHED = 0.02
"""Share of a pixel or cell from which it is touched."""

LIKELY = 0.4
"""What the squared error counts of a sign's last look, and of the one that follows it."""
UNLIKELY = 0.2
"""The same of the last look alone, while nothing changes that might be counted."""
REACH = 24
"""How far, each way, a thing is from where it was shown last: then it is more likely to be it than one farther off."""
FAR, MANY = 48, 2
"""How far, each way, a thing never goes in a step, and how many seem to where another scene begins."""
HIDES = 12
"""How near to a sprite, each way, one was that it may be hiding now."""
INSTANTS = 4
"""Parts of a step. Where two are near before one of them a scene begins with that part, and has those that follow."""
CERTAIN = 0.9
"""How likely a way must be for a thing to take it as soon as a scene begins."""
BELIEF = 32767
"""A belief's probabilities are kept as integers, in parts of so many."""
NEARLY = 4
"""How far from where a thing would be it may be drawn to be shown there, both ways together, in the game's pixels."""
PLAUSIBLE = 0.25
"""How likely a turn must be, next to the likeliest, to be shown as it is drawn."""
EVEN = 0.5
"""How likely a way must be, next to the likeliest, to be taken for it where another thing would hide who goes that."""
PATIENCE = 8
"""Frames for which one of several that is not found, and that nobody hides, stays where it was; then it has gone home.
A thing stays until it is found."""
EATEN = PATIENCE + 2
"""The same for one that was eaten, while it waits for another one to be off from home."""


class Signs(nn.Module):
    """Shows what changes at places of its own, such as the figures of a score, in one of its looks.

    Args:
        screens: uint8 `[L * side, side, 3]`, one screen above the other, each as large as the game's when that is
            padded to a square, and with another look of every sign: one that often follows on the one above. A look
            may come again. What hangs together of the pixels in which they differ is a sign.
        figures: bool `[512, 512]`, where those signs are that make a number, a score, which begins at the left and not
            with a 0: looks of these that are not black are the figures 0, 1, 2 and so on. None for nowhere.
        others: the fewest points that anything else than spots brings; the others are as many, two times, and so on.

    Raises ValueError for no whole screens, or such as look all the same.
    """

    area: Tensor
    around: Tensor

    def __init__(self, screens: np.ndarray, figures: np.ndarray | None = None, others: int = 1) -> None:
        super().__init__()
        self.others = others
        side = screens.shape[1]
        if len(screens) % side:
            raise ValueError(f"The signs have shape {list(screens.shape)}; expected whole screens of {side} rows.")
        looks = screens.reshape(-1, side, side, 3)
        resize = _resizing(side)
        self.places: list[tuple[slice, slice]] = []
        self.following: list[list[int]] = []
        """The look that follows on each look of a sign, which itself is where none does."""
        self.figures: list[tuple[int, list[int]]] = []
        """The signs that make a number, from left to right, and the figure of each of their looks, -1 for none."""
        rest = torch.ones(side, side)
        for rows, columns in spots((looks != looks[0]).any((0, 3))):
            box = tuple(slice(line.min(), line.max() + 1) for line in (rows, columns))
            mask = torch.zeros(side, side)
            mask[rows, columns] = 1
            rest -= mask
            row, column = (_reached(line.start, line.stop, side, 1) for line in box)
            down, across = resize[row, box[0]], resize[column, box[1]].T
            self.register_buffer(f"cover{len(self.places)}", down @ mask[box] @ across, persistent=False)
            strip = [look.tobytes() for look in looks[:, rows, columns]]
            first = {look: i for i, look in reversed([*enumerate(strip)])}
            different = sorted(first.values())
            shown = down @ (to_tensor(looks[different][:, *box]) * mask[box]) @ across
            likely = torch.eye(len(different), dtype=torch.bool)
            self.following.append([*range(len(different))])
            for pair in pairwise(strip):
                look, following = (different.index(first[each]) for each in pair)
                likely[look, following] = True
                if look != following:
                    self.following[-1][look] = following
            # The last row is that of a look that is not known.
            likely = torch.cat([likely, torch.zeros_like(likely[:1])])
            if figures is not None and figures[row, column].any():
                black = [not any(strip[look]) for look in different]
                values = [-1 if none else i - sum(black[:i]) for i, none in enumerate(black)]
                self.figures.append((len(self.places), values))
            self.register_buffer(f"shown{len(self.places)}", shown, persistent=False)
            self.register_buffer(f"likely{len(self.places)}", likely, persistent=False)
            self.places.append((row, column))
        if not self.places:
            raise ValueError("The signs look the same on all screens; expected two looks at least.")
        self.register_buffer("area", resize @ rest @ resize.T < 1 - TOUCHED, persistent=False)
        self.figures.sort(key=lambda figure: self.places[figure[0]][1].start)
        self.box = tuple(slice(int(line.min()), int(line.max()) + 1) for line in self.area.nonzero().unbind(1))
        self.register_buffer("around", resize @ (to_tensor(looks[0]) * rest) @ resize.T, persistent=False)

    def forward(
        self,
        frames: Tensor,
        last: Tensor,
        in_change: Tensor,
        points: Tensor | None = None,
        begun: Sequence[bool] | None = None,
        fed: Sequence[bool] | None = None,
    ) -> Tensor:
        """Show every sign of frames `[N, 3, 512, 512]` in [-1, 1], written to, in the look that it is nearest to.

        `last` are the looks that were shown before, int64 `[N, signs]`, -1 where it is not known; those of now are
        returned. Where nothing is in change, bool `[N]`, another one must be much nearer. And the number that they make
        grows by `points`, int64 `[N]`, unless these are negative: then it may have become any; by what others bring
        only where one may have been eaten (`fed`). The other signs count lives: where a scene has `begun` because one
        was lost, they go on.
        """
        now = last.clone()
        number = {i for i, _ in self.figures}
        told = points is not None and all(  # then it grows by that, whatever is seen of it
            not (fed is None or fed[n]) and self._counted(last[n].tolist(), last[n].tolist(), more, False)
            for n, more in enumerate(points.tolist())
        )
        for i, (rows, columns) in enumerate(self.places):
            if told and i in number:
                continue
            free = in_change if points is None or i not in number else in_change & (points < 0)
            stays = torch.where(free, LIKELY, UNLIKELY)[:, None]
            follows = torch.where(free, LIKELY, 1.0)[:, None]
            looks, likely = self.get_buffer(f"shown{i}"), self.get_buffer(f"likely{i}")
            seen = frames[:, None, :, rows, columns] - self.around[:, rows, columns]
            apart = (self.get_buffer(f"cover{i}") * (seen - looks).square()).sum((2, 3, 4))
            apart = torch.where(likely[last[:, i]], follows * apart, apart)
            same = last[:, i, None] == torch.arange(len(looks), device=last.device)
            now[:, i] = torch.where(same, stays / follows * apart, apart).argmin(1)
        if points is not None:
            for n, more in enumerate(points.tolist()):
                for i, look in self._counted(last[n].tolist(), now[n].tolist(), more, not fed or fed[n]):
                    now[n, i] = look
        for n, before in enumerate(last.tolist()):
            for i in self._lives() if begun and begun[n] else []:
                now[n, i] = self.following[i][before[i]] if before[i] >= 0 else now[n, i]
        shown = self.around.expand(len(frames), -1, -1, -1).clone()
        for i, (rows, columns) in enumerate(self.places):
            shown[:, :, rows, columns] += self.get_buffer(f"shown{i}")[now[:, i]]
        box = self.box
        frames[:, :, *box] = torch.where(self.area[box], shown[:, :, *box], frames[:, :, *box])
        return now

    def _lives(self) -> list[int]:
        """The signs that make no number."""
        return sorted({*range(len(self.places))} - {i for i, _ in self.figures})

    def last_life(self, looks: Sequence[int]) -> bool:
        """Whether signs in these looks say that the next life that is lost is the last one: none of them can go on."""
        lives = [looks[i] == self.following[i][looks[i]] for i in self._lives() if looks[i] >= 0]
        return all(lives) and bool(lives)

    def number(self, looks: Sequence[int]) -> int | None:
        """The number that signs in these looks make, None for none."""
        figures = [values[looks[i]] for i, values in self.figures if looks[i] >= 0]
        text = "".join(str(figure) for figure in figures if figure >= 0)
        return int(text) if text and len(figures) == len(self.figures) else None

    def _counted(self, last: Sequence[int], nearest: Sequence[int], points: int, fed: bool) -> list[tuple[int, int]]:
        """The signs of a number that grew by so many points of spots, and where one may have been eaten (`fed`) by what
        the nearest looks say of others, and their looks; none where that cannot be."""
        before, seen = self.number(last), self.number(nearest)
        if before is None or points < 0:
            return []
        number = before + points
        if fed and seen is not None and seen > number:
            number += (seen - before) // self.others * self.others
        text = str(number)
        due = [int(figure) for figure in text] + [-1] * (len(self.figures) - len(text))
        pairs = [(i, values, figure) for (i, values), figure in zip(self.figures, due, strict=False)]
        there = len(text) <= len(self.figures) and all(figure in values for _, values, figure in pairs)
        return [(i, values.index(figure)) for i, values, figure in pairs] if there else []


class Place(NamedTuple):
    """A sprite and its tile's first row and column on the game's screen; for how many frames it was not found; of one
    of several which thing it was before, 0 if that is not known; and the rows and columns it went in its last step."""

    sprite: int
    row: int
    column: int
    unseen: int = 0
    was: int = 0
    down: int = 0
    across: int = 0


class Cause(NamedTuple):
    """How a frame comes about: by which action, -1 where that is not known, and whether it is a recorded one."""

    action: int
    recorded: bool

    @staticmethod
    def number(action: Tensor | int, recorded: bool) -> Tensor | int:
        """As one number, or one of each action; nothing at all is 0."""
        return 2 * (action + 1) + recorded

    @classmethod
    def of(cls, number: int) -> Cause:
        """What a number says; a negative one says nothing."""
        return cls(max(number, 0) // 2 - 1, number > 0 and number % 2 == 1)


class Scene(NamedTuple):
    """What a frame is to show: sprites, the uppermost first; who else it shows, who is nobody; whether all who may be
    there are known, so that nothing else is shown; and whether a scene begins with it because somebody was met, or
    because a dream draws it so."""

    places: list[Place]
    surplus: list[Place]
    all_known: bool
    begun: bool


class Sprites(nn.Module):
    """Shows what moves as the game's sprites.

    Args:
        sheet: uint8 `[side, side, 3]`, as large as the game's screen when that is padded to a square, with a sprite in
            each square tile of 32 pixels that is not all black. Black pixels of a sprite are see-through. Sprites side
            by side, row after row, are looks of one thing; one between two black tiles may be there several times. The
            thing in the first tile is what changes spots, and nothing does if that is black. With
            `[2 * side, side, 3]`, the lower half is such a screen that is not black where the middles of tiles may be,
            red where those are that are there at once: so many are followed from frame to frame. Where who has been
            away comes back it is green, or yellow: one of several that is not found any more is a thing again there.
            And where its blue is neither black's nor white's a scene begins with the sprite of that number, from 1 on;
            green there, at what changes spots, says how near a thing is never seen to it: then a scene begins.
        maze: float `[2, 3, 512, 512]` in [-1, 1], the two looks of what stands still.
        still: bool `[512, 512]`, where nothing moves; None for nowhere.
        ways: uint8 `[side, side, 3]`, where things may turn (see `neural_pacman.ways`); None if that is not known.

    Raises ValueError for a sheet with no sprite or of another shape, and for the number of one that it does not have.
    """

    maze: Tensor
    paths: Tensor
    things: Tensor
    cells: Tensor
    signs: Tensor
    still: Tensor
    colours: Tensor
    covers: Tensor
    resize: Tensor
    near: Tensor
    weights: Tensor
    coloured: Tensor

    def __init__(
        self, sheet: np.ndarray, maze: Tensor, still: Tensor | None = None, ways: np.ndarray | None = None
    ) -> None:
        super().__init__()
        self.side = sheet.shape[1]
        if len(sheet) not in (self.side, 2 * self.side):
            raise ValueError(f"The sprites have shape {list(sheet.shape)}; expected {self.side} rows or twice as many.")
        sheet, paths = sheet[: self.side], sheet[self.side :]
        rows = self.side // TILE
        tiles = sheet[: rows * TILE, : rows * TILE].reshape(rows, TILE, rows, TILE, 3).swapaxes(1, 2)
        tiles = tiles.reshape(-1, TILE, TILE, 3)
        there = tiles.any((1, 2, 3))
        thing = np.diff(there, prepend=False).cumsum()[there]
        first = bool(np.asarray(there)[0])
        tiles = tiles[there]
        if not len(tiles):
            raise ValueError("The sheet of sprites is all black; expected one sprite at least.")
        covers = torch.from_numpy(tiles.any(-1)).float()
        colours = to_tensor(tiles) * covers[:, None]
        resize = _resizing(self.side)
        # What a sprite at an average place looks like in the cells of the search.
        grid = self.side // STEP
        every = _in_cells(torch.eye(FRAME_SIZE)[None, None], (grid, FRAME_SIZE))[0, 0] @ resize
        parts = [every[row : row + CELLS, STEP * row : STEP * row + TILE] for row in range(grid - CELLS)]
        blur = torch.stack(parts).mean(0)
        share = (blur @ covers @ blur.T)[:, None]
        seen = blur @ colours @ blur.T - (1 - share)  # on black
        inside, touched = (share > INSIDE).float(), (share[:, 0] > TOUCHED).float()
        near = _grown(touched, 1)
        squares, contrast = (inside * each.square().sum(1, True) for each in (seen, seen + 1))
        still = torch.zeros(FRAME_SIZE, FRAME_SIZE) if still is None else still.float()
        buffers = {
            "maze": maze,
            "paths": self._paths(paths),
            "things": torch.from_numpy(np.where(np.bincount(thing)[thing] > 1, thing, 0)),
            "cells": _in_cells(maze, (grid, grid)),
            "signs": still > 0,
            "still": _in_cells(still[None, None], (grid, grid))[0] > TOUCHED,
            "colours": colours,
            "covers": covers,
            "resize": resize,
            "near": near,
            "coloured": (inside * seen).flatten(1).T,
            "weights": torch.cat([squares[:, 0], contrast[:, 0], inside[:, 0], near - touched]).flatten(1).T,
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.contiguous(), persistent=False)
        self.changing = int(self.things[0]) if first else 0
        red, green, blue = paths[::STEP, ::STEP].transpose(2, 0, 1)
        self.cast = int(((red > 0) & (blue < 255)).sum())
        homes = np.argwhere((green == 255) & (blue < 255)) * STEP - TILE // 2
        self.home = (int(homes[0][0]), int(homes[0][1])) if len(homes) else None
        begin = (blue > 0) & (blue < 255)
        starts = zip(blue[begin].tolist(), (np.argwhere(begin) * STEP - TILE // 2).tolist(), strict=True)
        self.starts = [Place(number - 1, row, column) for number, (row, column) in starts]
        """Who is where when a scene begins."""
        self.meets = int(green[begin & (green < 255)].max(initial=0)) if len(self.starts) == self.cast else 0
        """How near, each way, what changes spots never is to a thing, 0 where that is not known."""
        self.ways = None if ways is None else Ways(ways)
        self.movers = sorted({*thing[np.bincount(thing)[thing] > 1].tolist()} - {self.changing}) if self.ways else []
        """The things of which it is known where they turn."""
        if not self.movers:
            self.ways = None
        if any(start.sprite >= len(tiles) for start in self.starts):
            raise ValueError(f"A scene begins with a sprite that is not one of the sheet's {len(tiles)}.")
        if self.ways is not None and self.home is not None:
            home = self.ways.nearest(*middle(Place(0, *self.home)))
            for start in [start for start in self.starts if int(thing[start.sprite]) == self.changing]:
                self.ways.close(home, self.ways.nearest(*middle(start)))

    def _paths(self, screen: np.ndarray) -> Tensor:
        """Which tiles may hold a sprite, bool `[h - 15, w - 15]`."""
        tiles = self.side // STEP - CELLS + 1
        if not screen.size:
            return torch.ones(tiles, tiles, dtype=torch.bool)
        return torch.from_numpy(screen[TILE // 2 :: STEP, TILE // 2 :: STEP].any(-1))[:tiles, :tiles]

    @property
    def headings(self) -> int:
        """How much is known of where things are heading, and of how the next frame comes about."""
        return 2 * len(self.movers) * len(self.ways.nodes) + 1 if self.ways else 0

    def forward(self, frames: Tensor, last: Tensor, heading: Tensor) -> tuple[Tensor, Tensor, list[Scene]]:
        """The sprites that are found in frames `[N, 3, 512, 512]` in [-1, 1], as `show` shows them.

        `last` is who was shown before, int64 `[N, cast, 7]` (a `Place` each, or -1), and `heading` what is believed of
        where they go, int64 `[N, headings]`, likewise, and last how these frames came about; those of now are returned.
        """
        now, scenes, going = torch.full_like(last, -1), [], heading.clone()
        for frame, before, after, towards in zip(frames, last, now, going, strict=True):
            known = [Place(*place) for place in before.tolist() if place[0] >= 0]
            cause = Cause.of(int(towards[-1]) if len(towards) else 0)
            places, surplus = self.find(frame, known)
            if self.ways is not None and self.ways.far(self.changing) and cause.recorded:
                places = [self._exact(frame, place) for place in places]
            if self.elsewhere(places, known):
                places, surplus = (self.starts, []) if self.starts else self.find(frame, known, anew=True)
                known = self.starts
            all_known = 0 < len(known) == self.cast and self._goes_on(places)
            rest, beliefs, led = None, {}, None
            if self.cast:
                places, others, cast = self._follow(places, known, cause.recorded)
                surplus += others
                rest = self._met(known, cast)  # as far as they were found: who is steered there meets a step later
                if self.ways is not None:
                    begins = known is self.starts or (not known and sum(map(self._begins, places)) >= MANY)
                    beliefs = {} if begins else self._beliefs(towards)
                    found, dreamed = places, not cause.recorded
                    led = LEADS[cause.action] if cause.action >= 0 else None
                    cast, places = self._steer(known, cast, found, beliefs, PLAUSIBLE if dreamed else 0, led)
                    surplus += [place for place in found if place not in places]
                    cast += self._behind(cast) if known and dreamed else []
                    if rest is not None or begins:
                        beliefs = self._set_out()
                    self._believe(towards, beliefs)
                if rest is not None:
                    places = cast = self._started(rest, beliefs, led)
                    all_known = True
                for row, place in zip(after, cast, strict=False):
                    row[:] = row.new_tensor(place)
            begun = rest is not None or (known is self.starts and not cause.recorded)
            scenes.append(Scene(places, surplus, all_known, begun))
        return now, going, scenes

    def _set_out(self) -> dict[int, Heading]:
        """What is believed when a scene begins: that things may be heading anywhere, from where they are then."""
        assert self.ways is not None
        who: list[int] = self.things.tolist()
        nodes = {who[start.sprite]: self.ways.nearest(*middle(start)) for start in self.starts}
        return {it: self.ways.anywhere(nodes.get(it, -1)) for it in self.movers}

    def _started(self, rest: float, beliefs: dict[int, Heading], led: int | None) -> list[Place]:
        """Who is where in a scene that has had so much of a step: what changes spots where it is `led`, and things on
        their ways where these are certain."""
        ways, places = self.ways, []
        if ways is None:
            return self.starts
        who: list[int] = self.things.tolist()
        for place in self.starts:
            it, node = who[place.sprite], ways.nearest(*middle(place))
            if it == self.changing and led is not None and ways.far(it):
                to = ways.lead(middle(place), np.zeros(2, int), led, round(rest * ways.far(it)))
                place = place if to is None else _moved(place, to)
            elif it in beliefs and np.abs(ways.nodes[node] - middle(place)).max() <= OFF:
                likely = beliefs[it].to @ ways.turns_of(node, beliefs[it])
                if likely.max() >= CERTAIN:
                    down, across = (ways.pace * part for part in WAYS[int(likely.argmax())])
                    to = ways.nodes[node] + np.rint(rest * np.array([down, across])).astype(int)
                    place = _moved(place, to)._replace(down=down, across=across)
            places.append(place)
        return places

    def _beliefs(self, heading: Tensor) -> dict[int, Heading]:
        """What is believed of where things are heading, of those of which anything is."""
        rows = heading[:-1].view(len(self.movers), 2, -1).cpu().numpy()
        known = {it: row for it, row in zip(self.movers, rows, strict=True) if row[0, 0] >= 0 < row[0].sum()}
        return {it: Heading(to / to.sum(), since) for it, (to, since) in known.items()}

    def _believe(self, heading: Tensor, beliefs: dict[int, Heading]) -> None:
        """Write what is believed."""
        heading[:] = -1
        for it, row in zip(self.movers, heading[:-1].view(len(self.movers), 2, -1), strict=True):
            if it in beliefs:
                row[:] = row.new_tensor(np.stack([np.rint(beliefs[it].to * BELIEF), beliefs[it].since]))

    def _steer(
        self,
        last: Sequence[Place],
        cast: Sequence[Place],
        places: Sequence[Place],
        beliefs: dict[int, Heading],
        plausible: float,
        led: int | None = None,
    ) -> tuple[list[Place], list[Place]]:
        """The cast and who is drawn, with those who are not found, or turn where that is not `plausible` (so likely,
        next to the likeliest way), or are farther off than things go, where they would be, and what changes spots where
        it is `led` (`Ways.lead`), if actions do that. What is believed is written to; with 0 for `plausible` things
        that are found are where they are found."""
        assert self.ways is not None
        who: list[int] = self.things.tolist()
        was, now = ({who[place.sprite] or place.was: place for place in some} for some in (last, cast))
        told: dict[Place, Place] = {}
        if led is not None and self.changing in {*was} & {*now}:
            place = now[self.changing]
            now[self.changing] = told[place] = self._led(was[self.changing], place, led, not plausible)
        for it in self.movers:
            if {it, self.changing} <= {*was} & {*now} and self._came_home(was[it], now[it]):
                goal = self.ways.nearest(*middle(now[self.changing]))
                beliefs[it] = self.ways.set_out(self.ways.nearest(*middle(now[it])), goal)
                continue
            gone = it in now and not who[now[it].sprite] and now[it].unseen > PATIENCE
            if gone or not {it, self.changing} <= {*was} & {*now} or _apart(was[it], now[it]) > FAR // 2:
                beliefs.pop(it, None)
                continue
            one, other = was[it], now[it]
            at, to, step = middle(one), middle(other), np.array([one.down, one.across])
            # Who is hidden goes with who hides it as far as recordings tell; in a dream, where it would.
            shown = any(place[:3] == other[:3] for place in places)
            found = not other.unseen and (shown or not plausible)
            too_far = found and not self.ways.may_be(at, step, to)
            at_pace = 0 < self.ways.pace <= self.ways.speed(step)  # not what places are wrong by
            if not step.any() or (too_far and not (plausible and at_pace)):
                continue
            walked = found and not too_far
            before, after = was[self.changing], now[self.changing]
            chase = Chase(middle(before), np.array([before.down, before.across]), middle(after))
            turn = self.ways.turn(beliefs.get(it), at, step, to if walked else None, chase)
            seen, would = walked, self.ways.onward(at, step)
            sure = plausible > 0 and (turn is not None or self.ways.ahead(at, step) is None)
            if turn is not None:
                goes = turn.way
                if goes < 0 or turn.likely[goes] < plausible * turn.likely.max():
                    others = [middle(place) for place in now.values() if place is not other]
                    goes = self._unseen(turn, step, others if plausible else [])
                beliefs[it] = self.ways.took(turn, goes)
                seen, would = goes == turn.way, self.ways.place(turn, goes, step)
            if not seen or (sure and np.abs(would - to).sum() <= NEARLY):
                to = would
            there = _moved(one, to, other)
            if there[1:3] != other[1:3] and self._on_path(there.row, there.column):
                told[other] = there
                if plausible and not found and self._eaten(told[other], [after]):
                    rest = [told.get(place, place) for place in cast if place is not other]
                    is_there = any(who[place.sprite] == it for place in rest)  # who is who was taken for another
                    home = None if is_there else self._home(it, rest)
                    told[other] = home or told[other]._replace(unseen=EATEN)
                    if home:
                        beliefs[it] = self.ways.set_out(
                            self.ways.nearest(*middle(home)), self.ways.nearest(*middle(after))
                        )
        shown_at = {other[:3]: place for other, place in told.items()}
        drawn = [shown_at.get(place[:3], place) for place in places]
        shows = {place[:3] for place in places}
        drawn += [place for other, place in told.items() if other[:3] not in shows]  # who was hidden, below all others
        cast = [told.get(place, place) for place in cast]
        over = self.ways.over
        if plausible and any(over):  # it is known who is over whom, so whoever is hidden may be the one who shows
            drawn += [place for place in cast if who[place.sprite] in self.movers and place not in drawn]
            drawn.sort(key=lambda place: -over[who[place.sprite] or place.was])
            top = {place[1:3]: place for place in reversed(drawn)}
            drawn = [place for place in drawn if place == top[place[1:3]] or who[place.sprite] not in self.movers]
        return cast, self._piled(drawn, [now[self.changing]] if plausible and self.changing in now else ())

    def _led(self, was: Place, now: Place, way: int, recorded: bool) -> Place:
        """What changes spots where it is led on this way, if actions do that, and else where it was found; where it is
        `recorded`, it was found nearly there."""
        assert self.ways is not None
        far = self.ways.far(self.changing)
        to = self.ways.lead(middle(was), np.array([was.down, was.across]), way, far) if far else None
        if to is None or _apart(was, now) > FAR or (recorded and np.abs(to - middle(now)).sum() > NEARLY):
            return now
        return _moved(was, to, now)

    def _unseen(self, turn: Turn, step: np.ndarray, others: Sequence[np.ndarray]) -> int:
        """The way of one that is not seen to take a plausible one: the likeliest, or as good as that, on which none of
        the others hides it."""
        ways = self.ways
        assert ways is not None

        def hidden(way: int) -> bool:
            place = ways.place(turn, way, step)
            return any(np.abs(other - place).sum() <= NEARLY for other in others)

        likeliest: list[int] = (-turn.likely).argsort(kind="stable").tolist()
        good = [way for way in likeliest if turn.likely[way] >= EVEN * turn.likely.max()]
        return next((way for way in good if not hidden(way)), likeliest[0])

    def _piled(self, places: Iterable[Place], eaters: Sequence[Place] = ()) -> list[Place]:
        """Who is drawn over whom: what changes spots below whom it meets, and over whom it eats."""
        who: list[int] = self.things.tolist()

        def below(place: Place) -> tuple[bool, bool]:
            return place.unseen == EATEN or self._eaten(place, eaters), who[place.sprite] == self.changing > 0

        return sorted(places, key=below)

    def _eaten(self, place: Place, eaters: Iterable[Place]) -> bool:
        """Whether this is one of several where it is met."""
        return not self.things[place.sprite] and any(_apart(place, eater) < self.meets for eater in eaters)

    def _behind(self, cast: Sequence[Place]) -> list[Place]:
        """Who of those who are there at once has not been seen, each behind one of several who may hide it."""
        who: list[int] = self.things.tolist()
        covers = sorted((place for place in cast if not who[place.sprite]), key=lambda place: place.was)
        away = sorted({*who} - {0, self.changing, *(who[place.sprite] or place.was for place in cast)})
        some = zip(away[: max(0, self.cast - len(cast))], covers, strict=False)
        return [cover._replace(was=it, unseen=0) for it, cover in some]

    def _home(self, thing: int, there: Iterable[Place]) -> Place | None:
        """A thing that comes home: to where nobody is, first where things do, then near there where one begins."""
        if self.home is None:
            return None
        who: list[int] = self.things.tolist()
        home = Place(who.index(thing), *self.home, unseen=1)
        begins = [start for start in self.starts if _apart(start, home) <= FAR]
        begins.sort(key=lambda start: who[start.sprite] != thing)
        places = [home, *(home._replace(row=start.row, column=start.column) for start in begins)]
        return next((place for place in places if all(_apart(other, place) > HIDES for other in there)), None)

    def _came_home(self, was: Place, now: Place) -> bool:
        """Whether one of several is a thing again where things are that come home."""
        again = not self.things[was.sprite] and bool(self.things[now.sprite])
        return again and self.home is not None and _apart(now, Place(0, *self.home)) <= HIDES

    def _on_path(self, row: int, column: int) -> bool:
        """Whether a sprite may be in a tile, or in one a cell beside it."""
        inside = min(row, column) >= 0 and max(row, column) <= self.side - TILE
        top, left = max(0, row // STEP - 1), max(0, column // STEP - 1)
        return inside and bool(self.paths[top : row // STEP + 2, left : column // STEP + 2].any())

    def show(self, frames: Tensor, grounds: Tensor, scenes: Sequence[Scene]) -> None:
        """Draw what `forward` found over frames `[N, 3, 512, 512]`, which are written to.

        `grounds` is what they show where nobody is, of the same shape: where all who may be there are known, nothing
        else is shown.
        """
        for frame, ground, scene in zip(frames, grounds, scenes, strict=True):
            if scene.all_known:
                frame[:] = torch.where(self.signs, frame, ground)
            else:
                self._clear(frame, ground, [*scene.surplus, *scene.places])
            self._draw(frame, scene.places)

    def elsewhere(self, places: Sequence[Place], last: Sequence[Place]) -> bool:
        """Whether another scene begins: `MANY` things or more are where things do then, and nobody who may be they was
        near; or, if it is not known where that is, far from where they were seen."""
        if self.starts:
            there = [place for place in places if last and self._begins(place)]
            came = [p for p in there if any(_apart(was, p) <= FAR and self._may_be(was, p) for was in last)]
            return len(there) - len(came) >= MANY
        thing: list[int] = self.things.tolist()
        was = {thing[place.sprite]: place for place in last if thing[place.sprite] and not place.unseen}
        moved = [place for place in places if (before := was.get(thing[place.sprite])) and _apart(before, place) > FAR]
        return len(moved) >= MANY

    def _goes_on(self, places: Sequence[Place]) -> bool:
        """Whether a scene goes on: where it is known how one begins, even one in which nobody is found."""
        return bool(places or self.starts)

    def _begins(self, place: Place) -> bool:
        """Whether a thing is where it is when a scene begins, or one of several where anything is."""
        it = int(self.things[place.sprite])
        near = [start for start in self.starts if _apart(place, start) <= REACH]
        return any(it in (0, int(self.things[start.sprite])) for start in near)

    def _may_be(self, was: Place, now: Place) -> bool:
        """Whether one that was shown may be this one: a thing may turn into what there are several of where it is, and
        back there or where it comes home, or anywhere once it was not found; but for what changes spots."""
        one, other = int(self.things[was.sprite]), int(self.things[now.sprite])
        came = not one and (self.home is None or was.unseen > 0 or _apart(now, Place(0, *self.home)) <= FAR)
        turns = not one * other and one + other != self.changing and (came or _apart(was, now) <= FAR)
        return one == other or turns

    def _comes_from_afar(self, was: Place, now: Place, eaters: Sequence[Place]) -> bool:
        """Whether one of several would come home whom nobody can have eaten: it was seen, neither near home nor near to
        any of those that eat, of which there are some."""
        comes = bool(eaters) and not was.unseen and not self.things[was.sprite] and bool(self.things[now.sprite])
        return comes and all(_apart(was, place) > FAR for place in (now, *eaters))

    def _turns(self, was: Place, now: Place) -> bool:
        """Whether one that was shown turns into one of several if it is this, or back where things do not come home."""
        one, other = int(self.things[was.sprite]), int(self.things[now.sprite])
        home = self.home is not None and _apart(now, Place(0, *self.home)) <= FAR
        return bool(one) != bool(other) and not (home and not one)

    def _met(self, last: Sequence[Place], now: Sequence[Place]) -> float | None:
        """How much of a step a scene has that begins in it because what changes spots came nearer to a thing than it
        ever is, as far as it was seen, or else as far as it would have gone on; None if it did not. Who is hidden where
        one of several is may be another one of them."""
        who: list[int] = self.things.tolist()
        was, there = ({who[place.sprite]: place for place in places if who[place.sprite]} for places in (last, now))
        if not self.meets or not {self.changing} <= {*was} & {*there}:
            return None
        met = []
        others = [{place[1:3] for place in places if not who[place.sprite]} for places in (last, now)]
        for thing in {*was} & {*there} - {self.changing}:
            if there[thing].unseen > 1:  # it may be anywhere
                continue
            if there[thing][1:3] in others[1] or (there[thing].unseen and was[thing][1:3] in others[0]):
                continue
            ways = []
            for one, other in ((was[thing], there[thing]), (was[self.changing], there[self.changing])):
                begin = other if _apart(one, other) > FAR else one  # it was elsewhere meanwhile
                went = other.row - begin.row, other.column - begin.column
                down, across = (begin.down, begin.across) if other.unseen else went
                ways.append((begin.row, begin.column, down, across))
            row, column, down, across = (int(a - b) for a, b in zip(*ways, strict=True))
            parts = [part / INSTANTS for part in range(INSTANTS + 1)]
            near = [part for part in parts if max(abs(row + part * down), abs(column + part * across)) < self.meets]
            met += near[:1]
        return max(0, 1 - 1 / INSTANTS - min(met)) if met else None

    def reaches(self, cast: Tensor, points: Tensor, within: float = TILE) -> Tensor:
        """Which points of a frame (row, column) `[P, 2]` are near to what changes spots, bool `[N, P]`: no farther each
        way, in the game's pixels, from where it is shown in the `cast` int64 `[N, cast, 7]`."""
        place, shown = self._changer(cast)
        middle = (place + TILE / 2) * (FRAME_SIZE / self.side)
        return ((middle[:, None] - points).abs().amax(-1) <= within * FRAME_SIZE / self.side) & shown[:, None]

    def unknown(self, cast: Tensor) -> Tensor:
        """Whether it is not known where what changes spots is, bool `[N]`."""
        return ~self._changer(cast)[1]

    def moved(self, last: Tensor, now: Tensor) -> Tensor:
        """Whether what changes spots is elsewhere than it was, bool `[N]`; true where it is not known."""
        (one, before), (other, after) = self._changer(last), self._changer(now)
        return (one != other).any(1) | ~before | ~after

    def fed(self, last: Tensor, now: Tensor) -> list[bool]:
        """Whether what changes spots may have eaten one of several between two casts int64 `[N, cast, 7]`: one was
        near, not all were known, or it is not known how near they come."""
        places = [self._changer(cast) for cast in (last, now)]
        may = ~(places[0][1] & places[1][1]) | (last[..., 0] < 0).any(1) | (not self.meets)
        for cast in (last, now):
            several = (cast[..., 0] >= 0) & (self.things[cast[..., 0]] == 0)
            for at, _ in places:
                may |= (((cast[..., 1:3] - at[:, None]).abs().amax(-1) <= FAR) & several).any(1)
        return [bool(may_be) for may_be in may.tolist()]

    def _changer(self, cast: Tensor) -> tuple[Tensor, Tensor]:
        """The place (row, column) of what changes spots, `[N, 2]`, and whether it is there, bool `[N]`."""
        if not self.changing or not self.cast:
            return cast.new_zeros(len(cast), 2), torch.zeros(len(cast), dtype=torch.bool, device=cast.device)
        who = (cast[..., 0] >= 0) & (self.things[cast[..., 0]] == self.changing)
        return cast[torch.arange(len(cast)), who.int().argmax(1), 1:3], who.any(1)

    def find(self, frame: Tensor, last: Sequence[Place] = (), anew: bool = False) -> tuple[list[Place], list[Place]]:
        """The sprites of a frame `[3, 512, 512]`, the uppermost first, and what it shows of a thing a second time.

        Of two of a thing it is the one near to where it was `last`, or else the one that fits better. Where another
        scene begins `anew` it is the one far from there, and what looks like one of several where a thing was is none.
        """
        things: list[int] = self.things.tolist()
        search = _Search(self, frame)
        known = {things[place.sprite]: place for place in last}
        found = list(search.run())

        def likely(fit: float, place: Place) -> tuple[bool, float]:
            was = known.get(things[place.sprite])
            return (was is not None and _apart(place, was) <= REACH) != anew, fit

        best = {things[place.sprite]: place for _, place in sorted(found, key=lambda each: likely(*each))}
        places = [place for _, place in found if place == best[things[place.sprite]] or not things[place.sprite]]
        surplus = [place for _, place in found if place not in places]
        if surplus:
            search.restart(places)
        places += search.run_faint(set(things) - {*best})
        for place in search.run_faint(set(things)):
            (surplus if things[place.sprite] else places).append(place)
        if anew:
            old = [was for was in last if things[was.sprite]]
            left = [p for p in places if not things[p.sprite] and any(_apart(p, was) <= REACH for was in old)]
            left += [place for place in places if place not in left][self.cast :]
            places, surplus = [place for place in places if place not in left], surplus + left
        return places, surplus

    def _follow(
        self, places: list[Place], last: list[Place], recorded: bool = False
    ) -> tuple[list[Place], list[Place], list[Place]]:
        """Who is to be drawn of those found and those shown `last`, who is one too many, and the cast from now on.

        Nobody vanishes alone and nobody comes from nowhere: who is not found is hidden by who is near, or stays where
        it was; one of several, but not for long: then it is the thing again that it was, where things come back. And
        things turn into one of several all at once, and out of it elsewhere: where fewer than half of those seen do,
        but for `recorded` frames, what looks like it is nobody. Nor does who was not eaten come home.
        """
        thing: list[int] = self.things.tolist()
        who = [thing[was.sprite] or was.was for was in last]
        eat = [place for place in (*last, *places) if thing[place.sprite] == self.changing > 0]
        pairs = sorted(
            (not thing[now.sprite] or thing[now.sprite] != who[i], _walked(was, now), i, j)
            for i, was in enumerate(last)
            for j, now in enumerate(places)
            if self._may_be(was, now) and (recorded or not self._comes_from_afar(was, now, eat))
        )
        match, alone = _matched(pairs), set[int]()
        turning = {(i, j) for *_, i, j in pairs if self._turns(last[i], places[j])}
        whole = {i for i, was in enumerate(last) if thing[was.sprite] not in (0, self.changing)}
        several = {i for i, was in enumerate(last) if not thing[was.sprite]}
        for some in (whole, several) if not recorded else ():
            seen = some & match.keys()
            lone = {match[i] for i in seen if (i, match[i]) in turning}
            if len(lone) < len(seen) / 2:
                alone |= lone
                pairs = [pair for pair in pairs if pair[2:] not in turning or pair[2] not in some]
        match = _matched(pairs)
        turned = [i for i, j in match.items() if i in whole and not thing[places[j].sprite]]
        went: dict[int, Place] = {}
        for i, j in match.items():
            step = (places[j].row - last[i].row, places[j].column - last[i].column)
            down, across = (0, 0) if last[i].unseen or max(map(abs, step)) > FAR else step
            went[i] = places[j]._replace(was=0 if thing[places[j].sprite] else who[i], down=down, across=across)
        room = max(0, self.cast - len(last))
        new = [j for j in range(len(places)) if j not in match.values()]
        joins = [j for j in new if j not in alone][:room]
        joined = [places[j] for j in joins]
        surplus = [places[j] for j in new if last and j not in joins]
        places = [place for place in places if place not in surplus]
        walked = [i for i, place in went.items() if _apart(last[i], place) <= FAR]
        turned_near = [went[i] for i in turned if i in walked]
        held = []
        for was in [was for i, was in enumerate(last) if i not in went] if self._goes_on(places) else []:
            # Who was there hides it wherever they walked, as do those who have come there: but if what changes spots
            # did, or were hidden, something would have come of it; and who was eaten hides nowhere.
            covers = [went[i] for i in walked if _apart(last[i], was) <= HIDES]
            covers += [place for place in places if _apart(place, was) <= HIDES]
            if self.changing:
                covers = [place for place in covers if self.changing not in (thing[place.sprite], thing[was.sprite])]
                covers = [] if was.unseen == EATEN else covers
            cover = min(covers, key=lambda place: _apart(place, was), default=was)
            step = (cover.row - was.row, cover.column - was.column) if covers else (was.down, was.across)
            unseen = 0 if covers else max(was.unseen, min(was.unseen, PATIENCE) + 1)
            turns = len(turned_near) >= MANY or cover in turned_near
            if turns and thing[was.sprite] not in (0, self.changing):  # all turn at once, and who is hidden, too
                was = was._replace(sprite=turned_near[0].sprite, was=thing[was.sprite])
            held.append(was._replace(row=cover.row, column=cover.column, unseen=unseen, down=step[0], across=step[1]))
        cast = [*went.values(), *held, *joined]
        away = sorted({*thing} - {0, self.changing, *(thing[place.sprite] for place in cast)})
        eaters = [place for place in cast if thing[place.sprite] == self.changing > 0]
        for i, place in enumerate(held):
            if eaten := place.unseen == EATEN or self._eaten(place, eaters):  # it was met, and is not there
                held[i] = place = place._replace(unseen=PATIENCE + 1)
            if self.home is not None and away and not thing[place.sprite] and place.unseen > PATIENCE:
                back = place.was if place.was in away else away[0]
                home = self._home(back, [*went.values(), *held])
                if home is None:  # one after the other, or the one would hide the other
                    held[i] = place._replace(unseen=EATEN if eaten else PATIENCE)
                    continue
                away.remove(back)
                held[i] = home
        shown = [place for place in held if place.unseen > 0 and (thing[place.sprite] or place.unseen != PATIENCE + 1)]
        return self._piled([*shown, *places]), surplus, [*went.values(), *held, *joined]

    def _exact(self, frame: Tensor, place: Place) -> Place:
        """What is led by actions, which tell to the pixel where it goes, to the pixel: it was searched for at every
        `STEP`. Anything else as it is."""
        if self.things[place.sprite] != self.changing:
            return place
        rows, columns, *_ = self._resized(place)
        seen = frame[:, rows, columns]
        ground = _nearest(seen, self.maze[:, :, rows, columns])[1]

        def error(there: Place) -> float:
            *_, cover, colours = self._resized(there, place)
            return float((seen - ground * (1 - cover) - colours).square().sum())

        beside = range(1 - STEP, STEP)
        around = [(abs(down) + abs(across), down, across) for down in beside for across in beside]
        near = [
            place._replace(row=place.row + down, column=place.column + across) for _, down, across in sorted(around)
        ]
        return min(near, key=error)

    def _clear(self, frame: Tensor, ground: Tensor, places: Iterable[Place]) -> None:
        """Show the ground in place of what moves where sprites are, and beside them."""
        for place in places:
            rows, columns, cover, _ = self._resized(place)
            view = frame[:, rows, columns]
            distance, _ = _nearest(view, self.maze[:, :, rows, columns])
            blur = _grown((cover > TOUCHED).float()[None], HALO) > 0
            view[:] = torch.where(blur & (distance > STANDS_OUT), ground[:, rows, columns], view)

    def _draw(self, frame: Tensor, places: Sequence[Place]) -> None:
        """Draw sprites over a frame, the first of them last."""
        for place in reversed(places):
            rows, columns, cover, colours = self._resized(place)
            frame[:, rows, columns] = frame[:, rows, columns] * (1 - cover) + colours

    def _resized(self, place: Place, around: Place | None = None) -> tuple[slice, slice, Tensor, Tensor]:
        """The rows and columns of a frame that a sprite and what is beside it take, or another one `around` it, the
        shares of these that it covers, and its colours there."""
        rows, columns = (_reached(start, start + TILE, self.side, HALO) for start in (around or place)[1:3])
        down = self.resize[rows, place.row : place.row + TILE]
        across = self.resize[columns, place.column : place.column + TILE].T
        cover, colours = (down @ tile @ across for tile in (self.covers[place.sprite], self.colours[place.sprite]))
        return rows, columns, cover, colours


class _Search:
    """The search for sprites in a frame `[3, 512, 512]`."""

    def __init__(self, sprites: Sprites, frame: Tensor) -> None:
        self.sprites, self.count = sprites, len(sprites.covers)
        screen = _in_cells(frame[None], sprites.cells.shape[2:])[0]
        distance, beneath = _nearest(screen, sprites.cells)
        self.moving = ((distance > STANDS_OUT) & ~sprites.still).float()
        apart = (screen - beneath).square().sum(0, True)
        self.tiles = _tiles(torch.cat([screen, screen.square().sum(0, True), apart]))
        self.inside = sprites.weights[:, 2 * self.count : 3 * self.count]
        self.whole = self.inside.sum(0)
        self.restart()

    def restart(self, places: Sequence[Place] = ()) -> None:
        """Begin anew, with nothing but these found."""
        self.free = torch.ones_like(self.moving)
        self.tried = torch.zeros_like(self.sprites.paths)
        self.most = _sums(self.moving)[0] * self.sprites.paths
        for place in places:
            self._cover(place)

    def run(self, faint: Tensor | None = None) -> Iterator[tuple[float, Place]]:
        """What fits, and how well, until nothing is left that does; or what is there but `faint`, of sprites `[S]`."""
        for _ in range(MOST_TRIES):
            row, column = divmod(int(self.most.argmax()), self.most.shape[1])
            if self.most[row, column] < LEAST_MOVING:
                break
            top, left = max(0, row - CELLS // 2), max(0, column - CELLS // 2)
            here = np.s_[top : row + CELLS // 2 + 1, left : column + CELLS // 2 + 1]
            searched = self.most[here] >= NEAR_PEAK * self.most[row, column]
            rows, columns = searched.nonzero().unbind(1)
            fit = self._fit(here, rows, columns, faint)
            tile, sprite = divmod(int(fit.argmax()), self.count)
            if fit[tile, sprite] == -torch.inf:
                self.tried[here] |= searched
                self.most[here][searched] = 0
                continue
            place = Place(sprite, (top + int(rows[tile])) * STEP, (left + int(columns[tile])) * STEP)
            self._cover(place)
            yield float(fit[tile, sprite]), place

    def run_faint(self, things: set[int]) -> Iterator[Place]:
        """What is left of these things, each once, and of what may be there several times."""
        self.tried[:] = False
        self.most = _sums(self.moving * self.free)[0] * self.sprites.paths
        left = {0, *things}
        while found := next(self.run(torch.isin(self.sprites.things, self.sprites.things.new_tensor([*left]))), None):
            yield found[1]
            left -= {int(self.sprites.things[found[1].sprite])} - {0}

    def _fit(self, here: tuple[slice, slice], rows: Tensor, columns: Tensor, faint: Tensor | None) -> Tensor:
        """How much of tiles `[T]` each sprite explains `[T, S]`, minus infinity where it does not fit."""
        weights, count = self.sprites.weights, self.count
        weight = _tiles(self.free)[0][here][rows, columns].flatten(1)
        value = self.tiles[:, *here][:, rows, columns].flatten(2) * weight
        # What the cells that a sprite covers are without it, and how far they are from it, summed.
        squares, contrast, visible = (weight @ weights[:, : 3 * count]).split(count, dim=1)
        difference, beside = (value[4] @ weights[:, 2 * count :]).split(count, dim=1)
        product = value[:3].movedim(0, 1).flatten(1) @ self.sprites.coloured
        error = value[3] @ self.inside - 2 * product + squares
        if faint is None:
            fits = (visible > LEAST_VISIBLE * self.whole) & (error < difference)
            fits &= error + BESIDE * beside < MISFIT * contrast
            return torch.where(fits, difference - DOUBT * error, -torch.inf)
        # How strong it is there, and how much it explains at that strength.
        strength = (difference + contrast - error) / (2 * contrast).clamp(min=1e-6)
        explained = strength.square() * contrast
        fits = (visible > FAINT_VISIBLE * self.whole) & (explained > ALIKE * (difference + beside))
        explained = torch.where(fits, explained, -torch.inf)
        once = self.sprites.things > 0
        best = torch.where(faint, explained, -torch.inf).argmax()
        strong = strength > torch.where(once, FAINT, FAINT_SEVERAL)
        # One more of several is only what is nothing else.
        strong &= once | (explained >= explained.max())
        return torch.where(faint & strong.flatten()[best], explained, -torch.inf)

    def _cover(self, place: Place) -> None:
        """Leave out of the search what a sprite covers."""
        row, column = place.row // STEP, place.column // STEP
        self.free[0, row : row + CELLS, column : column + CELLS] *= 1 - self.sprites.near[place.sprite]
        top, left = max(0, row - CELLS), max(0, column - CELLS)  # of the tiles that hold any of this one
        around = np.s_[:, top : row + 2 * CELLS, left : column + 2 * CELLS]
        sums = _sums(self.moving[around] * self.free[around])[0]
        near = np.s_[top : top + sums.shape[0], left : left + sums.shape[1]]
        self.most[near] = sums.masked_fill(self.tried[near] | ~self.sprites.paths[near], 0)


def middle(place: Place) -> np.ndarray:
    """The row and column of the middle of its tile, `[2]`."""
    return np.array([place.row, place.column]) + TILE // 2


def _moved(was: Place, to: np.ndarray, now: Place | None = None) -> Place:
    """Who was at a place, or is taken for who is there `now`, moved to where the middle of the tile is here, `[2]`."""
    row, column = (int(part) - TILE // 2 for part in to)
    return (now or was)._replace(row=row, column=column, down=row - was.row, across=column - was.column)


def _matched(pairs: Iterable[tuple[bool, int, int, int]]) -> dict[int, int]:
    """Which one each of some is, by the last two numbers of pairs, the likeliest first: each once."""
    match: dict[int, int] = {}
    for *_, one, other in pairs:
        if one not in match and other not in match.values():
            match[one] = other
    return match


def _apart(one: Place, other: Place) -> int:
    """How far two places are apart, the larger of both ways, in the game's pixels."""
    return max(abs(one.row - other.row), abs(one.column - other.column))


def _walked(was: Place, now: Place) -> int:
    """How far a place is from where one was that came so, or from where it would be, whichever is nearer."""
    return min(_apart(was, now), _apart(was._replace(row=was.row + was.down, column=was.column + was.across), now))


def spots(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each set of true pixels of `[h, w]` that touch, corners counted."""
    left = dict.fromkeys((int(row), int(column)) for row, column in np.argwhere(mask))
    while left:
        spot = [left.popitem()[0]]
        for row, column in spot:  # grows while it is gone through
            around = ((row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1))
            found = [place for place in around if place in left]
            spot += found
            for place in found:
                del left[place]
        rows, columns = np.array(spot).T
        yield rows, columns


def _nearest(image: Tensor, looks: Tensor) -> tuple[Tensor, Tensor]:
    """How far each pixel of `[3, h, w]` is from the nearer of two looks `[2, 3, h, w]`, `[1, h, w]`, and that one."""
    one, other = (image - looks).abs().amax(1, keepdim=True)
    return torch.minimum(one, other), torch.where(one <= other, looks[0], looks[1])


def _in_cells(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images `[N, C, h, w]` in another size, averaged where it is smaller."""
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def _tiles(cells: Tensor) -> Tensor:
    """All tiles of `[C, h, w]` cells, `[C, h - 15, w - 15, 16, 16]`."""
    return cells.unfold(1, CELLS, 1).unfold(2, CELLS, 1)


def _sums(cells: Tensor) -> Tensor:
    """The sum of every tile of `[C, h, w]` cells, `[C, h - 15, w - 15]`."""
    for axis in (1, 2):
        until = F.pad(cells.cumsum(axis).movedim(axis, -1), (1, 0))
        cells = (until[..., CELLS:] - until[..., :-CELLS]).movedim(-1, axis)
    return cells


def _grown(masks: Tensor, pixels: int) -> Tensor:
    """Masks `[N, h, w]` with their ones grown by so many pixels."""
    return F.max_pool2d(masks, 2 * pixels + 1, 1, pixels)


def _reached(start: int, stop: int, side: int, margin: int) -> slice:
    """The rows of a frame that rows of a screen of `side` pixels reach, and a margin around them."""
    scale = FRAME_SIZE / side
    return slice(max(0, int(start * scale) - margin - 1), min(FRAME_SIZE, int(stop * scale) + margin + 2))


def _resizing(side: int) -> Tensor:
    """What `neural_pacman.frames.prepare` does to a column of `side` pixels, `[512, side]`."""
    if side == FRAME_SIZE:
        return torch.eye(side)
    one_each = Image.fromarray(np.eye(side, dtype=np.float32))
    return torch.from_numpy(np.array(one_each.resize((side, FRAME_SIZE), Image.Resampling.BILINEAR)))

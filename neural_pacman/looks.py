"""The looks of what is drawn: blurred figures and ghosts of a decoded frame, shown as the game draws them.

A small autoencoder draws what changes a little blurred, and a dream's ghosts fade, change colour and split. Yet the
game draws them as one of a few pictures, in whole pixels of its own screen: a figure of the score at a place of its
own, a sprite wherever it goes. With these at hand, found in the data, every place of a figure is decided, and then
sprite by sprite: the best fit first, what it covers is explained, until nothing is left that fits. What fits nothing
stays as it was decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from neural_pacman.frames import FRAME_SIZE, to_tensor

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
MISFIT = 0.25
"""Most squared error of a sprite, as a share of its own contrast to black: one quarter is half faded."""
DOUBT = 3.0
"""How much more than the difference that a sprite explains counts what it gets wrong: of two that lie one over the
other, the whole one is to be found first."""
MOST_TRIES = 12
"""Places of a frame at which a sprite is looked for."""
HALO = 3
"""Pixels around a sprite in which what moves is its blur."""
TOUCHED = 0.02
"""Share of a pixel or cell from which it is touched."""


class Signs(nn.Module):
    """Shows what changes at places of its own, such as the figures of a score, in one of its looks.

    Args:
        screens: uint8 `[L * side, side, 3]`, one screen above the other, each as large as the game's when that is
            padded to a square, and with another look of every sign. What hangs together of the pixels in which they
            differ is a sign.

    Raises ValueError for no whole screens, or such as look all the same.
    """

    area: Tensor
    around: Tensor

    def __init__(self, screens: np.ndarray) -> None:
        super().__init__()
        side = screens.shape[1]
        if len(screens) % side:
            raise ValueError(f"The signs have shape {list(screens.shape)}; expected whole screens of {side} rows.")
        looks = screens.reshape(-1, side, side, 3)
        resize = _resizing(side)
        self.places: list[tuple[slice, slice]] = []
        rest = torch.ones(side, side)
        for rows, columns in spots((looks != looks[0]).any((0, 3))):
            box = tuple(slice(line.min(), line.max() + 1) for line in (rows, columns))
            mask = torch.zeros(side, side)
            mask[rows, columns] = 1
            rest -= mask
            row, column = (_reached(line.start, line.stop, side, 1) for line in box)
            down, across = resize[row, box[0]], resize[column, box[1]].T
            self.register_buffer(f"cover{len(self.places)}", down @ mask[box] @ across, persistent=False)
            shown = down @ (to_tensor(looks[:, *box]) * mask[box]) @ across
            self.register_buffer(f"shown{len(self.places)}", shown, persistent=False)
            self.places.append((row, column))
        if not self.places:
            raise ValueError("The signs look the same on all screens; expected two looks at least.")
        self.register_buffer("area", resize @ rest @ resize.T < 1 - TOUCHED, persistent=False)
        self.box = tuple(slice(int(line.min()), int(line.max()) + 1) for line in self.area.nonzero().unbind(1))
        self.register_buffer("around", resize @ (to_tensor(looks[0]) * rest) @ resize.T, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """The frames `[N, 3, 512, 512]` in [-1, 1], written to, with every sign in the look that it is nearest to."""
        shown = self.around.expand(len(frames), -1, -1, -1).clone()
        for i, (rows, columns) in enumerate(self.places):
            looks = self.get_buffer(f"shown{i}")
            seen = frames[:, None, :, rows, columns] - self.around[:, rows, columns]
            apart = (self.get_buffer(f"cover{i}") * (seen - looks).square()).sum((2, 3, 4))
            shown[:, :, rows, columns] += looks[apart.argmin(1)]
        box = self.box
        frames[:, :, *box] = torch.where(self.area[box], shown[:, :, *box], frames[:, :, *box])
        return frames


class Place(NamedTuple):
    """A sprite and its tile's first row and column on the game's screen."""

    sprite: int
    row: int
    column: int


class Sprites(nn.Module):
    """Shows what moves as the game's sprites.

    Args:
        sheet: uint8 `[side, side, 3]`, as large as the game's screen when that is padded to a square, with a sprite in
            each square tile of 32 pixels that is not all black. Black pixels of a sprite are see-through.
        maze: float `[2, 3, 512, 512]` in [-1, 1], the two looks of what stands still.
        still: bool `[512, 512]`, where nothing moves; None for nowhere.

    Raises ValueError for a sheet with no sprite.
    """

    maze: Tensor
    cells: Tensor
    still: Tensor
    colours: Tensor
    covers: Tensor
    resize: Tensor
    near: Tensor
    weights: Tensor
    coloured: Tensor

    def __init__(self, sheet: np.ndarray, maze: Tensor, still: Tensor | None = None) -> None:
        super().__init__()
        self.side = len(sheet)
        rows = self.side // TILE
        tiles = sheet[: rows * TILE, : rows * TILE].reshape(rows, TILE, rows, TILE, 3).swapaxes(1, 2)
        tiles = tiles.reshape(-1, TILE, TILE, 3)
        tiles = tiles[tiles.any((1, 2, 3))]
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
            "cells": _in_cells(maze, (grid, grid)),
            "still": _in_cells(still[None, None], (grid, grid))[0] > TOUCHED,
            "colours": colours,
            "covers": covers,
            "resize": resize,
            "near": near,
            "coloured": (inside * seen).flatten(1).T,
            "weights": torch.cat([inside[:, 0], squares[:, 0], contrast[:, 0], near - touched]).flatten(1).T,
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.contiguous(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """The frames `[N, 3, 512, 512]` in [-1, 1], written to, with all sprites that are found in them drawn."""
        for frame in frames:
            self._draw(frame, self.find(frame))
        return frames

    def find(self, frame: Tensor) -> list[Place]:
        """The sprites of a frame `[3, 512, 512]`, the uppermost first."""
        count = len(self.covers)
        screen = _in_cells(frame[None], self.cells.shape[2:])[0]
        distance, beneath = _nearest(screen, self.cells)
        moving = ((distance > STANDS_OUT) & ~self.still).float()
        apart = (screen - beneath).square().sum(0, True)
        tiles = _tiles(torch.cat([screen, screen.square().sum(0, True), apart]))
        free = torch.ones_like(moving)
        most, least = _sums(moving)[0], LEAST_VISIBLE * self.weights[:, :count].sum(0)
        tried = torch.zeros_like(most, dtype=torch.bool)
        places: list[Place] = []
        for _ in range(MOST_TRIES):
            row, column = divmod(int(most.argmax()), most.shape[1])
            if most[row, column] < LEAST_MOVING:
                break
            top, left = max(0, row - CELLS // 2), max(0, column - CELLS // 2)
            here = np.s_[top : row + CELLS // 2 + 1, left : column + CELLS // 2 + 1]
            searched = most[here] >= NEAR_PEAK * most[row, column]
            rows, columns = searched.nonzero().unbind(1)
            weight = _tiles(free)[0][here][rows, columns].flatten(1)
            value = tiles[:, *here][:, rows, columns].flatten(2) * weight
            # What the cells that a sprite covers are without it, and how far they are from it, summed.
            visible, squares, contrast, _ = (weight @ self.weights).split(count, dim=1)
            difference, _, _, beside = (value[4] @ self.weights).split(count, dim=1)
            product = value[:3].movedim(0, 1).flatten(1) @ self.coloured
            error = value[3] @ self.weights[:, :count] - 2 * product + squares
            fits = (visible > least) & (error < difference)
            fits &= error + beside < MISFIT * contrast
            best = int(torch.where(fits, difference - DOUBT * error, -torch.inf).argmax())
            tile, sprite = divmod(best, count)
            if not fits[tile, sprite]:
                tried[here] |= searched
                most[here][searched] = 0
                continue
            row, column = top + int(rows[tile]), left + int(columns[tile])
            places.append(Place(sprite, row * STEP, column * STEP))
            free[0, row : row + CELLS, column : column + CELLS] *= 1 - self.near[sprite]
            top, left = max(0, row - CELLS), max(0, column - CELLS)  # of the tiles that hold any of this one
            around = np.s_[:, top : row + 2 * CELLS, left : column + 2 * CELLS]
            sums = _sums(moving[around] * free[around])[0]
            near = np.s_[top : top + sums.shape[0], left : left + sums.shape[1]]
            most[near] = sums.masked_fill(tried[near], 0)
        return places

    def _draw(self, frame: Tensor, places: list[Place]) -> None:
        """Draw sprites over a frame, the first of them last, in place of what moves there."""
        drawn = []
        for sprite, row, column in reversed(places):
            rows, columns = (_reached(start, start + TILE, self.side, HALO) for start in (row, column))
            down, across = self.resize[rows, row : row + TILE], self.resize[columns, column : column + TILE].T
            cover, view = down @ self.covers[sprite] @ across, frame[:, rows, columns]
            drawn.append((view, cover, down @ self.colours[sprite] @ across))
            distance, beneath = _nearest(view, self.maze[:, :, rows, columns])
            blur = _grown((cover > TOUCHED).float()[None], HALO) > 0
            view[:] = torch.where(blur & (distance > STANDS_OUT), beneath, view)
        for view, cover, colours in drawn:
            view[:] = view * (1 - cover) + colours


def spots(mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each set of true pixels of `[h, w]` that touch, corners counted."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    while left:
        spot = [left.pop()]
        for row, column in spot:  # grows while it is gone through
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            spot.extend(around)
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

"""Pictures of dreams beside what really happened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

TILE = 192
GAP = 4
HEADER = 18
INK = (200, 200, 200)


def contact_sheet(real: np.ndarray, dreamed: np.ndarray, steps: Sequence[int], names: Sequence[str]) -> Image.Image:
    """One pair of rows a history, the real frames above the dreamed ones, a column a step.

    `real` and `dreamed` are uint8 `[N, len(steps), H, W, 3]`, `names` the N captions. ValueError for other shapes.
    """
    count, columns = len(names), len(steps)
    if real.shape != dreamed.shape or real.shape[:2] != (count, columns):
        raise ValueError(
            f"Real frames have shape {list(real.shape)}, dreamed ones {list(dreamed.shape)}; expected both to begin "
            f"with [{count}, {columns}], as there are {count} names and {columns} steps."
        )
    pair = HEADER + 2 * (TILE + GAP)
    sheet = Image.new("RGB", (columns * (TILE + GAP) - GAP, count * pair))
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(names):
        for j, step in enumerate(steps):
            left, top = j * (TILE + GAP), i * pair
            draw.text((left + 2, top + 3), f"{name}, step {step}" if j == 0 else f"step {step}", fill=INK)
            for row, (kind, frame) in enumerate((("real", real[i, j]), ("dream", dreamed[i, j]))):
                corner = (left, top + HEADER + row * (TILE + GAP))
                sheet.paste(Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.BOX), corner)
                if j == 0:
                    draw.text((corner[0] + 2, corner[1] + TILE - 14), kind, fill=INK)
    return sheet


def save_image(image: Image.Image, file: Path) -> None:
    """Write a PNG whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    image.save(partial, format="PNG", optimize=True)
    os.replace(partial, file)

"""Pictures of dreams beside what really happened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

TILE = 192
GAP = 4
HEADER = 18
MARGIN = 40
"""Left of the pictures, for the names of their rows: over a picture they would hide some of it."""
INK = (200, 200, 200)


def contact_sheet(rows: Mapping[str, np.ndarray], steps: Sequence[int], names: Sequence[str]) -> Image.Image:
    """A row for each kind of frames of each history, a column a step.

    `rows` are uint8 `[N, len(steps), H, W, 3]` by kind, above each other as they come ("real", "dream"), `names` the N
    captions. ValueError for other shapes.
    """
    count, columns = len(names), len(steps)
    for kind, frames in rows.items():
        if frames.shape[:2] != (count, columns):
            raise ValueError(
                f"The {kind} frames have shape {list(frames.shape)}; expected it to begin with [{count}, {columns}]: "
                f"there are {count} names and {columns} steps."
            )
    height = HEADER + len(rows) * (TILE + GAP)
    sheet = Image.new("RGB", (MARGIN + columns * (TILE + GAP) - GAP, count * height))
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(names):
        for j, step in enumerate(steps):
            left, top = MARGIN + j * (TILE + GAP), i * height
            draw.text((left + 2, top + 3), f"{name}, step {step}" if j == 0 else f"step {step}", fill=INK)
            for row, (kind, frames) in enumerate(rows.items()):
                corner = (left, top + HEADER + row * (TILE + GAP))
                sheet.paste(Image.fromarray(frames[i, j]).resize((TILE, TILE), Image.Resampling.BOX), corner)
                if j == 0:
                    draw.text((2, corner[1] + TILE // 2), kind, fill=INK)
    return sheet


def save_image(image: Image.Image, file: Path) -> None:
    """Write a PNG whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    image.save(partial, format="PNG", optimize=True)
    os.replace(partial, file)

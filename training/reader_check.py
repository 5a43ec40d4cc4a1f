"""How well the reader reads: what it gets right on recorded frames, and on a world's reconstructions of them.

An actor of which more than half lies behind others is counted apart: there is little of it to read.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neural_pacman.frames import psnr, to_images, to_tensor
from neural_pacman.progress import progress_bar
from neural_pacman.world import WorldModel
from training.maze import TILE_SIZE, in_wall
from training.reader import Reading, read
from training.reader_truth import Truth, labelled_frames
from training.sprites import SCALE, Actor, Sprite

WITHIN = 2.0
"""Largest distance of a right position, frame px."""
MOSTLY_COVERED = 0.5
"""Share behind others beyond which an actor is counted apart."""
NEAR = TILE_SIZE * SCALE / 2
"""Half a tile, frame px."""


@dataclass
class Accuracy:
    """What was read right, and how often there was something to read, by what it is.

    `distances` are those of found sprites from their places, frame px; `seconds` what each frame took; `psnr` what
    reconstructions have, dB.
    """

    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cases: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    distances: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)

    def count(self, name: str, right: int | bool | np.integer | np.bool_, cases: int = 1) -> None:
        self.right[name] += int(right)
        self.cases[name] += cases

    def share(self, name: str) -> str:
        return f"{self.right[name] / self.cases[name]:.2%}" if self.cases[name] else "-"

    def add(self, frame: np.ndarray, truth: Truth) -> None:
        """Read a frame and compare."""
        began = time.process_time()
        reading = read(frame)
        self.seconds.append(time.process_time() - began)
        self._count_sprites(reading, truth)
        self._count_pellets(reading, truth)
        self.count("score", reading.score == truth.score)
        self.count("lives", reading.lives == truth.lives)

    def _count_sprites(self, reading: Reading, truth: Truth) -> None:
        found = _assign(reading.sprites, truth)
        all_found = True
        for i, kind in enumerate(truth.kinds):
            mostly = truth.covered[i] > MOSTLY_COVERED
            self.count("sprites more than half covered, of all", mostly)
            if mostly:
                self.count("- of those, found within 2 px", found[i] is not None)
                continue
            self.count(f"- {kind}" if i == 0 else f"- ghost, {kind}", found[i] is not None)
            self.count("sprites within 2 px, with their state", found[i] is not None)
            all_found &= found[i] is not None
            if i:
                self.count("states of ghosts", _state(reading.sprites, truth.xy[i]) & truth.looks[i] != set())
        self.count("frames with all of those right", all_found)
        self.distances += [distance for distance in found if distance is not None]
        strays = [s for s in reading.sprites if np.linalg.norm(truth.xy - (s.x, s.y), axis=1).min() > NEAR]
        self.count("sprites found where nobody is", len(strays), max(len(reading.sprites), 1))
        self.count("sprites found in a wall", sum(map(in_wall, reading.sprites)), max(len(reading.sprites), 1))

    def _count_pellets(self, reading: Reading, truth: Truth) -> None:
        right = np.where(reading.hidden, truth.near, reading.pellets == truth.pellets)
        self.count("pellet places", right.sum(), right.size)
        self.count("frames with all pellets right and no others", right.all())
        self.count("places that a sprite hides, of all", reading.hidden.sum(), right.size)
        # The label, too, counts those in sight, and is one off here and there.
        self.count("pellets in sight, within 1 of the label", abs(reading.pellets.sum() - truth.pellets_left) <= 1)


def _assign(sprites: tuple[Sprite, ...], truth: Truth) -> list[float | None]:
    """The distance of each actor's sprite, frame px, where one of its look lies within 2 px: nearest pairs first.

    Ghosts that look alike, frightened or eaten, are thereby matched as a set.
    """
    pairs = sorted(
        (float(np.hypot(*(truth.xy[i] - (sprite.x, sprite.y)))), float(truth.covered[i]), i, j)
        for i, looks in enumerate(truth.looks)
        for j, sprite in enumerate(sprites)
        if sprite.actor in looks
    )
    found: list[float | None] = [None] * len(truth.looks)
    taken: set[int] = set()
    for distance, _, i, j in pairs:
        if distance <= WITHIN and found[i] is None and j not in taken:
            found[i] = distance
            taken.add(j)
    return found


def _state(sprites: tuple[Sprite, ...], xy: np.ndarray) -> set[Actor]:
    """What the ghosts look like whose sprites lie within half a tile of a place."""
    return {s.actor for s in sprites if s.is_ghost and np.hypot(*(xy - (s.x, s.y))) <= NEAR}


@dataclass
class Check:
    """Check the reader on recorded frames with labels of the classic maze."""

    dataset: str
    """A folder of parquet files, or one parquet file, with label columns."""
    frames: int = 1000
    """Frames read, spread evenly over the dataset."""
    world: str | None = None
    """Read this world's reconstructions of the frames too: a shipped world's name, a world's folder, or a hub id."""
    device: str = "auto"
    """Where the world runs: cuda, mps, cpu, or auto."""
    out: Path | None = None
    """File that receives the table as Markdown."""


def check(config: Check) -> str:
    """The reader's accuracy as a Markdown table.

    Raises what reading a dataset or a world raises, and ValueError for frames that cannot be checked.
    """
    if config.frames < 1:
        raise ValueError(f"frames is {config.frames}; expected 1 or more.")
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
    world = WorldModel.from_pretrained(config.world, device=config.device) if config.world else None
    columns = {"recorded": Accuracy()} | ({"reconstructed": Accuracy()} if world else {})
    for frame, truth in progress_bar(labelled_frames(config.dataset, config.frames), "reading", total=config.frames):
        columns["recorded"].add(frame, truth)
        if world:
            again = to_images(world.decode(world.encode(to_tensor(frame[None])[None])[0]))[0]
            columns["reconstructed"].add(again, truth)
            columns["reconstructed"].psnr.append(psnr(again, frame))
    text = table(columns)
    if config.out:
        partial = config.out.with_name(f".{config.out.name}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, config.out)
    return text


_ROWS = (
    "sprites within 2 px, with their state",
    "- Pac-Man",
    "- ghost, normal",
    "- ghost, frightened",
    "- ghost, eaten",
    "states of ghosts",
    "frames with all of those right",
    "sprites more than half covered, of all",
    "- of those, found within 2 px",
    "sprites found where nobody is",
    "sprites found in a wall",
    "pellet places",
    "frames with all pellets right and no others",
    "places that a sprite hides, of all",
    "pellets in sight, within 1 of the label",
    "score",
    "lives",
)
"""What is counted, in the table's order."""


_MEASURES: dict[str, Callable[[Accuracy], str]] = {
    "distance of sprites, mean": lambda a: _figure(a.distances, "px"),
    "time a frame, mean": lambda a: _figure([1000 * s for s in a.seconds], "ms"),
    "PSNR, mean": lambda a: _figure(a.psnr, "dB"),
}


def _figure(values: list[float], unit: str) -> str:
    return f"{np.mean(values):.2f} {unit}" if values else "-"


def table(columns: dict[str, Accuracy]) -> str:
    """Accuracies side by side, Markdown: the share of right cases, and how many there were."""
    first, *_ = columns.values()
    names = [name for name in _ROWS if name in first.cases]
    frames = f"{len(first.seconds):,}"
    rows = [
        ["", *columns, "cases"],
        ["---"] * (len(columns) + 2),
        *([name, *(c.share(name) for c in columns.values()), f"{first.cases[name]:,}"] for name in names),
        *([name, *(of(c) for c in columns.values()), frames] for name, of in _MEASURES.items()),
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main(config: Check) -> None:
    print(check(config), end="")

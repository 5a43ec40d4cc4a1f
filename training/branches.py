"""Whether the same history and actions, dreamed twice with other noise, lead the ghosts to different places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neural_pacman.actions import Action
from neural_pacman.engine import DreamEngine
from neural_pacman.progress import progress_bar
from neural_pacman.seeds import Seeds, stacked
from neural_pacman.world import WorldModel
from training.figures import Report, mean
from training.reader import WALL, Reading, read
from training.sprites import GHOST_COLOURS, SCALE, SPRITE_SIZE, Actor, to_frame_xy

BRANCH_STEPS = 16
MOVED = 6.0
"""Frame px by which a ghost is somewhere else; reading errs by 1.4, and a ghost's step is 7.4."""


def two_generators(
    world: WorldModel,
    runs: int = 20,
    *,
    num_inference_steps: int | None = None,
    seed: int = 0,
) -> Report:
    """How often two dreams of one history and the same actions, whose noise alone differs, part ways.

    Begins at seeds of the world's own that show a ghost at a junction, and plays `BRANCH_STEPS` of sticky keys.
    Returns the share of runs whose ghosts differ, and whose Pac-Man does, which the noise should not decide; None for
    both when no seed shows a ghost at a junction.
    """
    starts = Seeds.of(world)
    ghosts: list[bool] = []
    pacmen: list[bool] = []
    order = iter(np.random.default_rng(seed).permutation(len(starts)))
    with progress_bar(total=runs, desc="two generators", unit="run") as bar:
        for index in order:
            if len(ghosts) == runs:
                break
            begun = starts[int(index)]
            engine = DreamEngine(world, 2, num_inference_steps)
            generators = [torch.Generator().manual_seed(2 * (seed + int(index)) + i) for i in range(2)]
            latents, actions, known = stacked([begun] * 2)
            engine.reset(latents, actions, generators, known=known)
            if not _at_junction(read(engine.decode()[0])):
                continue
            player = np.random.default_rng([seed, int(index)])
            action = any_key(player)
            for _ in range(BRANCH_STEPS):
                action = action if player.random() < 0.9 else any_key(player)
                engine.step([action] * 2)
            one, other = (read(picture) for picture in engine.decode())
            ghosts.append(_differ(one, other, [actor for actor in Actor if actor is not Actor.PACMAN]))
            pacmen.append(_differ(one, other, [Actor.PACMAN]))
            bar.update(1)
    return {"ghosts_differ": mean(ghosts), "pacman_differs": mean(pacmen), "steps": BRANCH_STEPS, "n": len(ghosts)}


def any_key(player: np.random.Generator) -> int:
    """One of the four directions."""
    return int(player.integers(Action.NO_ACTION))


def _at_junction(reading: Reading) -> bool:
    """Whether a ghost in its own colour stands in the middle of a tile from which it may go three ways or more."""
    origin = to_frame_xy(np.zeros(2))
    for sprite in reading.sprites:
        if sprite.actor in GHOST_COLOURS and sprite.whole:
            column, row = (np.array([sprite.x, sprite.y]) - origin) / (SCALE * SPRITE_SIZE)
            x, y = round(column), round(row)
            central = max(abs(column - x), abs(row - y)) * SCALE * SPRITE_SIZE <= 0.5 * MOVED
            if central and 0 < x < WALL.shape[1] - 1 and 0 < y < WALL.shape[0] - 1 and not WALL[y, x]:
                ways = sum(not WALL[y + dy, x + dx] for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)))
                if ways >= 3:
                    return True
    return False


def _differ(one: Reading, other: Reading, actors: Sequence[Actor]) -> bool:
    """Whether any of these actors is somewhere in one reading and nowhere near in the other."""
    for here, there in ((one, other), (other, one)):
        for sprite in here.sprites:
            if sprite.actor in actors and not any(
                s.actor is sprite.actor and max(abs(s.x - sprite.x), abs(s.y - sprite.y)) <= MOVED
                for s in there.sprites
            ):
                return True
    return False

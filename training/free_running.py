"""Dreams that live on their own frames: PSNR by horizon, and whether the actors are still there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from neural_pacman.engine import DreamEngine
from neural_pacman.episodes import HISTORY
from neural_pacman.frames import to_images
from neural_pacman.world import WorldModel
from training.clips import AHEAD, Clip, batches
from training.figures import Report, mean, psnr
from training.sprites import SCALE, SPRITE_SIZE, Sprite, count_ghosts, pacman, read_sprites, to_frame_xy

HORIZONS = (1, 4, 16, 64)
CAST_HORIZONS = (16, 64)
"""Steps after which the actors are looked for."""
KEPT_STEPS = (1, 2, 4, 8, 16, 32, 64)
"""Steps whose frames are decoded: the horizons, and what else a contact sheet shows."""
TILE = SPRITE_SIZE * SCALE
"""Side of a tile of the maze, frame px: 22.3."""
FULL_CAST = 3
"""Ghosts that must be there beside Pac-Man; the fourth may be hidden behind another."""


def dream_on(
    world: WorldModel, clips: Sequence[Clip], batch_size: int, num_inference_steps: int | None, seed: int
) -> dict[int, np.ndarray]:
    """Dream on from every clip's history under its recorded actions.

    Returns frames uint8 `[len(clips), 512, 512, 3]` for each of `KEPT_STEPS`. Every dream has noise of its own, seeded
    with `seed` and its number.
    """
    frames: dict[int, list[np.ndarray]] = {step: [] for step in KEPT_STEPS}
    with tqdm(total=AHEAD * len(clips), desc="free-running", unit="step", dynamic_ncols=True) as bar:
        for part in batches(range(len(clips)), batch_size):
            actions = torch.stack([clips[i].actions for i in part])
            engine = DreamEngine(world, len(part), num_inference_steps)
            engine.reset(
                torch.stack([clips[i].latents[:HISTORY] for i in part]),
                actions[:, : HISTORY - 1],
                [torch.Generator().manual_seed(seed + i) for i in part],
            )
            for step in range(1, AHEAD + 1):
                engine.step(actions[:, HISTORY - 2 + step].cpu().numpy())
                if step in frames:
                    frames[step].append(engine.decode())
                bar.update(len(part))
    return {step: np.concatenate(parts) for step, parts in frames.items()}


def report_dreams(
    world: WorldModel, clips: Sequence[Clip], dreams: dict[int, np.ndarray], labelled: bool
) -> dict[str, Report]:
    """Figures by horizon of what `dream_on` returned; without labels of the classic maze, PSNR alone."""
    report: dict[str, Report] = {}
    last = [clip.real(0) for clip in clips]
    for horizon in tqdm(HORIZONS, "reading frames", unit="horizon", dynamic_ncols=True):
        real, dreamed = [clip.real(horizon) for clip in clips], list(dreams[horizon])
        part: Report = {
            "psnr": mean([psnr(image, frame) for image, frame in zip(dreamed, real, strict=True)]),
            "repeat_last": mean([psnr(image, frame) for image, frame in zip(last, real, strict=True)]),
            "n": len(clips),
        }
        if labelled:
            part["runs_with_a_life_lost"] = sum(
                int(_label(clip, "lives", horizon) < _label(clip, "lives", 0)) for clip in clips
            )
        if labelled and horizon in CAST_HORIZONS:
            rebuilt = [to_images(world.decode(clip.latent(horizon))) for clip in clips]
            part["cast"] = _report_cast(dreamed, real, rebuilt)
            part["pacman_in_place"] = _report_places(clips, horizon, dreamed)
        report[str(horizon)] = part
    return report


def has_cast(sprites: Sequence[Sprite]) -> bool:
    """Whether Pac-Man and at least three ghosts are among a frame's sprites, whole and in their colours."""
    return pacman(sprites) is not None and count_ghosts(sprites) >= FULL_CAST


def _report_cast(dreamed: list[np.ndarray], real: list[np.ndarray], rebuilt: list[np.ndarray]) -> Report:
    """The share of dreams with a full cast, beside the real game's, where ghosts hide behind each other too."""
    frames = {"dream": dreamed, "real": real, "reconstruction": rebuilt}
    sprites = {name: [read_sprites(frame) for frame in given] for name, given in frames.items()}
    full = {name: [has_cast(found) for found in given] for name, given in sprites.items()}
    where_real = [dream for dream, shown in zip(full["dream"], full["real"], strict=True) if shown]
    return {
        **{name: mean(shares) for name, shares in full.items()},
        "dream_where_real": mean(where_real),
        "n": len(dreamed),
        "n_where_real": len(where_real),
        "pacman": {name: mean([pacman(found) is not None for found in given]) for name, given in sprites.items()},
        "ghosts": {name: mean([count_ghosts(found) for found in given]) for name, given in sprites.items()},
    }


def _report_places(clips: Sequence[Clip], horizon: int, dreamed: list[np.ndarray]) -> Report:
    """The share of dreams with Pac-Man within a tile of his real place: a dream that stands still keeps its cast."""
    now, last = ([to_frame_xy(_label(clip, "player_xy", step)) for clip in clips] for step in (horizon, 0))
    found = [pacman(read_sprites(frame)) for frame in dreamed]
    return {
        "dream": mean([p is not None and _near(np.array([p.x, p.y]), xy) for p, xy in zip(found, now, strict=True)]),
        "repeat_last": mean([_near(before, xy) for before, xy in zip(last, now, strict=True)]),
        "n": len(dreamed),
    }


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= TILE)


def _label(clip: Clip, name: str, step: int) -> np.ndarray:
    return clip.episode.labels[name][clip.start + step]

"""Dreams that live on their own frames: likeness by horizon, and whether the actors are still there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neural_pacman.engine import DreamEngine
from neural_pacman.episodes import HISTORY
from neural_pacman.frames import to_images
from neural_pacman.progress import progress_bar
from neural_pacman.world import WorldModel
from training.clips import HORIZONS, Clip, batches
from training.figures import Report, mean, means
from training.frechet import clip_features, report_frechet
from training.perceptual import likeness, short_likeness
from training.sprites import SCALE, SPRITE_SIZE, Sprite, count_ghosts, pacman, read_sprites, to_frame_xy

CAST_HORIZONS = (16, 64)
"""Steps after which the actors are looked for."""
TILE = SPRITE_SIZE * SCALE
"""Side of a tile of the maze, frame px: 22.3."""
FULL_CAST = 3
"""Ghosts that must be there beside Pac-Man; the fourth may be hidden behind another."""
GHOSTS = 4
FRECHET_STEPS = 64


@dataclass(frozen=True)
class Dreamed:
    """Step `step` of the dream along a clip: `latent` float32 `[32, 16, 16]`, and `frame` uint8 `[512, 512, 3]` if it
    was asked for; `points`, `life_lost` and `end` as the world judged the step."""

    clip: Clip
    step: int
    latent: Tensor
    frame: np.ndarray | None
    points: float
    life_lost: bool
    end: bool


def dream_on(
    world: WorldModel,
    clips: Sequence[Clip],
    decoded: Callable[[Clip, int], bool],
    batch_size: int,
    num_inference_steps: int | None,
    seed: int,
    name: str = "free-running",
) -> Iterator[Dreamed]:
    """Dream on from every clip's history under its recorded actions, as far as the clip goes.

    The frames of those steps are decoded that `decoded` wants. Every dream has noise of its own, seeded with `seed` and
    its number. Dreams of one length share a batch.
    """
    order = sorted(range(len(clips)), key=lambda i: -clips[i].ahead)
    with progress_bar(total=sum(clip.ahead for clip in clips), desc=name, unit="step") as bar:
        for part in batches(range(len(order)), batch_size):
            chosen = [order[i] for i in part]
            # A shorter dream in a batch is carried along to the batch's end, under NO_ACTION, unseen.
            longest = max(clips[i].ahead for i in chosen)
            actions = torch.full((len(chosen), HISTORY - 1 + longest), 4)
            for row, i in enumerate(chosen):
                actions[row, : len(clips[i].actions)] = clips[i].actions.cpu()
            engine = DreamEngine(world, len(chosen), num_inference_steps)
            engine.reset(
                torch.stack([clips[i].latents[:HISTORY] for i in chosen]),
                actions[:, : HISTORY - 1],
                [torch.Generator().manual_seed(seed + i) for i in chosen],
                known=torch.cat([clips[i].known for i in chosen]),
            )
            for step in range(1, longest + 1):
                outcome = engine.step(actions[:, HISTORY - 2 + step].numpy())
                rows = [row for row, i in enumerate(chosen) if step <= clips[i].ahead]
                wanted = [row for row in rows if decoded(clips[chosen[row]], step)]
                pictures: dict[int, np.ndarray] = {}
                if wanted:
                    shown = engine.decode()
                    pictures = {row: shown[row] for row in wanted}
                for row in rows:
                    yield Dreamed(
                        clips[chosen[row]],
                        step,
                        engine.latent[row],
                        pictures.get(row),
                        float(outcome.points[row]),
                        bool(outcome.life_lost[row]),
                        bool(outcome.end[row]),
                    )
                bar.update(len(rows))


class FreeRunning:
    """Measures dreams step by step, and remembers what it saw until it is asked for a report.

    Args:
        world: what is measured.
        labelled: whether the dataset says where everyone is, on the classic maze.
    """

    def __init__(self, world: WorldModel, labelled: bool) -> None:
        self.world, self.labelled = world, labelled
        self._scores: dict[int, list[tuple[dict[str, float], dict[str, float]]]] = {h: [] for h in HORIZONS}
        self._casts: dict[int, list[dict[str, list[Sprite]]]] = {horizon: [] for horizon in CAST_HORIZONS}
        self._places: dict[int, list[tuple[bool, bool]]] = {horizon: [] for horizon in CAST_HORIZONS}
        self._lost: dict[int, int] = dict.fromkeys(HORIZONS, 0)
        self._features: dict[int, dict[str, np.ndarray]] = {}
        self._growing: dict[int, list[Tensor]] = {}

    @staticmethod
    def looks_at(clip: Clip, step: int) -> bool:
        """Whether the frame of a step is needed."""
        return step in HORIZONS

    def see(self, dreamed: Dreamed) -> None:
        """Take in one step."""
        clip, step, frame = dreamed.clip, dreamed.step, dreamed.frame
        self._follow(dreamed)
        if step not in HORIZONS or frame is None:
            return
        real, last = clip.real(step), clip.real(0)
        format = clip.episode.format
        self._scores[step].append((likeness(frame, real, format), likeness(last, real, format)))
        if not self.labelled:
            return
        self._lost[step] += int(clip.label("lives", step) < clip.label("lives", 0))
        if step in CAST_HORIZONS:
            rebuilt = to_images(self.world.decode(clip.latents[HISTORY - 1 + step]))
            shown = {"dream": frame, "real": real, "reconstruction": rebuilt}
            cast = {name: read_sprites(picture) for name, picture in shown.items()}
            self._casts[step].append(cast)
            now, before = (to_frame_xy(clip.label("player_xy", at)) for at in (step, 0))
            found = pacman(cast["dream"])
            there = found is not None and _near(np.array([found.x, found.y]), now)
            self._places[step].append((there, _near(before, now)))

    def _follow(self, dreamed: Dreamed) -> None:
        """Gather the latents of a dream's first 64 steps, then keep what they say in short."""
        clip = dreamed.clip
        if clip.ahead < FRECHET_STEPS or dreamed.step > FRECHET_STEPS:
            return
        grown = self._growing.setdefault(id(clip), [])
        grown.append(dreamed.latent)
        if dreamed.step == FRECHET_STEPS:
            real = clip.latents[HISTORY : HISTORY + FRECHET_STEPS]
            still = clip.latents[HISTORY - 1].expand_as(real)
            kinds = {"dream": torch.stack(self._growing.pop(id(clip))), "real": real, "repeat_last": still}
            self._features[id(clip)] = {name: clip_features(latents) for name, latents in kinds.items()}

    def report(self) -> Report:
        """Figures by horizon, and the distance of dreamed from real clips."""
        horizons: dict[str, Report] = {}
        for horizon, scores in self._scores.items():
            part: Report = {
                "dream": means([dream for dream, _ in scores]),
                "repeat_last": means([last for _, last in scores]),
                "n": len(scores),
            }
            if self.labelled and scores:
                part["runs_with_a_life_lost"] = self._lost[horizon]
                if casts := self._casts.get(horizon):
                    part["cast"] = _report_cast(casts)
                    dream, last = zip(*self._places[horizon], strict=True)
                    part["pacman_in_place"] = {"dream": mean(dream), "repeat_last": mean(last), "n": len(dream)}
            horizons[str(horizon)] = part
        features = list(self._features.values())
        others = {name: [clip[name] for clip in features] for name in ("dream", "repeat_last")}
        return {"free_running": horizons, "frechet": report_frechet([clip["real"] for clip in features], others)}


def few_step_dreams(
    world: WorldModel, clips: Sequence[Clip], counts: Sequence[int], horizon: int, batch_size: int, seed: int
) -> dict[int, list[dict[str, float]]]:
    """Likeness of free dreams after `horizon` steps by number of denoising steps, from the same noise."""
    short = [replace(clip, ahead=horizon, actions=clip.actions[: HISTORY - 1 + horizon]) for clip in clips]
    scores: dict[int, list[dict[str, float]]] = {}
    for count in counts:
        name = f"{count} denoising step{'s' * (count > 1)}"
        scores[count] = [
            short_likeness(dreamed.frame, dreamed.clip.real(horizon))
            for dreamed in dream_on(world, short, lambda _, step: step == horizon, batch_size, count, seed, name)
            if dreamed.frame is not None
        ]
    return scores


def has_cast(sprites: Sequence[Sprite]) -> bool:
    """Whether Pac-Man and at least three ghosts are among a frame's sprites, whole and in their colours."""
    return pacman(sprites) is not None and count_ghosts(sprites) >= FULL_CAST


def _report_cast(casts: Sequence[dict[str, list[Sprite]]]) -> Report:
    """The share of dreams with a full cast, beside the real game's, where ghosts hide behind each other too."""
    kinds = ("dream", "real", "reconstruction")
    full = {kind: [has_cast(cast[kind]) for cast in casts] for kind in kinds}
    ghosts = {kind: [count_ghosts(cast[kind]) for cast in casts] for kind in kinds}
    where_real = [dream for dream, shown in zip(full["dream"], full["real"], strict=True) if shown]
    four = {
        kind: [count == GHOSTS for count, real in zip(ghosts[kind], ghosts["real"], strict=True) if real == GHOSTS]
        for kind in ("dream", "reconstruction")
    }
    return {
        **{kind: mean(shares) for kind, shares in full.items()},
        "dream_where_real": mean(where_real),
        "n": len(casts),
        "n_where_real": len(where_real),
        "pacman": {kind: mean([pacman(cast[kind]) is not None for cast in casts]) for kind in kinds},
        "ghosts": {kind: mean(counts) for kind, counts in ghosts.items()},
        "four_ghosts_where_real": {**{kind: mean(shares) for kind, shares in four.items()}, "n": len(four["dream"])},
    }


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= TILE)

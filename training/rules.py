"""The rules of the game, held against what a reader sees in successive frames of one dream.

Five rules, each broken at most once a step; a lasting fault breaks its rule at every step that it lasts:

- **missing**: Pac-Man is not there, or a ghost is gone that nobody can be covering. Ghosts often walk exactly behind
  one another, so a ghost that vanished close to somebody counts as hidden, and goes with whoever covers it.
- **doubled**: the same actor twice, or more than four ghosts.
- **in wall**: anyone where no actor may be.
- **pellet**: a pellet that comes back, or vanishes away from Pac-Man, judged at the step that shows it.
- **score**: the HUD's step disagrees with what was eaten, or cannot be read.

In the step that shows a lost life or a new maze, and in the one after it, nothing is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np

from training.eating import REACH, STANDING, Eating, Meal
from training.figures import Report
from training.reader import Reading, in_wall
from training.sprites import GHOST_COLOURS, SCALE, SPRITE_SIZE, Actor, Sprite, to_frame_xy

RULES = ("missing", "doubled", "in wall", "pellet", "score")
ONE_OF_EACH = (Actor.PACMAN, *GHOST_COLOURS)
GRACE = 2
"""Steps not judged from a lost life or a new maze on."""

HOME = to_frame_xy(np.array([216, 384]))
"""Where Pac-Man begins each life, frame px."""
MIDDLE = SPRITE_SIZE * SCALE / 2
"""From a sprite's corner to its middle, frame px."""
NEAR_HOME, JUMP = 24.0, 36.0
"""Pac-Man jumped home when he moved further than `JUMP` frame px in a step, to within `NEAR_HOME`."""
STRIDE = 12.0
"""Most that Pac-Man walks in a step, frame px: by so much more may he have eaten for each step out of sight."""
COVER = 22.0
"""Frame px between where an actor was and somebody who may cover it now: a sprite's width."""
EYES_COVER = 84.0
"""The same for one who was frightened or eaten: eyes run home at eight times a ghost's pace."""
APART = 11.0
"""Two of one actor are nearer than this only where a reader has seen one twice."""
PREY = 64.0
"""Frame px from Pac-Man within which a frightened ghost can be eaten in a step."""
RENEWED, FEW_LEFT = 20, 5
"""So many pellets at once make a new maze, after a lost life or where so few were left."""


@dataclass(frozen=True)
class Judged:
    """What happened in the `T` steps between `T + 1` readings of one run.

    Attributes:
        broken: bool `[T]` for each of `RULES`.
        deaths: bool `[T]`, steps that show a lost life.
        mazes: bool `[T]`, steps that show a new maze.
        gains: the HUD's step, None where it cannot be read.
        meals: the pellets that were eaten.
    """

    broken: dict[str, np.ndarray]
    deaths: np.ndarray
    mazes: np.ndarray
    gains: list[int | None]
    meals: list[Meal]

    @property
    def steps(self) -> int:
        return len(self.gains)


def judge(readings: Sequence[Reading]) -> Judged:
    """Hold the rules against successive frames' readings, the first of which is where the run begins.

    ValueError when there is no reading.
    """
    if not readings:
        raise ValueError("There are no readings to judge; expected those of a run's frames, at least one.")
    cast, eating, lives = _Cast(readings[0]), Eating(readings[0]), readings[0].lives
    steps = len(readings) - 1
    broken = {rule: np.zeros(steps, dtype=bool) for rule in RULES}
    deaths, mazes = np.zeros(steps, dtype=bool), np.zeros(steps, dtype=bool)
    gains: list[int | None] = []
    grace = 0
    for t, (last, now) in enumerate(pairwise(readings)):
        jumped = cast.jumps_home(now)
        fewer = now.lives is not None and lives is not None and now.lives < lives
        # The HUD may lag behind the jump: one death, not two.
        deaths[t] = (jumped or fewer) and not deaths[max(t - GRACE, 0) : t].any()
        lives = now.lives if lives is None or fewer else lives
        few = np.count_nonzero(eating.state == STANDING) <= FEW_LEFT
        mazes[t] = eating.renewed(now) >= RENEWED and (few or jumped or deaths[max(t - GRACE, 0) : t + 1].any())

        mouths, unseen = cast.mouths(now)
        if mazes[t]:
            eating.restart(now)
            lives = now.lives
            pellet_fault = score_fault = False
        else:
            pellet_fault, score_fault = eating.step(now, mouths, REACH + STRIDE * unseen, cast.has_prey(last, now))
        gains.append(eating.gain)
        missing = cast.step(now, anew=bool(deaths[t] or mazes[t]))
        grace = GRACE if deaths[t] or mazes[t] else max(grace - 1, 0)
        if not grace:
            faults = (missing, _doubled(now), any(map(in_wall, now.sprites)), pellet_fault, score_fault)
            for rule, fault in zip(RULES, faults, strict=True):
                broken[rule][t] = fault
    return Judged(broken, deaths, mazes, gains, eating.meals)


def report_rules(runs: Sequence[Judged]) -> Report:
    """Violations of all runs together: how many of each rule, and for every 1,000 steps."""
    steps = sum(run.steps for run in runs)
    counts = {rule: sum(int(run.broken[rule].sum()) for run in runs) for rule in RULES}
    counts["all"] = sum(counts.values())
    return {
        "steps": steps,
        "counts": counts,
        "per_1000": {rule: 1000 * count / steps if steps else None for rule, count in counts.items()},
    }


def reward_errors(judged: Judged, points: Sequence[float] | np.ndarray) -> np.ndarray:
    """Steps whose announced reward is not the HUD's step, bool `[T]`; no step where the HUD cannot be read counts."""
    return np.array([g is not None and g != p for g, p in zip(judged.gains, points, strict=True)], dtype=bool)


def _doubled(reading: Reading) -> bool:
    """Whether an actor is there twice, each of them whole, or more than four ghosts are."""
    there: list[Sprite] = []
    for sprite in reading.sprites:
        seen_twice = any(s.actor is sprite.actor and _gap(_place(s), _place(sprite)) < APART for s in there)
        if sprite.whole and not (seen_twice and sprite.actor in ONE_OF_EACH):
            there.append(sprite)
    once = [s.actor for s in there if s.actor in ONE_OF_EACH]
    return len(set(once)) < len(once) or sum(s.is_ghost for s in there) > len(GHOST_COLOURS)


def _place(sprite: Sprite) -> np.ndarray:
    return np.array([sprite.x, sprite.y], dtype=np.float64)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """The larger of the horizontal and the vertical distance, frame px."""
    return float(np.abs(a - b).max())


@dataclass(eq=False)
class _Ghost:
    """One of the four: where it is, or whoever hides it; None when it was never seen."""

    place: np.ndarray | None = None
    look: Actor | None = None
    missing: bool = False

    def see(self, sprite: Sprite) -> None:
        self.place, self.look, self.missing = _place(sprite), sprite.actor, False

    def hide(self, cover: Sprite) -> None:
        """Go with who covers it; behind one who is frightened or eaten it is so too."""
        self.place = _place(cover)
        if cover.actor not in GHOST_COLOURS:
            self.look = cover.actor

    def cost(self, sprite: Sprite) -> float:
        """How unlikely it is that this ghost is that sprite: one lost, or never seen, may be anywhere."""
        far = 1000.0
        return far if self.place is None or self.missing else min(_gap(self.place, _place(sprite)), far)


class _Cast:
    """Where everybody is, followed from reading to reading."""

    def __init__(self, first: Reading) -> None:
        self._pacman: np.ndarray | None = None
        self._unseen = 0
        self.step(first, anew=True)

    def jumps_home(self, now: Reading) -> bool:
        pacman = _nearest_pacman(now, self._pacman)
        return (
            pacman is not None
            and self._pacman is not None
            and _gap(pacman, self._pacman) > JUMP + STRIDE * self._unseen
            and _gap(pacman, HOME) <= NEAR_HOME
        )

    def mouths(self, now: Reading) -> tuple[np.ndarray, int]:
        """Pac-Man's middle before and now, float `[N, 2]`, and for how many steps he has been out of sight."""
        pacman = _nearest_pacman(now, self._pacman)
        known = [place + MIDDLE for place in (self._pacman, pacman) if place is not None]
        return np.array(known).reshape(-1, 2), self._unseen + (pacman is None)

    def has_prey(self, last: Reading, now: Reading) -> bool:
        """Whether a ghost that can be eaten was near Pac-Man."""
        if self._pacman is None:
            return False
        prey = [s for s in (*last.sprites, *now.sprites) if s.actor in (Actor.FRIGHTENED, Actor.EYES)]
        return any(_gap(_place(sprite), self._pacman) <= PREY for sprite in prey)

    def step(self, now: Reading, anew: bool) -> bool:
        """Follow everybody into the next reading, or begin `anew` with it; returns whether anybody is missing."""
        found = [s for s in now.sprites if s.is_ghost]
        if anew:
            self._pacman, self._unseen = None, 0
            self._ghosts = {colour: _Ghost() for colour in GHOST_COLOURS}
        pacman = _nearest_pacman(now, self._pacman)
        before = [ghost.place for ghost in self._ghosts.values() if ghost.place is not None and not ghost.missing]
        lost = self._follow(found)
        if pacman is not None:
            self._pacman, self._unseen = pacman, 0
            return lost
        self._unseen += 1
        # A ghost that he has just eaten is over him for a step, and neither is easily told.
        over = [_place(s) for s in found] + before
        reach = COVER + STRIDE * (self._unseen - 1)
        return lost or self._pacman is None or not any(_gap(place, self._pacman) <= reach for place in over)

    def _follow(self, found: list[Sprite]) -> bool:
        """Give every ghost its sprite, or who covers it; returns whether one has neither."""
        unmatched = dict(self._ghosts)
        for colour in GHOST_COLOURS:
            ghost = self._ghosts[colour]
            own = [s for s in found if s.actor is colour]
            if own:
                ghost.see(min(own, key=ghost.cost))
                del unmatched[colour]
        nameless = [s for s in found if s.actor not in GHOST_COLOURS]
        ghosts = list(unmatched.values())
        size = min(len(ghosts), len(nameless))
        pairings = (
            list(zip(some, sprites, strict=True))
            for some in permutations(ghosts, size)
            for sprites in ([nameless] if len(nameless) == size else permutations(nameless, size))
        )
        for ghost, sprite in min(pairings, key=lambda pairs: sum(g.cost(s) for g, s in pairs)):
            ghost.see(sprite)
            ghosts.remove(ghost)
        for ghost in ghosts:
            if ghost.place is not None and not ghost.missing:
                cover = min(found, key=ghost.cost, default=None)
                reach = COVER if ghost.look in GHOST_COLOURS else EYES_COVER
                if cover is None or ghost.cost(cover) > reach:
                    ghost.missing = True
                else:
                    ghost.hide(cover)
        return any(ghost.missing for ghost in self._ghosts.values())


def _nearest_pacman(reading: Reading, to: np.ndarray | None) -> np.ndarray | None:
    """Pac-Man's place, of two the one nearer to where he was."""
    places = [_place(s) for s in reading.sprites if s.actor is Actor.PACMAN]
    return min(places, key=lambda place: 0.0 if to is None else _gap(place, to), default=None)

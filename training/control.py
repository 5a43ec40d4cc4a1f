"""Whether a dream moves Pac-Man as the real game does, and how far its actors are from the real ones.

A dream runs free under a recording's own actions, and the two drift apart. So a step is compared only while the dreamed
Pac-Man stands where the real one does, with the same walls around him: then the same action must move both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from neural_pacman.actions import Action
from training.figures import Report, mean
from training.reader import Reading
from training.rules import HOME, JUMP, NEAR_HOME
from training.sprites import GHOST_COLOURS, SCALE, Actor, Sprite, to_frame_xy
from training.teacher_forced import DIRECTIONS

TOLERANCE = 4.0
"""Frame px by which places, and moves, may differ and still be the same. A step is 11.1, and reading errs by 1.4."""
STRIDE = 12
"""Pac-Man's step, screen px."""
LEAP = 2 * STRIDE
"""A longer move, screen px, is no step: a lost life or the tunnel."""
COVERING = 20
"""Screen px within which a ghost hides those that are drawn before it."""
HORIZONS = (1, 4, 16)
NORMAL, FRIGHTENED, EATEN = 1, 2, 3
"""The labels' `ghost_state`."""


class Kind(StrEnum):
    """What the real Pac-Man did in a step.

    TURNING moves across his direction and REVERSING against it. BLOCKED stands still, or goes on although the action
    asked for another direction: a wall is there. CONTINUING is the rest.
    """

    CONTINUING = "continuing"
    TURNING = "turning"
    REVERSING = "reversing"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Course:
    """A dream beside the recording whose actions it was given, from a common state 0 to state `H`.

    Attributes:
        readings: `H + 1`, of the dream's frames; the first shows the state that it began from.
        actions: int `[H]`, those between the states.
        player_xy: the recording's label `[H + 1 + N, 2]`, screen px. The `N` states before the dream began tell which
            way Pac-Man was going.
        ghost_xy, ghost_state: the recording's labels `[H + 1, 4, 2]` and `[H + 1, 4]`.
    """

    readings: Sequence[Reading]
    actions: np.ndarray
    player_xy: np.ndarray
    ghost_xy: np.ndarray
    ghost_state: np.ndarray

    def __post_init__(self) -> None:
        states = len(self.readings)
        lengths = {
            "actions": len(self.actions) + 1,
            "ghost_xy": len(self.ghost_xy),
            "ghost_state": len(self.ghost_state),
        }
        for name, length in lengths.items():
            if length != states:
                raise ValueError(f"{name} fits {length} states, but there are {states} readings; expected as many.")
        if len(self.player_xy) < states:
            raise ValueError(
                f"player_xy has {len(self.player_xy)} states; expected at least the {states} of the dream."
            )

    @property
    def places(self) -> np.ndarray:
        """Where Pac-Man really was in the dream's states, frame px `[H + 1, 2]`."""
        return to_frame_xy(self.player_xy[-len(self.readings) :])


def classify(player_xy: np.ndarray, actions: np.ndarray) -> tuple[list[Kind | None], np.ndarray]:
    """What the real Pac-Man did in each step, and where keeping his direction would have moved him.

    Args:
        player_xy: his places `[M + 1, 2]`, screen px.
        actions: int `[T]`, those of the last `T` steps; the `M - T` before them only tell his direction.

    Returns:
        `T` kinds, None for a leap (a lost life, the tunnel) and before he first moved; and moves `[T, 2]`, screen px:
        a whole step on in his direction, or none where he stood still.
    """
    moves = np.diff(np.asarray(player_xy, dtype=np.int64), axis=0)
    before = len(moves) - len(actions)
    heading = np.zeros(2, dtype=np.int64)
    kinds: list[Kind | None] = []
    kept = np.zeros((len(actions), 2), dtype=np.int64)
    for t, move in enumerate(moves):
        leaps = bool(np.abs(move).max() > LEAP)
        if t >= before:
            stood = t > 0 and not moves[t - 1].any()
            kept[t - before] = 0 if stood else STRIDE * heading
            kinds.append(None if leaps or not heading.any() else _kind(move, heading, int(actions[t - before])))
        if leaps:
            # Out of the tunnel he goes on as he went in; a new life has no direction yet.
            heading = heading if move[1] == 0 else np.zeros(2, dtype=np.int64)
        elif move.any():
            across = np.where(heading != 0, 0, move)  # a corner is cut: its later half is where he goes now
            heading = np.sign(across if across.any() and heading.any() else move)
    return kinds, kept


def _kind(move: np.ndarray, heading: np.ndarray, action: int) -> Kind:
    if not move.any():
        return Kind.BLOCKED
    if move[heading == 0].any():
        return Kind.TURNING
    if move @ heading < 0:
        return Kind.REVERSING
    asked = DIRECTIONS.get(Action(action), tuple(heading))
    return Kind.CONTINUING if asked == tuple(heading) else Kind.BLOCKED


def report_control(courses: Sequence[Course]) -> Report:
    """The share of steps in which the dream moved Pac-Man as the real game did.

    For each `Kind`, for turns and reversals together and for all: the dream's share, that of keeping his direction and
    the number of steps. A step counts where the dreamed Pac-Man stood within `TOLERANCE` of the real one, and where he
    is not found before or after it, as failed. `comparable` is the share of steps that count, of all that are steps;
    those in which the dream alone loses a life (its ghosts may go another way) are left out, and counted.
    """
    cases: list[tuple[Kind, bool, bool]] = []
    steps = dream_deaths = 0
    for course in courses:
        kinds, kept = classify(course.player_xy, course.actions)
        places, baseline = course.places, SCALE * kept
        for t, kind in enumerate(kinds):
            if kind is None:
                continue
            steps += 1
            before = _pacman(course.readings[t], places[t])
            after = _pacman(course.readings[t + 1], places[t + 1])
            if before is not None and _gap(before, places[t]) > TOLERANCE:
                continue
            if (
                before is not None
                and after is not None
                and _gap(after, before) > JUMP
                and _gap(after, HOME) <= NEAR_HOME
            ):
                dream_deaths += 1
                continue
            move = places[t + 1] - places[t]
            alike = before is not None and after is not None and _gap(after - before, move) <= TOLERANCE
            cases.append((kind, alike, _gap(baseline[t], move) <= TOLERANCE))
    groups: dict[str, set[Kind]] = {kind.value: {kind} for kind in Kind}
    groups |= {"turning and reversing": {Kind.TURNING, Kind.REVERSING}, "all": set(Kind)}
    report: Report = {}
    for name, group in groups.items():
        chosen = [case for case in cases if case[0] in group]
        report[name] = {
            "dream": mean([alike for _, alike, _ in chosen]),
            "keeps_direction": mean([keeps for _, _, keeps in chosen]),
            "n": len(chosen),
        }
    return report | {
        "comparable": len(cases) / steps if steps else None,
        "steps": steps,
        "dream_deaths": dream_deaths,
        "runs": len(courses),
    }


def report_places(courses: Sequence[Course], horizons: Sequence[int] = HORIZONS) -> Report:
    """How far the dreamed actors are from the real ones after so many steps, frame px, beside staying where they were.

    A real ghost that another covers is left out; the others are each held against the nearest dreamed one of their
    look (their colour; frightened and eaten ones: blue, or eyes alone). `found` is the share that has any.
    """
    report: Report = {}
    for horizon in horizons:
        long = [course for course in courses if len(course.readings) > horizon]
        pacman: list[tuple[float | None, float]] = []
        ghosts: list[tuple[float | None, float]] = []
        for course in long:
            reading, places = course.readings[horizon], course.places
            found = [s for s in reading.sprites if s.actor is Actor.PACMAN]
            pacman.append((_nearest(found, places[horizon]), _distance(places[0], places[horizon])))
            now, then = to_frame_xy(course.ghost_xy[horizon]), to_frame_xy(course.ghost_xy[0])
            for i, state in enumerate(course.ghost_state[horizon]):
                if not _is_covered(course.ghost_xy[horizon], i):
                    looks = {NORMAL: {GHOST_COLOURS[i]}, EATEN: {Actor.EYES}}.get(
                        int(state), {Actor.FRIGHTENED, Actor.EYES}
                    )
                    alike = [s for s in reading.sprites if s.actor in looks]
                    ghosts.append((_nearest(alike, now[i]), _distance(then[i], now[i])))
        report[str(horizon)] = {"pacman": _errors(pacman), "ghosts": _errors(ghosts), "runs": len(long)}
    return report


def _errors(cases: list[tuple[float | None, float]]) -> Report:
    found = [error for error, _ in cases if error is not None]
    still = [error for _, error in cases]
    return {
        "mean": mean(found),
        "median": float(np.median(found)) if found else None,
        "found": mean([error is not None for error, _ in cases]),
        "stays": {"mean": mean(still), "median": float(np.median(still)) if still else None},
        "n": len(cases),
    }


def _is_covered(ghost_xy: np.ndarray, ghost: int) -> bool:
    """Whether one of the ghosts that are drawn later hides this one."""
    return bool((np.abs(ghost_xy[ghost + 1 :] - ghost_xy[ghost]).max(axis=-1, initial=0) <= COVERING).any())


def _nearest(sprites: Sequence[Sprite], place: np.ndarray) -> float | None:
    return min((_distance(np.array([s.x, s.y]), place) for s in sprites), default=None)


def _pacman(reading: Reading, near: np.ndarray) -> np.ndarray | None:
    """Where Pac-Man is, frame px; of two, the one nearer to where he should be."""
    places = [np.array([s.x, s.y]) for s in reading.sprites if s.actor is Actor.PACMAN]
    return min(places, key=lambda place: _gap(place, near), default=None)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """The larger of the horizontal and the vertical distance."""
    return float(np.abs(a - b).max())


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b))

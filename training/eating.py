"""What Pac-Man ate, as successive frames tell it: pellets that are gone, and the score that must have grown with them.

A place that a sprite covers cannot be seen, so its state is carried until it is in sight again, and the score is held
against it as a ledger: points may come while the place is covered, but by the time it is seen empty they must be there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.reader import PELLET_XY, POWER, Reading

PELLET, POWER_PELLET = 10, 100
GHOSTS = 200
"""Ghosts bring 200, 400, 800 and 1600 in this order, and several can be eaten in one step: any multiple of 200."""
ALL_GHOSTS = 3000
AT_ONCE = 2
"""Most pellets that one step eats."""
REACH = 26.0
"""Frame px (the larger of both directions) from Pac-Man's middle, before or after a step, within which he may eat: the
game takes a pellet at up to 19.5 after the step, 22.3 before it."""

UNKNOWN, GONE, STANDING = -1, 0, 1


@dataclass(frozen=True)
class Meal:
    """A pellet that Pac-Man ate: it last stood in sight in reading `after`, and was seen gone in reading `by`."""

    after: int
    by: int
    points: int


class Eating:
    """The ledger of one run, from its first reading on.

    Attributes:
        state: int8 `[P]`, what is known of every pellet place: `UNKNOWN`, `GONE` or `STANDING`.
        meals: what was eaten so far.
        gain: points that the HUD gained in the newest step; None when the score before or after it is unreadable.
    """

    def __init__(self, first: Reading) -> None:
        self.meals: list[Meal] = []
        self.gain: int | None = None
        self._number = 0
        self._begin(first)

    def _begin(self, reading: Reading) -> None:
        self.state = np.where(reading.hidden, UNKNOWN, reading.pellets.astype(np.int8))
        self._stood = np.full(len(POWER), self._number)
        self._passed = np.zeros(len(POWER), dtype=bool)
        self._credit = {False: 0, True: 0}
        self._score = reading.score

    def restart(self, reading: Reading) -> None:
        """Go on from a reading with a new maze: nothing is held against it."""
        self._number += 1
        self.gain = None
        self._begin(reading)

    def renewed(self, reading: Reading) -> int:
        """How many places that were gone show a pellet in a reading."""
        return int(np.count_nonzero(reading.pellets & ~reading.hidden & (self.state == GONE)))

    def step(self, reading: Reading, mouths: np.ndarray, reach: float, prey: bool) -> tuple[bool, bool]:
        """Book the next reading; returns whether its pellets, and whether its score, break the rules.

        Args:
            reading: the newest one.
            mouths: where Pac-Man's middle was before and after the step, float `[N, 2]`, frame px.
            reach: how far from there he may have eaten, at least `REACH`; more where he was out of sight.
            prey: whether a ghost that can be eaten was near him.
        """
        self._number += 1
        if len(mouths):
            self._passed |= (np.abs(PELLET_XY[:, None] - mouths).max(axis=-1) <= reach).any(axis=1)
        standing, empty = reading.pellets & ~reading.hidden, ~reading.pellets & ~reading.hidden
        vanished = empty & (self.state == STANDING)
        eaten = vanished & self._passed
        pellet_fault = bool((vanished & ~self._passed).any() or (standing & (self.state == GONE)).any())
        for place in np.flatnonzero(eaten):
            points = POWER_PELLET if POWER[place] else PELLET
            self.meals.append(Meal(int(self._stood[place]), self._number, points))

        # Places that may have been eaten in this step without our seeing it: the score may say so ahead of our eyes.
        covered = self._passed & ~standing & (self.state != GONE) & ~vanished
        score_fault = self._book(reading.score, eaten, covered, covered & reading.hidden, prey)

        self.state = np.where(reading.hidden, self.state, reading.pellets.astype(np.int8))
        self._stood[standing] = self._number
        self._passed &= reading.hidden & (self.state != GONE)
        return pellet_fault, score_fault

    def _book(
        self, score: int | None, eaten: np.ndarray, covered: np.ndarray, still_covered: np.ndarray, prey: bool
    ) -> bool:
        """Hold the score's step against the places seen eaten and those that may be; returns whether they disagree."""
        before, self._score = self._score, score
        self.gain = None if score is None or before is None else score - before
        owed, room, later = 0, {}, {}
        for power, points in ((False, PELLET), (True, POWER_PELLET)):
            count = int(np.count_nonzero(eaten & (power == POWER)))
            paid = min(count, self._credit[power])
            self._credit[power] -= paid
            owed += points * (count - paid)
            room[power], later[power] = (int(np.count_nonzero(a & (power == POWER))) for a in (covered, still_covered))
        # A credit whose places were all seen standing was paid for nothing.
        unearned = any(self._credit[power] > room[power] for power in room)
        self._credit = {power: min(self._credit[power], room[power]) for power in room}
        payment = None
        if self.gain is not None:
            payment = _payment(self.gain - owed, {power: room[power] - self._credit[power] for power in room}, prey)
        if payment is not None:
            self._credit = {power: min(self._credit[power] + payment[power], later[power]) for power in room}
        return unearned or score is None or (self.gain is not None and payment is None)


def _payment(points: int, room: dict[bool, int], prey: bool) -> dict[bool, int] | None:
    """How many pellets and power pellets, of those covered, `points` pay for; None when they can pay for nothing."""
    for pellets in range(min(room[False], AT_ONCE) + 1):
        for powers in range(min(room[True], 1) + 1):
            ghosts = points - PELLET * pellets - POWER_PELLET * powers
            if ghosts == 0 or (prey and 0 < ghosts <= ALL_GHOSTS and ghosts % GHOSTS == 0):
                return {False: pellets, True: powers}
    return None

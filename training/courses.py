"""Free dreams read beside the recordings whose actions they were given, for `training/control.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.clips import HORIZONS, Clip
from training.control import Course, report_control, report_places
from training.figures import Report, detection_within
from training.free_running import Dreamed
from training.reader import Reading, read
from training.rules import judge, report_rules, reward_errors
from training.teacher_forced import LATE

EARLIER = 8
"""States before the dream that tell which way Pac-Man was going."""


class Courses:
    """Reads dreams step by step, and remembers them until it is asked for a report."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = {id(clip): clip for clip in clips}
        self._readings: dict[int, list[Reading]] = {}
        self._points: dict[int, list[float]] = {}
        self._lost: dict[int, list[bool]] = {}

    @staticmethod
    def looks_at(clip: Clip, step: int) -> bool:
        """Whether the frame of a step is needed."""
        return True

    def see(self, dreamed: Dreamed) -> None:
        """Take in one step."""
        if dreamed.frame is None:
            return
        key = id(dreamed.clip)
        if dreamed.step == 1:
            self._readings[key] = [read(dreamed.clip.real(0))]
        self._readings[key].append(read(dreamed.frame))
        self._points.setdefault(key, []).append(dreamed.points)
        self._lost.setdefault(key, []).append(dreamed.life_lost)

    def report(self) -> Report:
        """Control, places by horizon, and what the world said of its own dreams."""
        courses = [_course(self._clips[key], readings) for key, readings in self._readings.items()]
        return {
            "control": report_control(courses),
            "places": report_places(courses, HORIZONS),
            "announced": self._report_announced(),
        }

    def _report_announced(self) -> Report:
        """Points and lost lives that the world announced, beside what its own frames show."""
        runs = [judge(readings) for readings in self._readings.values()]
        wrong = [reward_errors(run, points) for run, points in zip(runs, self._points.values(), strict=True)]
        legible = sum(gain is not None for run in runs for gain in run.gains)
        lost = [
            list(zip(run.deaths.tolist(), said, strict=True))
            for run, said in zip(runs, self._lost.values(), strict=True)
        ]
        return {
            "rewards_right": 1 - sum(int(steps.sum()) for steps in wrong) / legible if legible else None,
            "n": legible,
            "lives_lost": detection_within(lost, LATE),
            "rules": report_rules(runs),
        }


def _course(clip: Clip, readings: Sequence[Reading]) -> Course:
    labels, first, steps = clip.episode.labels, clip.start, len(readings) - 1
    states = slice(first, first + steps + 1)
    return Course(
        readings=readings,
        actions=clip.episode.actions[first : first + steps],
        player_xy=np.asarray(labels["player_xy"][max(first - EARLIER, 0) : states.stop]),
        ghost_xy=np.asarray(labels["ghost_xy"][states]),
        ghost_state=np.asarray(labels["ghost_state"][states]),
    )

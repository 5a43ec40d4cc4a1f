"""What long dreams add up to: rules broken, dreams that collapsed, rewards, lost lives and ends that were announced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training.eating import PELLET, POWER_PELLET, Meal
from training.figures import Report, matched, mean
from training.reader import Reading
from training.rules import Judged, judge, report_rules, reward_errors
from training.sprites import Actor

LAST_STEPS = 50
PRESENT = 0.9
MAZE_RIGHT = 0.99
"""A dream has collapsed when fewer of the maze's pixels are right at its end, or when Pac-Man was there in fewer than
`PRESENT` of its last `LAST_STEPS` steps."""
LATE = 2
"""Steps by which a lost life may be announced before or after it is seen."""


@dataclass
class Dream:
    """A stretch of one run, from a seed to an announced end or to the run's last step.

    Attributes:
        run: the number of its run.
        seed: the seed that it began from, as the world counts them.
        readings: of its `T + 1` frames, the first of which shows the seed.
        points: announced reward of each of its `T` steps.
        lives_lost: whether each step announced a lost life.
        maze_right: share of the maze's pixels in its last frame that are as in its first.
        ended: whether the world announced its end (the frame after an end means nothing, and is not among them).
    """

    run: int
    seed: int
    readings: list[Reading] = field(default_factory=list)
    points: list[float] = field(default_factory=list)
    lives_lost: list[bool] = field(default_factory=list)
    maze_right: float | None = None
    ended: bool = False

    def collapsed(self) -> bool:
        last = self.readings[1:][-LAST_STEPS:]
        present = mean([any(s.actor is Actor.PACMAN for s in reading.sprites) for reading in last])
        gone = present is not None and present < PRESENT
        return gone or (self.maze_right is not None and self.maze_right < MAZE_RIGHT)


def report_dreams(dreams: Sequence[Dream]) -> Report:
    """All figures of long dreams, or of recordings: rules, collapses, rewards, lost lives, ends, and each run's own."""
    judged = [judge(dream.readings) for dream in dreams]
    announced = [(dream, run) for dream, run in zip(dreams, judged, strict=True) if len(dream.points) == run.steps]
    errors = [error for dream, run in announced for error in reward_errors(run, dream.points)]
    runs = sorted({dream.run for dream in dreams})
    collapsed = {dream.run for dream in dreams if dream.collapsed()}
    return {
        "rules": report_rules(judged),
        "collapsed": {"runs": len(collapsed), "share": len(collapsed) / len(runs) if runs else None, "n": len(runs)},
        "maze_right": mean([dream.maze_right for dream in dreams if dream.maze_right is not None]),
        "rewards": {
            "pellets": _found([_meals(run, PELLET, dream.points) for dream, run in announced]),
            "power_pellets": _found([_meals(run, POWER_PELLET, dream.points) for dream, run in announced]),
            "unlike_the_score": mean([bool(error) for error in errors]),
        },
        "lives_lost": _found([_deaths(run, dream.lives_lost) for dream, run in announced]),
        "ends": sum(dream.ended for dream in dreams),
        "runs": [
            {
                "run": run,
                "seeds": [dream.seed for dream in dreams if dream.run == run],
                "collapsed": run in collapsed,
                **report_rules([j for dream, j in zip(dreams, judged, strict=True) if dream.run == run]),
            }
            for run in runs
        ],
    }


@dataclass(frozen=True)
class _Matched:
    """Things seen, things said, and how many of them belong together."""

    seen: int
    said: int
    right: int


def _match(windows: Sequence[tuple[int, int]], said: Sequence[int]) -> _Matched:
    """Things seen within windows (first to last step), and the steps that announced them, each of them one."""
    return _Matched(len(windows), len(said), matched(windows, said))


def _meals(judged: Judged, points: int, announced: Sequence[float]) -> _Matched:
    """Pellets of one kind seen eaten, and announced; a place may be covered when its pellet goes."""
    eaten: list[Meal] = [meal for meal in judged.meals if meal.points == points]
    said: list[int] = []
    for step, gain in enumerate(announced):
        rest = int(gain) % (2 * POWER_PELLET)  # without ghosts
        powers, pellets = divmod(rest, POWER_PELLET)
        said += [step] * (powers if points == POWER_PELLET else pellets // PELLET)
    # Step t leads to reading t + 1; one step early or late is forgiven.
    return _match([(meal.after - 1, meal.by) for meal in eaten], said)


def _deaths(judged: Judged, announced: Sequence[bool]) -> _Matched:
    seen = [int(step) for step in np.flatnonzero(judged.deaths)]
    return _match([(step - LATE, step + LATE) for step in seen], [int(step) for step in np.flatnonzero(announced)])


def _found(parts: Sequence[_Matched]) -> Report:
    seen, said, right = (sum(getattr(part, name) for part in parts) for name in ("seen", "said", "right"))
    return {
        "recall": right / seen if seen else None,
        "precision": right / said if said else None,
        "seen": seen,
        "said": said,
    }


def table(report: Report) -> list[tuple[str, str]]:
    """A report of `report_dreams` in short: what was measured, and the figure with its number of cases."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    rules = report["rules"]
    rows = [
        (f"broken rules in 1,000 steps: {name}", f"{'-' if rate is None else f'{rate:.2f}'} ({rules['counts'][name]})")
        for name, rate in rules["per_1000"].items()
    ]
    rows.append(("judged steps", f"{rules['steps']}"))
    rows.append(("collapsed runs", f"{report['collapsed']['runs']} of {report['collapsed']['n']}"))
    for name, key in (("pellets", "pellets"), ("power pellets", "power_pellets")):
        part = report["rewards"][key]
        figure = f"{share(part['recall'])} (precision {share(part['precision'])}), {part['seen']} eaten"
        rows.append((f"{name} announced", figure))
    rows.append(("rewards unlike the score's step", share(report["rewards"]["unlike_the_score"])))
    part = report["lives_lost"]
    figure = f"{share(part['recall'])} (precision {share(part['precision'])}), {part['seen']} seen, {part['said']} said"
    rows += [("lost lives announced", figure), ("ends announced", str(report["ends"]))]
    return rows

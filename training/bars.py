"""What a world should reach, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.figures import Report
from training.wording import db, ms, percent, rate, score

Path = tuple[str, ...]
NONE = 1e-9
"""Less than this is none at all."""


@dataclass(frozen=True)
class Bar:
    """A figure of the report, by its path there, that should be at least `least` or less than `below`.

    `cases` is the path of the number of cases behind it.
    """

    measure: str
    figure: Path
    cases: Path
    words: Callable[[float | None], str]
    least: float | None = None
    below: float | None = None

    @property
    def bar(self) -> str:
        if self.below == NONE:
            return "none"
        if self.least is not None:
            return f"at least {self.words(self.least)}"
        return f"less than {self.words(self.below)}"

    def judge(self, report: Report) -> Report:
        """The bar's line: `holds` is None where nothing was measured."""
        value, n = look_up(report, self.figure), look_up(report, self.cases)
        holds = None
        if value is not None:
            holds = value >= self.least if self.least is not None else value < (self.below or 0)
        measured = "not measured" if value is None else self.words(value)
        return {"measure": self.measure, "bar": self.bar, "measured": measured, "n": n, "holds": holds}


BARS = (
    Bar("autoencoder reconstruction", ("autoencoder", "psnr"), ("autoencoder", "n"), db, least=40),
    Bar(
        "all standing pellets and no others in the reconstruction",
        ("autoencoder", "pellets", "exact"),
        ("autoencoder", "pellets", "n"),
        percent,
        least=0.999,
    ),
    Bar("one-step PSNR, teacher-forced", ("one_step", "dream", "psnr"), ("one_step", "n"), db, least=33),
    Bar(
        "free-running PSNR at 16 steps",
        ("free_running", "16", "dream", "psnr"),
        ("free_running", "16", "n"),
        db,
        least=27,
    ),
    Bar("control, free-running", ("control", "all", "dream"), ("control", "all", "n"), percent, least=0.98),
    Bar(
        "control on turns and reversals",
        ("control", "turning and reversing", "dream"),
        ("control", "turning and reversing", "n"),
        percent,
        least=0.98,
    ),
    Bar(
        "long runs that collapse",
        ("long_runs", "dream", "collapsed", "share"),
        ("long_runs", "dream", "collapsed", "n"),
        percent,
        below=NONE,
    ),
    Bar(
        "rule violations per 1,000 steps of long runs",
        ("long_runs", "dream", "rules", "per_1000", "all"),
        ("long_runs", "dream", "rules", "steps"),
        rate,
        below=5,
    ),
    Bar(
        "rewards on eaten pellets",
        ("rewards", "pellets_and_power_pellets", "recall"),
        ("rewards", "pellets_and_power_pellets", "real"),
        percent,
        least=0.97,
    ),
    Bar("lost lives found within 2 steps", ("lives_lost", "recall"), ("lives_lost", "real"), percent, least=0.9),
    Bar("found lives that were lost", ("lives_lost", "precision"), ("lives_lost", "said"), percent, least=0.9),
    Bar(
        "four separate ghosts at step 16, where the game shows four",
        ("free_running", "16", "cast", "four_ghosts_where_real", "dream"),
        ("free_running", "16", "cast", "four_ghosts_where_real", "n"),
        percent,
        least=0.99,
    ),
    Bar(
        "ghosts part ways under two generators",
        ("two_generators", "ghosts_differ"),
        ("two_generators", "n"),
        percent,
        least=0.01,
    ),
    Bar(
        "HaarPSI at 1, 2, 4 denoising steps apart, one step",
        ("denoising_steps", "one_step", "spread"),
        ("denoising_steps", "one_step", "n"),
        score,
        below=0.01,
    ),
    Bar(
        "HaarPSI at 1, 2, 4 denoising steps apart, free-running to step 16",
        ("denoising_steps", "step_16", "spread"),
        ("denoising_steps", "step_16", "n"),
        score,
        below=0.01,
    ),
    Bar("step of the environment, 512 x 512, median", ("step_time", "median_ms"), ("step_time", "n"), ms, below=66),
)


def bars(report: Report) -> list[Report]:
    """Every bar with what was measured."""
    return [bar.judge(report) for bar in BARS]


def look_up(report: Report, path: Sequence[str]) -> float | None:
    """A figure by its path; None where the report stops short of it."""
    value: Report | float | None = report
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if isinstance(value, dict) else value

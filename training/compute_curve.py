"""Score against compute, drawn from the lab notebook's table of that name:

    python -m training.compute_curve --notebook docs/lab_notebook.md --out docs/pictures/compute.png

Minutes of a CPU and minutes of a GPU do not add up, so each kind has a panel of its own: what was trained on CPUs alone
on the left, and on the right what a GPU added to it. A run with the minutes of the run before it trained nothing: what
it won or lost is due to how its frames are decided.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neural_pacman.command import command
from neural_pacman.files import UnfinishedFile
from training.bars import BARS

HEADING = "## Score against compute"
CPU, GPU = "CPU minutes", "H100 minutes"
SCORES = {"one step": "one-step PSNR, teacher-forced", "16 free steps": "free-running PSNR at 16 steps"}
"""The table's columns of dB, and what `training/bars.py` calls them."""
TRAINED, DECIDED = "C0", "C1"
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
NEAR = 0.05
"""Points over each other that are nearer than this share of the axis have one label."""


@dataclass
class ComputeCurve:
    """Draw the notebook's scores against the compute that was spent on them."""

    notebook: Path = Path("docs/lab_notebook.md")
    """The lab notebook, with a table under "Score against compute"."""
    out: Path = Path("docs/pictures/compute.png")
    """The picture to write, a PNG in a folder that exists; a former one is replaced."""


@dataclass(frozen=True)
class Point:
    """A row of the table.

    Attributes:
        run: its number.
        cpu, gpu: minutes of training behind its networks.
        scores: dB by the table's column, where they were measured.
        trained: whether the minutes are others than in the row before.
    """

    run: int
    cpu: float
    gpu: float
    scores: dict[str, float]
    trained: bool


Placed = tuple[float, float, Point]
"""A point where a panel shows it: minutes, dB, and the point itself."""


def read_points(notebook: Path) -> list[Point]:
    """The rows of the notebook's table, as they come.

    Other columns may stand beside those that are read, a cell may say more after its number, and a score that was not
    measured is an empty cell. ValueError for a notebook without the table, or a cell without its number.
    """
    header, *rows = _find_table(notebook)
    if missing := [name for name in ("run", CPU, GPU, *SCORES) if name not in header]:
        raise ValueError(f"The table under '{HEADING}' of {notebook} has columns {header}; missing {missing}.")
    points: list[Point] = []
    spent = (0.0, 0.0)
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        cpu, gpu = _number(cells, CPU), _number(cells, GPU)
        scores = {name: _number(cells, name) for name in SCORES if cells.get(name)}
        points.append(Point(int(_number(cells, "run")), cpu, gpu, scores, (cpu, gpu) != spent))
        spent = cpu, gpu
    return points


def draw(points: Sequence[Point], file: Path) -> None:
    """Draw the points as a PNG, whole or not at all: panels in a row for each score, a column for each kind of minutes.

    OSError for a file that cannot be written, ValueError for one that is no `.png`.
    """
    on_cpu = [(point.cpu, point) for point in points if not point.gpu]
    # The GPU's panel begins with what the CPUs left.
    on_gpu = [(0.0, point) for _, point in on_cpu[-1:]] + [(point.gpu, point) for point in points if point.gpu]
    before = " to ".join(f"{cpu:g}" for cpu in sorted({point.cpu for _, point in on_gpu}))
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(SCORES), 2, sharex="col", sharey="row", width_ratios=(4, 3))
    for row, (name, measure) in zip(panels, SCORES.items(), strict=True):
        measured = [point.scores[name] for point in points if name in point.scores]
        near = NEAR * (max(measured, default=0.0) - min(measured, default=0.0))
        for axes, part in zip(row, (on_cpu, on_gpu), strict=True):
            placed = [(x, point.scores[name], point) for x, point in part if name in point.scores]
            _plot(axes, placed)
            _name(axes, placed, near)
            axes.axhline(_bar(measure), color="grey", linestyle="--", linewidth=1, label="the bar")
            axes.margins(x=0.08, y=0.12)
            axes.grid(alpha=0.3)
        row[0].set_title(f"{measure}, dB, by run", loc="left")
    panels[-1, 0].set_xlabel("CPU minutes of the denoiser's training")
    panels[-1, 1].set_xlabel(f"H100 minutes of it, on top of {before} CPU minutes")
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    with UnfinishedFile(file, "picture", ".png") as partial:
        figure.savefig(partial, dpi=100)


def _plot(axes: Axes, placed: Sequence[Placed]) -> None:
    """Draw points, and the way from each to the next."""
    for (x, y, _), (next_x, next_y, after) in pairwise(placed):
        color, style = (TRAINED, "-") if after.trained else (DECIDED, ":")
        axes.plot([x, next_x], [y, next_y], style, color=color, zorder=1)
    for trained, color, face, label in (
        (True, TRAINED, TRAINED, "trained further, often decided otherwise too"),
        (False, DECIDED, "white", "the same networks, decided otherwise"),
    ):
        some = [(x, y) for x, y, point in placed if point.trained == trained]
        axes.plot([x for x, _ in some], [y for _, y in some], "o", color=color, markerfacecolor=face, label=label)


def _name(axes: Axes, placed: Sequence[Placed], near: float) -> None:
    """Write the runs' numbers beside the points, one text for those over each other that are so near in dB."""
    groups: list[list[Placed]] = []
    for one in sorted(placed, key=lambda one: one[:2]):
        if groups and groups[-1][-1][0] == one[0] and one[1] - groups[-1][-1][1] <= near:
            groups[-1].append(one)
        else:
            groups.append([one])
    for group in groups:
        x, y, _ = group[-1]
        side, align = (-7, "right") if x == placed[-1][0] else (7, "left")
        runs = ", ".join(str(point.run) for _, _, point in group)
        axes.annotate(
            runs, (x, y), (side, 5), textcoords="offset points", ha=align, fontsize="small", bbox=PAPER, zorder=1.5
        )


def _bar(measure: str) -> float:
    """The dB that a measure of `training/bars.py` should reach."""
    (least,) = (bar.least for bar in BARS if bar.measure == measure and bar.least is not None)
    return least


def _find_table(notebook: Path) -> list[list[str]]:
    """The cells of the first table under the heading, its header first."""
    _, _, section = f"\n{notebook.read_text(encoding='utf-8')}".partition(f"\n{HEADING}\n")
    table = re.search(r"^\|.*\n\|[-:| ]+\n((\|.*(\n|$))+)", section.partition("\n## ")[0], re.MULTILINE)
    if table is None:
        raise ValueError(f"{notebook} has no table under '{HEADING}'.")
    header, _, *rows = table[0].splitlines()
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in (header, *rows)]


def _number(cells: dict[str, str], column: str) -> float:
    """The number that a cell begins with."""
    cell = cells.get(column, "")
    if not (found := re.match(r"\d[\d,]*(\.\d+)?", cell)):
        raise ValueError(f"The table under '{HEADING}' has {cell!r} among its {column}; expected a number first.")
    return float(found[0].replace(",", ""))


def main(config: ComputeCurve) -> None:
    draw(read_points(config.notebook), config.out)
    print(f"Picture: {config.out}")


if __name__ == "__main__":
    command(main, ComputeCurve)

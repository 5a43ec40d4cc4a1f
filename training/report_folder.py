"""A folder that holds a whole report, or is not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FIGURES = "report.json"
"""What makes a folder a report."""


@contextmanager
def report_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends, and vanishes when it raises.

    A report that is there already is replaced; what a killed process left is cleared up. Raises ValueError at once for
    a file, or a folder that holds anything else than a report.
    """
    out = out.absolute()
    if out.exists() and not (out / FIGURES).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is no report; expected a new or empty folder, or a report to replace.")
    unfinished, former = (out.with_name(f".{out.name}.{state}") for state in ("unfinished", "former"))
    if former.exists() and not out.exists():
        former.rename(out)
    for left_over in (unfinished, former):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if out.exists():
            out.rename(former)
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if former.exists() and not out.exists():
            former.rename(out)
        raise
    shutil.rmtree(former, ignore_errors=True)

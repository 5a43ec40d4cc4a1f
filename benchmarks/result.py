"""Where a benchmark's figures go: a Markdown file to read or a JSON file to compute with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FORMS = (".md", ".json")


def check_out(out: Path | None) -> None:
    """Make the file's folder; ValueError for a name that ends in neither of `FORMS`. To be called before the work."""
    if out is None:
        return
    if out.suffix not in FORMS:
        raise ValueError(f"The result is to be {out.name}; expected a name that ends in {' or '.join(FORMS)}.")
    out.parent.mkdir(parents=True, exist_ok=True)


def write(out: Path | None, figures: dict[str, Any], text: str) -> None:
    """Write the figures, or their text, as the file's name says: whole or not at all."""
    if out is None:
        return
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(figures, indent=1) if out.suffix == ".json" else text, encoding="utf-8")
    os.replace(partial, out)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, rule, *rows))

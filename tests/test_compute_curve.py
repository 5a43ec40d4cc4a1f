"""The lab notebook's table of score against compute, and its picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from training.compute_curve import HEADING, ComputeCurve, main, read_points

NOTEBOOK = Path(__file__).parent.parent / "docs" / "lab_notebook.md"
HEADER = "| run | CPU minutes | note | H100 minutes | one step | 16 free steps |\n|---|---|---|---|---|---|\n"


def test_the_notebooks_own_table_is_read() -> None:
    points = read_points(NOTEBOOK)
    assert [point.run for point in points[:12]] == [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 16, 18]
    assert points[0].cpu == 62 and points[0].scores == {"one step": 30.33, "16 free steps": 24.04}
    assert [point.run for point in points[:12] if not point.trained] == [10, 12, 16, 18]
    assert points[11].gpu == 34.5 and points[11].scores["16 free steps"] == 27.21


def test_a_cell_may_say_more_than_its_number_or_that_nothing_was_measured(tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.md"
    rows = "| 1, small | 1,062 | first | 0 | 30.33 dB (300 steps) | |\n| 2 | 1,062 | | 4.5 of one | | 24 |\n"
    notebook.write_text(f"# Notes\n\n{HEADING}\n\nWords.\n\n{HEADER}{rows}\n| another | table |\n")
    first, second = read_points(notebook)
    assert (first.run, first.cpu, first.gpu, first.scores) == (1, 1062, 0, {"one step": 30.33})
    assert (second.gpu, second.scores, second.trained) == (4.5, {"16 free steps": 24}, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no table under"),
        (f"{HEADING}\n\nWords.\n\n## Next\n\n{HEADER}| 1 | 62 | | 0 | 30 | 24 |\n", "has no table under"),
        (f"{HEADING}\n\n| run | CPU minutes |\n|---|---|\n| 1 | 62 |\n", "missing .'H100 minutes', 'one step'"),
        (f"{HEADING}\n\n{HEADER}| 1 | some | | 0 | 30 | 24 |\n", "has 'some' among its CPU minutes; expected a number"),
    ],
)
def test_a_notebook_without_its_table_is_refused(text: str, said: str, tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.md"
    notebook.write_text(text)
    with pytest.raises(ValueError, match=said):
        main(ComputeCurve(notebook, tmp_path / "compute.png"))
    assert list(tmp_path.iterdir()) == [notebook]


def test_the_picture_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compute.png"
    main(ComputeCurve(NOTEBOOK, out))
    assert str(out) in capsys.readouterr().out and list(tmp_path.iterdir()) == [out]
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width == 900

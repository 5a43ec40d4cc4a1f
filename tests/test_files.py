"""Files are whole or not there, and what cannot be written is said before there is anything to lose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neural_pacman.files import UnfinishedFile, check_writable


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_text("an older one")
    with UnfinishedFile(path, "screenshot", ".png") as partial:
        assert partial.parent == tmp_path and partial.name.startswith(".") and partial.suffix == ".png"
        partial.write_text("a new one")
        assert path.read_text() == "an older one"
    assert path.read_text() == "a new one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_after_an_error_the_older_file_is_still_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "picture.png"
    path.write_text("an older one")
    with pytest.raises(error), UnfinishedFile(path, "screenshot") as partial:
        partial.write_text("half of a n")
        raise error
    assert path.read_text() == "an older one" and list(tmp_path.iterdir()) == [path]


def test_two_may_write_the_same_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with UnfinishedFile(path, "screenshot") as first, UnfinishedFile(path, "screenshot") as second:
        first.write_text("first")
        second.write_text("second")
        check_writable(path, "screenshot")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_be_written_is_not_touched_by_the_question(tmp_path: Path) -> None:
    path = tmp_path / "a.PNG"
    check_writable(path, "screenshot", ".png")
    assert not list(tmp_path.iterdir())
    path.write_text("an older one")
    check_writable(path, "screenshot", ".png")
    assert path.read_text() == "an older one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("a.mp4", ValueError, r"The screenshot would be .*a\.mp4; expected a name that ends in \.png or \.webp"),
        ("folder.png", IsADirectoryError, "which is a folder; expected the name of a file"),
        ("missing/a.png", FileNotFoundError, "Cannot write a screenshot into .*missing: No such file or directory"),
        ("file.txt/a.png", NotADirectoryError, "Cannot write a screenshot into .*file.txt: Not a directory"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, error: type[Exception], said: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(error, match=said):
        check_writable(tmp_path / name, "screenshot", ".png", ".webp")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_what_is_read_only_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.png"
    path.parent.mkdir()
    path.touch(0o444)
    with pytest.raises(PermissionError, match="which is read-only; name another file"):
        check_writable(path, "screenshot")
    path.parent.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="Cannot write a screenshot into .*folder"):
            check_writable(path.with_name("b.png"), "screenshot")
    finally:
        path.parent.chmod(0o755)

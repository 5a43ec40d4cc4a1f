"""A session's file: what is written is read again, a crash leaves what was played, and nothing else passes for one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_pacman.actions import Action
from neural_pacman.session import Begin, DreamOn, Event, Header, Rewind, Session, SessionLog, Step, checksum

HEADER = Header("pacman", "ab" * 32, None, "cpu", 2, "2.13.0")
EVENTS: list[Event] = [Begin(3), Step(Action.LEFT, 2, 77), Step(Action.NO_ACTION, 4, 5), Rewind(), DreamOn(), Begin(3)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A whole session's."""
    path = tmp_path / "s.jsonl"
    with SessionLog(path) as log:
        for item in (HEADER, *EVENTS):
            log.write(item)
    return path


def test_what_is_written_is_read_again(file: Path) -> None:
    assert Session.read(file) == Session(HEADER, tuple(EVENTS))
    assert [other.name for other in file.parent.iterdir()] == ["s.jsonl"]


def test_a_session_without_an_event_leaves_what_was_there(file: Path) -> None:
    with SessionLog(file) as log:
        log.write(HEADER)
    assert Session.read(file).events == tuple(EVENTS)
    assert [other.name for other in file.parent.iterdir()] == ["s.jsonl"]


def test_a_killed_process_leaves_all_that_was_played(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from tests.test_session import EVENTS, HEADER, SessionLog
log = SessionLog(Path(sys.argv[1]))
for item in (HEADER, *EVENTS):
    log.write(item)
os.kill(os.getpid(), 9)
"""
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s.jsonl")], cwd=root)
    assert run.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".s.")
    assert Session.read(left).events == tuple(EVENTS)


def test_a_line_that_a_crash_cut_off_counts_for_nothing(file: Path) -> None:
    text = file.read_text()
    file.write_text(text[:-4])
    assert Session.read(file).events == tuple(EVENTS[:-1])


def test_a_full_disk_is_said_and_leaves_all_that_was_played(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="only here a file's size can be limited")
    path = tmp_path / "s.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = SessionLog(path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match=r"s\.jsonl cannot be written any more"), log:
            log.write(HEADER)
            log.write(Begin(0))
            for _ in range(100):
                log.write(Step(Action.UP, 2, 7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(Session.read(path).events) == log.events > 5
    assert [other.name for other in tmp_path.iterdir()] == ["s.jsonl"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: ["not json", *lines], "line 1: 'not json'"),
        (lambda lines: lines[1:], "its first line is not the header"),
        (lambda lines: [], "its first line is not the header"),
        (lambda lines: lines[:1], "expected a header and events"),
        (lambda lines: [lines[0], *lines[2:]], "expected a header and events"),
        (lambda lines: [*lines, lines[0]], "expected a header and events"),
        (lambda lines: [*lines, '{"event": "jump"}'], "line 8: .*jump"),
        (lambda lines: [*lines, '{"event": "step", "action": "JUMP", "denoising_steps": 2, "checksum": 1}'], "JUMP"),
        (lambda lines: [*lines, '{"event": "step", "action": "UP", "denoising_steps": 0, "checksum": 1}'], "line 8"),
        (lambda lines: [*lines, '{"event": "begin", "seed": -1}'], "line 8"),
        (lambda lines: [*lines, '{"event": "begin", "seed": "1"}'], "line 8"),
        (lambda lines: [*lines, "[1, 2]"], "line 8"),
        (lambda lines: [lines[0].replace('session": 1', 'session": 9'), *lines[1:]], "format version 9"),
        (lambda lines: [lines[0].replace('threads": 2', 'threads": 0'), *lines[1:]], "line 1: .*threads is 0"),
        (lambda lines: [lines[0].replace('threads": 2', 'threads": true'), *lines[1:]], "line 1: .*threads is True"),
        (lambda lines: [re.sub('hash": "[^"]*"', 'hash": 5', lines[0]), *lines[1:]], "line 1: .*world_hash is 5"),
    ],
)
def test_anything_else_is_refused_with_the_line(file: Path, spoil: object, said: str) -> None:
    assert callable(spoil)
    file.write_text("".join(line + "\n" for line in spoil(file.read_text().splitlines())))
    with pytest.raises(ValueError, match=said):
        Session.read(file)


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no session at"):
        Session.read(tmp_path / "none.jsonl")
    (tmp_path / "picture.jsonl").write_bytes(b"\x89PNG\xff\xfe\n")
    with pytest.raises(ValueError, match="is no session"):
        Session.read(tmp_path / "picture.jsonl")


def test_a_folder_that_is_not_there_is_said_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        SessionLog(tmp_path / "missing" / "s.jsonl")


def test_lines_are_plain_json(file: Path) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["neural_pacman_session"] == 1 and lines[0]["threads"] == 2
    assert lines[2] == {"event": "step", "action": "LEFT", "denoising_steps": 2, "checksum": 77}


def test_checksums_tell_latents_apart() -> None:
    latent = np.random.default_rng(0).standard_normal((1, 32, 16, 16)).astype(np.float32)
    other = latent.copy()
    other[0, 3, 2, 1] = np.nextafter(other[0, 3, 2, 1], np.float32(9))
    assert checksum(latent) == checksum(latent.copy()) != checksum(other)

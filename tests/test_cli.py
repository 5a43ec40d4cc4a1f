"""The `neural-pacman` command as people run it, in processes of its own, on a tiny world."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pygame
import pytest

from neural_pacman.cli import main
from tests.test_video import read_video

COMMAND = [sys.executable, "-m", "neural_pacman"]
ROOT = Path(__file__).parent.parent
NO_DISPLAY = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without any display."""
    kept = {name: value for name, value in os.environ.items() if name not in NO_DISPLAY}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "400", **extra}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is a display")
def test_without_a_display_play_films_fifteen_seconds_of_a_dream(tiny_world: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "play", "--world", str(tiny_world), "--fps", "2"],  # slowly, for a shorter test
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "No window: no display" in run.stdout
    assert "on cpu" in run.stdout
    assert re.search(r"30/30 \[.*<.*(frames/s|s/ frames)", run.stderr)  # progress, time left, rate
    said = re.search(r"Wrote (.*): (\d+) frames, (\d+\.\d) s", run.stdout)
    assert said is not None
    assert Path(said[1]) == tmp_path / "neural-pacman.mp4"
    about, frames = read_video(Path(said[1]))
    assert "h264" in about and " 2 fps" in about
    assert len(frames) == int(said[2]) >= 31
    assert frames.shape[1:] == (512, 512, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["neural-pacman.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are a POSIX matter")
def test_ctrl_c_ends_the_dream_and_leaves_a_whole_video(tiny_world: Path, tmp_path: Path) -> None:
    play = ["play", "--headless", "--world", str(tiny_world), "--actions", "random", "--steps", "100000"]
    process = subprocess.Popen(
        [*COMMAND, *play, "--out", "stopped.mp4"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    said = b""
    while b" points" not in said:  # the progress bar after its first steps
        news = os.read(process.stderr.fileno(), 4096)
        assert news, f"it ended early: {said.decode()}"
        said += news
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the command and all that it started
    process.communicate()
    assert process.returncode == 0
    assert len(read_video(tmp_path / "stopped.mp4")[1]) >= 2
    assert [file.name for file in tmp_path.iterdir()] == ["stopped.mp4"]


def test_a_window_opens_plays_and_records(tiny_world: Path, tmp_path: Path) -> None:
    pygame.display.init()
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_RETURN))  # while it is loading
    out = tmp_path / "window.mp4"
    arguments = ["play", "--world", str(tiny_world), "--steps", "5", "--seed-index", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert len(read_video(out)[1]) >= 6


def test_a_window_stays_until_escape_closes_it(tiny_world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pygame.display.init()
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_LEFT))
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
    assert main(["play", "--world", str(tiny_world)]) == 0
    assert "Wrote" not in capsys.readouterr().out


def test_worlds_lists_names_sizes_places_and_scores(tiny_world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worlds", "--folders", str(tiny_world)]) == 0
    table = capsys.readouterr().out
    for heading in ("name", "size", "where", "scores"):
        assert heading in table
    assert "tiny" in table


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["play", "--headless", "--world", "no-such-world"], "no-such-world"),
        (["play", "--headless", "--num-inference-steps", "0"], "--num-inference-steps is 0"),
        (["play", "--headless", "--steps", "0"], "--steps is 0"),
        (["play", "--headless", "--out", "video.avi"], ".mp4"),
        (["worlds", "--folders", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("neural-pacman: ") and expected in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["pygame", "imageio_ffmpeg", "tyro", "rich"])
def test_a_missing_extra_is_named_with_its_cure(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["worlds"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"neural-pacman: {module} not installed")
    assert 'pip install "neural-pacman[play]"' in said


def test_help_names_both_commands_and_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (([], ("play", "worlds")), (["play"], ("--seed-index", "--num-inference-steps", "Esc"))):
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--help"])
        assert exit_.value.code == 0
        said = capsys.readouterr().out
        assert all(word in said for word in expected)

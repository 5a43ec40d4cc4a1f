"""A real X server that nobody looks at, for tests of the window."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SECONDS_TO_START = 30
MISSING = [program for program in ("Xvfb", "xdotool") if shutil.which(program) is None]

needs_display = pytest.mark.skipif(
    bool(MISSING), reason=f"no {' and no '.join(MISSING)}: install them (apt-get install xvfb xdotool)"
)
"""Skips a test where the programs are missing that it needs: Xvfb shows windows, xdotool presses keys."""


@contextmanager
def virtual_display(width: int = 1280, height: int = 1100) -> Iterator[str]:
    """Run an X server with one screen of that size; gives its name for DISPLAY, as ":7", and ends it afterwards.

    Raises RuntimeError when it does not start.
    """
    told, tells = os.pipe()
    # It looks for a free number by itself, so that tests may run side by side, and says which when it is ready.
    command = ["Xvfb", "-displayfd", str(tells), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(tells,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(tells)
    try:
        with os.fdopen(told) as answer:
            ready, _, _ = select.select([answer], [], [], SECONDS_TO_START)
            number = answer.readline().strip() if ready else ""
        if not number:
            raise RuntimeError("Xvfb did not start.")
        yield f":{number}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def xdotool(display: str, *arguments: str) -> str:
    """What xdotool answers on that display."""
    environment = os.environ | {"DISPLAY": display}
    run = subprocess.run(["xdotool", *arguments], env=environment, check=True, capture_output=True, text=True)
    return run.stdout.strip()


def focused_title(display: str) -> str:
    """The title of the window that has the keyboard there; "" while none has it."""
    try:
        return xdotool(display, "getwindowfocus", "getwindowname")
    except subprocess.CalledProcessError:
        return ""

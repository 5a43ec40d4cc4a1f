"""The window: it shows, paces, scales, collects keys and gamepads, and says so where it cannot open.

Under SDL's dummy driver, and some of it in a real X server.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pygame
import pytest

from neural_pacman.panel import View
from neural_pacman.renderer import HATLESS_BUTTONS, DisplayError, Key, Renderer
from tests.xvfb import focused_title, needs_display, virtual_display, xdotool

BLUE = (20, 40, 220)


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    with Renderer("a test") as opened:
        pygame.event.clear()
        yield opened


def frame(color: tuple[int, int, int] = BLUE) -> np.ndarray:
    return np.full((512, 512, 3), color, np.uint8)


def pixels(renderer: Renderer) -> np.ndarray:
    """What the window holds, uint8 `[H, W, 3]`."""
    return pygame.surfarray.array3d(renderer._window.get_surface()).transpose(1, 0, 2)


def test_the_window_shows_the_frame_upright_and_pixel_for_pixel(renderer: Renderer) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    renderer.show(shown)
    np.testing.assert_array_equal(pixels(renderer), shown)


def test_a_resized_window_shows_the_whole_frame_in_its_middle(renderer: Renderer) -> None:
    renderer.size = (900, 600)
    renderer.show(frame())
    held = pixels(renderer)
    assert held.shape == (600, 900, 3)
    assert (held[:, 150:750] == BLUE).all()
    assert (held[:, :150] == 0).all() and (held[:, 750:] == 0).all()


def test_a_message_lies_over_the_bottom_and_goes_again(renderer: Renderer) -> None:
    renderer.show(frame(), "episode over")
    assert (pixels(renderer)[-20:] != BLUE).any()
    renderer.show(frame())
    assert (pixels(renderer) == BLUE).all()


def test_a_window_opens_in_the_size_asked_for_and_cannot_be_made_tiny() -> None:
    with Renderer("wide", size=(744, 512)) as renderer:
        assert pixels(renderer).shape == (512, 744, 3)
        assert renderer._window.minimum_size == (320, 240)


def test_a_view_is_drawn_at_once_in_a_window_of_whatever_size_it_has_by_now() -> None:
    with Renderer("views", fps=1) as renderer:
        start = time.perf_counter()
        for size in ((512, 512), (40, 900), (1, 1), (700, 650)):
            renderer.size = size
            renderer.draw(View((frame(),), banner="paused"))
        assert time.perf_counter() - start < 1
        assert renderer.size == (700, 650)
        assert pixels(renderer).shape == (650, 700, 3)
        assert (pixels(renderer)[:600, 30:-30] == BLUE).all()


def test_drawing_does_not_swallow_keys(renderer: Renderer) -> None:
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_SPACE))
    renderer.draw(View((frame(),)))
    assert renderer.take_keys() == [Key("space", True)]


def test_showing_paces_its_caller() -> None:
    with Renderer("paced", fps=50) as renderer:
        renderer.show(frame())
        start = time.perf_counter()
        for _ in range(25):
            renderer.show(frame())
        assert time.perf_counter() - start > 0.45  # 25 frames at 50 a second, less the clock's rounding
        assert 0 < renderer.rate < 55


def test_keys_arrive_in_order_once_and_up_to_the_moment_of_asking(renderer: Renderer) -> None:
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_LEFT))
    renderer.show(frame())
    pygame.event.post(pygame.Event(pygame.KEYUP, key=pygame.K_LEFT))
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_RETURN))
    assert renderer.take_keys() == [Key("left", True), Key("left", False), Key("return", True)]
    assert renderer.take_keys() == []


def test_closing_is_noticed_even_when_nobody_takes_keys(renderer: Renderer) -> None:
    assert not renderer.closed
    pygame.event.post(pygame.Event(pygame.QUIT))
    renderer.show(frame())
    assert renderer.closed


def pushed(renderer: Renderer, kind: int, pad: int = 0, **what: Any) -> list[Key]:
    """The keys that the window hears of when a gamepad says something."""
    pygame.event.post(pygame.Event(kind, instance_id=pad, **what))
    return renderer.take_keys()


def test_a_gamepads_hat_steers(renderer: Renderer) -> None:
    hat = [pushed(renderer, pygame.JOYHATMOTION, hat=0, value=value) for value in ((-1, 0), (-1, 1), (0, -1), (0, 0))]
    assert hat == [
        [("left", True)],
        [("up", True)],
        [("left", False), ("up", False), ("down", True)],
        [("down", False)],
    ]


def test_a_gamepads_stick_steers_and_does_not_flutter(renderer: Renderer) -> None:
    def tilted(axis: int, *values: float) -> list[list[Key]]:
        return [pushed(renderer, pygame.JOYAXISMOTION, axis=axis, value=value) for value in values]

    assert tilted(0, 0.2, 0.49, 0.6, 0.45, 0.55, 0.3) == [[], [], [("right", True)], [], [], [("right", False)]]
    assert tilted(0, -0.8, 0.8) == [[("left", True)], [("left", False), ("right", True)]]
    assert tilted(1, 1.0, -1.0) == [[("down", True)], [("down", False), ("up", True)]]
    assert tilted(3, 1.0) == [[]]  # the right stick


def test_a_direction_held_twice_is_let_go_of_once(renderer: Renderer) -> None:
    assert pushed(renderer, pygame.JOYHATMOTION, hat=0, value=(0, 1)) == [("up", True)]
    assert pushed(renderer, pygame.JOYAXISMOTION, axis=1, value=-1.0) == []
    assert pushed(renderer, pygame.JOYHATMOTION, hat=0, value=(0, 0)) == []
    assert pushed(renderer, pygame.JOYAXISMOTION, axis=1, value=-0.45) == []
    assert pushed(renderer, pygame.JOYAXISMOTION, axis=1, value=0.0) == [("up", False)]


@pytest.mark.parametrize(
    ("button", "key"), [(0, "return"), (1, "backspace"), (2, "space"), (3, "."), (6, "escape"), (7, "space")]
)
def test_a_gamepads_buttons_are_keys(renderer: Renderer, button: int, key: str) -> None:
    assert pushed(renderer, pygame.JOYBUTTONDOWN, button=button) == [(key, True)]
    assert pushed(renderer, pygame.JOYBUTTONUP, button=button) == [(key, False)]


def test_other_buttons_are_nothing(renderer: Renderer) -> None:
    assert pushed(renderer, pygame.JOYBUTTONDOWN, button=10) == []


def test_a_gamepad_without_a_hat_has_buttons_in_its_place(renderer: Renderer) -> None:
    class Hatless:
        def get_numhats(self) -> int:
            return 0

    renderer._gamepads._pads[5] = Hatless()  # type: ignore[assignment]
    for button, key in HATLESS_BUTTONS.items():
        assert pushed(renderer, pygame.JOYBUTTONDOWN, pad=5, button=button) == [(key, True)]
        assert pushed(renderer, pygame.JOYBUTTONUP, pad=5, button=button) == [(key, False)]
    assert set(HATLESS_BUTTONS.values()) >= {"left", "right", "up", "down", "space", "escape"}


def test_a_gamepad_that_is_unplugged_lets_go_and_another_goes_on(renderer: Renderer) -> None:
    assert pushed(renderer, pygame.JOYHATMOTION, pad=1, hat=0, value=(1, 0)) == [("right", True)]
    assert pushed(renderer, pygame.JOYHATMOTION, pad=2, hat=0, value=(0, 1)) == [("up", True)]
    assert pushed(renderer, pygame.JOYDEVICEREMOVED, pad=1) == [("right", False)]
    assert pushed(renderer, pygame.JOYHATMOTION, pad=2, hat=0, value=(0, 0)) == [("up", False)]


def test_a_gamepad_gone_before_it_is_looked_at_is_no_error(renderer: Renderer) -> None:
    pygame.event.post(pygame.Event(pygame.JOYDEVICEADDED, device_index=99, guid="0"))
    assert renderer.take_keys() == []


def test_two_windows_live_and_close_on_their_own() -> None:
    with Renderer("one") as one, Renderer("two") as two:
        one.close()
        one.close()
        two.show(frame())
        assert (pixels(two) == BLUE).all()


def test_the_sound_mixer_stays_closed(renderer: Renderer) -> None:
    renderer.show(frame(), "hello")
    assert pygame.mixer.get_init() is None


def test_a_foreign_frame_is_refused(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        renderer.show(np.zeros((8, 8, 3), np.float32))


def test_a_pace_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="fps is 0"):
        Renderer("never", fps=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells by its environment")
def test_without_a_display_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DisplayError, match="neither DISPLAY nor WAYLAND_DISPLAY"):
        Renderer("never")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names its display in the environment")
@pytest.mark.parametrize(
    "environment",
    [{"DISPLAY": ":987"}, {"SDL_VIDEODRIVER": "no-such-driver"}],
    ids=["a display that does not answer", "a driver that does not exist"],
)
def test_a_display_that_cannot_be_used_is_no_display(environment: dict[str, str]) -> None:
    script = "from neural_pacman.renderer import Renderer; Renderer('never')"
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert re.search(r"DisplayError: no (display|window)", run.stderr)


def test_a_missing_pygame_is_named_with_its_cure() -> None:
    script = "import sys; sys.modules['pygame'] = None; import neural_pacman.renderer"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "neural-pacman[play]"' in run.stderr


WATCHER = """
import time
import numpy as np
from neural_pacman.panel import View
from neural_pacman.renderer import Renderer

frame = np.full((512, 512, 3), (20, 40, 220), np.uint8)
with Renderer("a test in a real display", size=(744, 512)) as window:
    window.draw(View((frame,)))
    window.take_keys()  # SDL shows a window twice as it opens: keys for the first go to nobody
    print("ready", flush=True)
    start = time.monotonic()
    while time.monotonic() - start < 60:
        window.draw(View((frame,)))
        for name, down in window.take_keys():
            print("+" if down else "-", name, flush=True)
        time.sleep(0.01)
"""
"""A window that tells which keys it hears of."""


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true, which may take long on a busy machine."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < 60, "nothing happened"
        time.sleep(0.02)


@contextmanager
def watched() -> Iterator[tuple[str, Callable[[], str]]]:
    """The window of `WATCHER` in a real X server: the display's name, and what hears the next key."""
    with virtual_display() as display:
        environment = os.environ | {"SDL_VIDEODRIVER": "x11", "DISPLAY": display}
        with subprocess.Popen(
            [sys.executable, "-c", WATCHER], env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            try:
                heard = process.stdout
                assert heard.readline() == "ready\n"
                until(lambda: focused_title(display) == "a test in a real display" or process.poll() is not None)
                yield display, lambda: heard.readline().strip()
            finally:
                process.kill()


@needs_display
def test_a_real_window_has_its_title_and_hears_keys() -> None:
    with watched() as (display, hear):
        xdotool(display, "key", "Left", "Return", "period")
        assert [hear() for _ in range(6)] == ["+ left", "- left", "+ return", "- return", "+ .", "- ."]


@needs_display
def test_a_real_window_that_loses_the_keyboard_lets_go_of_its_keys() -> None:
    with watched() as (display, hear):
        xdotool(display, "keydown", "Up")
        assert hear() == "+ up"
        xdotool(display, "windowfocus", "0")  # nobody has the keyboard now
        assert hear() == "- up"

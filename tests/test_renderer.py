"""The window, under SDL's dummy driver: it shows, paces, scales, collects keys, and says so where it cannot open."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pygame
import pytest

from neural_pacman.renderer import DisplayError, Key, Renderer

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
    renderer._window.size = (900, 600)
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


def test_two_windows_live_and_close_on_their_own() -> None:
    with Renderer("one") as one, Renderer("two") as two:
        one.close()
        one.close()
        two.show(frame())
        assert (pixels(two) == BLUE).all()


def test_the_sound_mixer_stays_closed(renderer: Renderer) -> None:
    renderer.show(frame(), "hello")
    assert pygame.mixer.get_init() is None


@pytest.mark.parametrize("wrong", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)], ids=["dtype", "shape"])
def test_a_foreign_frame_is_refused(renderer: Renderer, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        renderer.show(wrong)


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

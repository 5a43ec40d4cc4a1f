"""The window: pygame-ce shows the frames, paces them, and collects the keys. Nothing else here knows pygame."""

from __future__ import annotations

import os
import sys
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # a library should not greet on its users' terminals
try:
    import pygame
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'The window needs pygame-ce: pip install "neural-pacman[play]"', name=missing.name
    ) from missing

WINDOW_SIZE = 512
MESSAGE_HEIGHT = 30
KEYS_REMEMBERED = 256


class DisplayError(RuntimeError):
    """There is no display to open a window on."""


class Key(NamedTuple):
    """A key that went down or came up; `name` is pygame's: "left", "return", "r"."""

    name: str
    down: bool


def display_missing() -> str | None:
    """Why no window can be shown here, or None if one probably can. Asks the environment only, opens nothing."""
    if not sys.platform.startswith("linux") or os.environ.get("SDL_VIDEODRIVER"):
        return None
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return None
    return "no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"


class Renderer:
    """A resizable window that shows frames, no faster than `fps` of them a second.

    Args:
        title: the window's title.
        fps: frames a second at which `show` paces its caller; None for as fast as it calls.

    Raises:
        DisplayError: there is no display, or it refuses a window.
        ValueError: `fps` is not a positive number.
    """

    def __init__(self, title: str, fps: int | None = None) -> None:
        if fps is not None and fps < 1:
            raise ValueError(f"fps is {fps}; expected a positive number, or None for no pacing.")
        if (reason := display_missing()) is not None:
            raise DisplayError(reason)
        try:
            # Only these two of pygame's parts: pygame.init() would open the sound mixer as well.
            pygame.display.init()
            pygame.font.init()
            # SDL falls back to drawing into memory when the display it was told of does not answer.
            if pygame.display.get_driver() in ("offscreen", "dummy") and not os.environ.get("SDL_VIDEODRIVER"):
                raise DisplayError("no display (the one named by DISPLAY or WAYLAND_DISPLAY does not answer)")
            self._window = pygame.Window(title, (WINDOW_SIZE, WINDOW_SIZE), resizable=True)
        except pygame.error as error:
            raise DisplayError(f"no window can be opened: {error}") from error
        self._font = pygame.font.Font(None, 24)
        self._clock = pygame.time.Clock()
        self._keys: deque[Key] = deque(maxlen=KEYS_REMEMBERED)
        self.fps = fps
        self.closed = False
        """Whether the person asked to close the window. It stays open until `close`."""

    @property
    def title(self) -> str:
        """The window's title, where play shows its status line."""
        return self._window.title

    @title.setter
    def title(self, text: str) -> None:
        if text != self._window.title:  # the window manager redraws the title bar each time
            self._window.title = text

    @property
    def rate(self) -> float:
        """Frames a second shown lately (the mean over ten); 0.0 until ten were shown."""
        return self._clock.get_fps()

    def show(self, frame: np.ndarray, message: str = "") -> None:
        """Draw a frame, as large as the window holds it, and wait until the next one is due.

        Args:
            frame: uint8 `[H, W, 3]`, upright RGB.
            message: a line of text laid over the bottom of the window.

        Raises:
            ValueError: `frame` is not such an array.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"The frame is {frame.dtype} {list(frame.shape)}; expected uint8 [H, W, 3].")
        height, width = frame.shape[:2]
        picture = pygame.image.frombuffer(np.ascontiguousarray(frame).data, (width, height), "RGB")
        screen = self._window.get_surface()
        scale = min(screen.width / width, screen.height / height)
        fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
        if fitted != (width, height):
            picture = pygame.transform.smoothscale(picture, fitted)
        screen.fill("black")
        screen.blit(picture, picture.get_rect(center=screen.get_rect().center))
        if message:
            strip = pygame.Rect(0, screen.height - MESSAGE_HEIGHT, screen.width, MESSAGE_HEIGHT)
            screen.fill("black", strip)
            text = self._font.render(message, True, "yellow")
            screen.blit(text, text.get_rect(center=strip.center))
        self._window.flip()
        self._clock.tick(self.fps or 0)
        self._collect()  # a window whose events nobody takes counts as hung

    def take_keys(self) -> list[Key]:
        """The keys that went down or came up since the last call, up to this very moment, in order."""
        self._collect()
        keys = list(self._keys)
        self._keys.clear()
        return keys

    def _collect(self) -> None:
        for event in pygame.event.get():
            if event.type in (pygame.KEYDOWN, pygame.KEYUP):
                self._keys.append(Key(pygame.key.name(event.key), event.type == pygame.KEYDOWN))
            elif event.type == pygame.QUIT or (event.type == pygame.WINDOWCLOSE and event.window == self._window):
                self.closed = True

    def close(self) -> None:
        """Close the window. Closing it twice does nothing."""
        self._window.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

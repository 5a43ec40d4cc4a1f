"""The window: pygame-ce shows the views, paces them, and collects keys and gamepads."""

from __future__ import annotations

import os
import sys
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from neural_pacman import ink
from neural_pacman.panel import View, draw

# isort: split
import pygame

KEYS_REMEMBERED = 256
SMALLEST_WINDOW = (320, 240)

GAMEPAD_BUTTONS = {0: "return", 1: "backspace", 2: "space", 3: ".", 6: "escape", 7: "space"}
"""Which key a gamepad's button is: A, B, X, Y, Back and Start where there is a hat."""
HATLESS_BUTTONS = {0: "return", 1: "backspace", 2: "space", 3: ".", 4: "escape", 6: "space"}
HATLESS_BUTTONS |= {11: "up", 12: "down", 13: "left", 14: "right"}
"""The same of pads without a hat: SDL puts their buttons into an order of its own, the directions among them."""
STICK_PRESSED, STICK_LET_GO = 0.5, 0.4
"""How far from its middle the stick goes down as a key, and how near it comes up: apart, or it would flutter."""


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
    """A resizable window that shows views or frames.

    Args:
        title: the window's title.
        fps: frames a second at which `show` paces its caller; None for as fast as it calls.
        size: the window's width and height in pixels, to begin with.

    Raises:
        DisplayError: there is no display, or it refuses a window.
        ValueError: `fps` is not a positive number.
    """

    def __init__(self, title: str, fps: int | None = None, size: tuple[int, int] = (512, 512)) -> None:
        if fps is not None and fps < 1:
            raise ValueError(f"fps is {fps}; expected a positive number, or None for no pacing.")
        if (reason := display_missing()) is not None:
            raise DisplayError(reason)
        try:
            # Only the parts that are needed: pygame.init() would open the sound mixer as well.
            pygame.display.init()
            pygame.font.init()
            # SDL falls back to drawing into memory when the display it was told of does not answer.
            if pygame.display.get_driver() in ("offscreen", "dummy") and not os.environ.get("SDL_VIDEODRIVER"):
                raise DisplayError("no display (the one named by DISPLAY or WAYLAND_DISPLAY does not answer)")
            self._window = pygame.Window(title, size, resizable=True)
        except pygame.error as error:
            raise DisplayError(f"no window can be opened: {error}") from error
        self._window.minimum_size = SMALLEST_WINDOW
        self._window.set_icon(_icon())
        self._gamepads = Gamepads()
        self._clock = pygame.time.Clock()
        self._keys: deque[Key] = deque(maxlen=KEYS_REMEMBERED)
        self.fps = fps
        self.closed = False
        """Whether the person asked to close the window. It stays open until `close`."""

    @property
    def title(self) -> str:
        """The window's title."""
        return self._window.title

    @title.setter
    def title(self, text: str) -> None:
        if text != self._window.title:  # the window manager redraws the title bar each time
            self._window.title = text

    @property
    def size(self) -> tuple[int, int]:
        """The window's width and height, which the person changes as well."""
        return self._window.size

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._window.size = size

    @property
    def rate(self) -> float:
        """Frames a second that `show` showed lately (the mean over ten); 0.0 until ten were shown."""
        return self._clock.get_fps()

    def draw(self, view: View) -> None:
        """Show a view at once, without waiting, in a window of whatever size it has by now.

        Raises ValueError when a frame is not uint8 `[H, W, 3]`. Call `take_keys` now and then as well: a window whose
        events nobody takes counts as hung.
        """
        draw(view, self._window.get_surface())
        self._window.flip()

    def show(self, frame: np.ndarray, message: str = "") -> None:
        """Draw a frame, as large as the window holds it, and wait until the next one is due.

        Args:
            frame: uint8 `[H, W, 3]`, upright RGB.
            message: a line of text laid over the bottom of the window.

        Raises:
            ValueError: `frame` is not such an array.
        """
        self.draw(View((frame,), banner=message))
        self._clock.tick(self.fps or 0)
        self._collect()

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
            else:
                self._keys.extend(self._gamepads.feed(event))

    def close(self) -> None:
        """Close the window. Closing it twice does nothing."""
        self._window.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Gamepads:
    """All attached gamepads as keys: hats and left sticks are the arrow keys, buttons are `GAMEPAD_BUTTONS`."""

    def __init__(self) -> None:
        self._pads: dict[int, pygame.joystick.JoystickType] = {}  # by instance; a pad that nobody keeps says nothing
        self._held: dict[tuple[int, str], set[str]] = {}  # (instance, part of the pad): the keys it holds down
        with suppress(pygame.error):  # a place without gamepads is none to stop at
            pygame.joystick.init()
            for index in range(pygame.joystick.get_count()):
                self._add(index)

    def feed(self, event: pygame.Event) -> list[Key]:
        """The keys that come up and go down with an event of pygame's; none if it is not a gamepad's."""
        before = self._down()
        if event.type == pygame.JOYDEVICEADDED:
            self._add(event.device_index)
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._pads.pop(event.instance_id, None)
            self._held = {part: keys for part, keys in self._held.items() if part[0] != event.instance_id}
        elif event.type == pygame.JOYHATMOTION:
            x, y = event.value
            keys = {"left": x < 0, "right": x > 0, "up": y > 0, "down": y < 0}
            self._hold(event, f"hat {event.hat}", keys)
        elif event.type == pygame.JOYAXISMOTION and event.axis in (0, 1):
            part = f"axis {event.axis}"
            held = self._held.get((event.instance_id, part), set())
            low, high = (("left", "right"), ("up", "down"))[event.axis]
            keys = {
                name: value > (STICK_LET_GO if name in held else STICK_PRESSED)
                for name, value in ((low, -event.value), (high, event.value))
            }
            self._hold(event, part, keys)
        elif event.type in (pygame.JOYBUTTONDOWN, pygame.JOYBUTTONUP):
            pad = self._pads.get(event.instance_id)
            buttons = HATLESS_BUTTONS if pad and not pad.get_numhats() else GAMEPAD_BUTTONS
            if event.button in buttons:
                keys = {buttons[event.button]: event.type == pygame.JOYBUTTONDOWN}
                self._hold(event, f"button {event.button}", keys)
        after = self._down()
        return [Key(name, False) for name in sorted(before - after)] + [
            Key(name, True) for name in sorted(after - before)
        ]

    def _add(self, index: int) -> None:
        with suppress(pygame.error):  # it may be gone again
            pad = pygame.joystick.Joystick(index)
            self._pads[pad.get_instance_id()] = pad

    def _hold(self, event: pygame.Event, part: str, keys: dict[str, bool]) -> None:
        self._held[event.instance_id, part] = {name for name, down in keys.items() if down}

    def _down(self) -> set[str]:
        """The keys that any part of any pad holds down."""
        return set().union(*self._held.values())


def _icon() -> pygame.Surface:
    icon = pygame.Surface((64, 64), pygame.SRCALPHA)
    ink.pacman(icon, (32, 32), 30)
    return icon

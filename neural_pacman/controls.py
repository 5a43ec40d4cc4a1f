"""What the keys do. The help, the title card and the dispatch all come from the one table here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from neural_pacman.actions import Action

STEERING = {
    "left": Action.LEFT,
    "right": Action.RIGHT,
    "up": Action.UP,
    "down": Action.DOWN,
    "a": Action.LEFT,
    "d": Action.RIGHT,
    "w": Action.UP,
    "s": Action.DOWN,
}
"""Actions by the name of the key."""


class Control(Enum):
    """What a person can ask for, besides steering."""

    GO = auto()
    PAUSE = auto()
    STEP = auto()
    REWIND = auto()
    SAME_SEED = auto()
    NEXT_SEED = auto()
    DREAM_ON = auto()
    SLOWER = auto()
    FASTER = auto()
    DENOISE_1 = auto()
    DENOISE_2 = auto()
    DENOISE_4 = auto()
    HAND_OVER = auto()
    RECORD_MP4 = auto()
    RECORD_GIF = auto()
    SCREENSHOT = auto()
    SCALING = auto()
    PANEL = auto()
    HELP = auto()
    QUIT = auto()


@dataclass(frozen=True)
class Binding:
    """The keys of a control: their names as pygame has them, what is written on them, and what they do."""

    names: tuple[str, ...]
    written: str
    does: str
    controls: tuple[Control, ...]
    """One for each name, or one for all of them."""


BINDINGS = (
    Binding(("return", "enter"), "Enter", "begin; the next dream when one is over", (Control.GO,)),
    Binding(("space",), "Space", "pause, go on", (Control.PAUSE,)),
    Binding((".", "[.]"), ".", "a single step", (Control.STEP,)),
    Binding(("backspace",), "Backspace", "hold: run time backwards", (Control.REWIND,)),
    Binding(("r",), "R", "the same seed again", (Control.SAME_SEED,)),
    Binding(("n",), "N", "the next seed", (Control.NEXT_SEED,)),
    Binding(("c",), "C", "dream on past the end", (Control.DREAM_ON,)),
    Binding(
        ("-", "=", "+", "[-]", "[+]"),
        "- +",
        "slower, faster",
        (Control.SLOWER, Control.FASTER, Control.FASTER, Control.SLOWER, Control.FASTER),
    ),
    Binding(
        ("1", "2", "4", "[1]", "[2]", "[4]"),
        "1 2 4",
        "denoising steps a frame",
        (Control.DENOISE_1, Control.DENOISE_2, Control.DENOISE_4) * 2,
    ),
    Binding(("t",), "T", "take over from the agent, hand back", (Control.HAND_OVER,)),
    Binding(("v",), "V", "record a video, end it", (Control.RECORD_MP4,)),
    Binding(("g",), "G", "record a GIF, end it", (Control.RECORD_GIF,)),
    Binding(("p",), "P", "take a picture", (Control.SCREENSHOT,)),
    Binding(("x",), "X", "smooth or sharp pixels", (Control.SCALING,)),
    Binding(("tab",), "Tab", "show or hide the panel", (Control.PANEL,)),
    Binding(("h", "f1"), "H", "this help", (Control.HELP,)),
    Binding(("escape",), "Esc", "quit", (Control.QUIT,)),
)

CONTROLS = {
    name: binding.controls[min(place, len(binding.controls) - 1)]
    for binding in BINDINGS
    for place, name in enumerate(binding.names)
}
"""Controls by the name of the key."""

STEERING_HELP = ("Arrows, WASD", "steer: the key pressed last wins")

HELP = (STEERING_HELP, *((binding.written, binding.does) for binding in BINDINGS))
"""What to press for what, line by line."""


class Steering:
    """Which way the steering keys point: the one pressed last of those held, as in the arcade."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._tapped: Action | None = None

    def feed(self, name: str, down: bool) -> None:
        """Take notice of a key that went down or came up; any but those of `STEERING` changes nothing."""
        if name not in STEERING:
            return
        if name in self._held:
            self._held.remove(name)
        if down:
            self._held.append(name)
            self._tapped = STEERING[name]

    @property
    def held(self) -> frozenset[Action]:
        """The directions whose keys are down."""
        return frozenset(STEERING[name] for name in self._held)

    def take(self) -> Action:
        """The action for the step about to be made. A key tapped since the last step counts, though it is up again."""
        tapped, self._tapped = self._tapped, None
        if tapped is not None:
            return tapped
        return STEERING[self._held[-1]] if self._held else Action.NO_ACTION

    def forget(self) -> None:
        """Drop what was tapped while no step was to be made of it."""
        self._tapped = None

"""How fast the game is played: `python -m benchmarks.play`.

The real window, with somebody strolling about at the keyboard, against the same environment stepped in a bare loop:
what the window costs is the ratio of the two, measured in turns. Then the game's own pace, and how well it is kept.
With SDL_VIDEODRIVER=dummy SDL draws into memory and needs no display; which driver it was is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from benchmarks.machine import machine, named
from benchmarks.result import check_out, markdown_table, write
from benchmarks.speed import Speed, environment, seconds, stopwatch
from neural_pacman.command import command
from neural_pacman.controls import STEERING
from neural_pacman.engine import shared_world
from neural_pacman.panel import View, natural_size
from neural_pacman.play import Play, Report
from neural_pacman.play_window import PlayWindow
from neural_pacman.players import demo_actions
from neural_pacman.progress import progress_bar
from neural_pacman.renderer import Key, Renderer
from neural_pacman.stage import Stage, set_stage
from neural_pacman.world import WorldModel

# isort: split
import pygame  # after ours, which keep it from greeting

AS_FAST_AS_CAN_BE = 1000
"""Steps a second that no machine reaches."""
Result = TypeVar("Result")
KEYS = {action: name for name, action in reversed(STEERING.items())}


@dataclass
class PlaySpeed:
    """Time play in a window."""

    world: str = "pacman"
    """A shipped world's name, a world's folder, or a hub id."""
    out: Path | None = None
    """Where the result goes besides the terminal: a name that ends in .md or .json."""
    rounds: int = 5
    """Rounds: the figures are their medians."""
    steps: int = 60
    """Steps of each contender in each round."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    seed: int = 0
    """Seed of the player and the dreams."""


class Stroller(Renderer):
    """The real window, with somebody at the keys who strolls about; `drawing` are the seconds that drawing took."""

    def __init__(self, title: str, seed: int) -> None:
        super().__init__(title, size=natural_size())
        self.drawing = 0.0
        self._player = demo_actions(np.random.default_rng(seed))
        self._step = -1
        self._held: str | None = None
        self.press("return")

    def press(self, name: str | None) -> None:
        """Let go of the key that is held and hold another one."""
        for kind, key in ((pygame.KEYUP, self._held), (pygame.KEYDOWN, name)):
            if key is not None:
                pygame.event.post(pygame.Event(kind, key=pygame.key.key_code(key)))
        self._held = name

    def draw(self, view: View) -> None:
        start = time.perf_counter()
        super().draw(view)
        self.drawing += time.perf_counter() - start
        if view.panel and view.panel.step != self._step:
            self._step = view.panel.step
            if (name := KEYS.get(next(self._player))) != self._held:
                self.press(name)

    def take_keys(self) -> list[Key]:
        start = time.perf_counter()
        keys = super().take_keys()
        self.drawing += time.perf_counter() - start
        return keys


def play_in_window(config: PlaySpeed, world: WorldModel, fps: int) -> dict[str, float]:
    """Play so many steps: seconds a step, and the share of them that each part took."""
    settings = Play(config.world, seed=config.seed, steps=config.steps, fps=fps, device=config.device)
    begun = 0.0

    def load(report: Report) -> Stage:
        nonlocal begun
        stage = set_stage(settings, None, None, None, None, report)
        stage.start(config.seed)
        begun = time.perf_counter()
        return stage

    with stopwatch(world) as parts, Stroller("Neural Pac-Man: how fast?", config.seed) as window:
        PlayWindow(settings, window, load).run(lambda: False)
        took = time.perf_counter() - begun
    shares = {**parts, "draw": window.drawing}
    return {"seconds_per_step": took / config.steps, **{part: spent / took for part, spent in shares.items()}}


def aside(work: Callable[..., Result], *given: Any) -> Result:
    """Do some work in a thread of its own, as the window does: see `PlayWindow`."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *given).result()


def measure(config: PlaySpeed) -> dict[str, Any]:
    """All figures. ValueError when there is nothing to time, DisplayError when there is no display."""
    if min(config.rounds, config.steps) < 1:
        raise ValueError(f"Given {config.rounds} rounds of {config.steps} steps; expected 1 or more of each.")
    world = aside(shared_world, config.world, config.device)
    fps = world.config.frames_per_second
    bare = aside(environment, None, "rgb 512", Speed(world=config.world, device=config.device, seed=config.seed))
    aside(seconds, bare, 2, world.device)  # the first step picks kernels
    fast, paced, alone = [], [], []
    for number in progress_bar(range(config.rounds), desc="playing", unit="round"):
        turns = [
            lambda: fast.append(play_in_window(config, world, AS_FAST_AS_CAN_BE)),
            lambda: alone.append(aside(seconds, bare, config.steps, world.device) / config.steps),
        ]
        for turn in turns[:: -1 if number % 2 else 1]:
            turn()
        paced.append(play_in_window(config, world, fps))
    return {
        "world": {"name": world.config.name, "hash": world.hash},
        "machine": machine(world.device),
        "driver": pygame.display.get_driver(),
        "window": list(natural_size()),
        "conditions": {"rounds": config.rounds, "steps": config.steps, "fps": fps},
        "num_inference_steps": world.config.num_inference_steps,
        "alone": median(alone),
        "ratios": [own / play["seconds_per_step"] for own, play in zip(alone, fast, strict=True)],
        "fast": {name: median(play[name] for play in fast) for name in fast[0]},
        "paced": {name: median(play[name] for play in paced) for name in paced[0]},
    }


def to_markdown(report: dict[str, Any]) -> str:
    """The report as people read it."""
    conditions, fast, paced = report["conditions"], report["fast"], report["paced"]
    shares = ("denoise", "decode", "draw")
    rows = [
        ["the environment alone", f"{1 / report['alone']:.1f}", f"{1e3 * report['alone']:.1f}", *[""] * len(shares)],
        *(
            [
                name,
                f"{1 / figures['seconds_per_step']:.1f}",
                f"{1e3 * figures['seconds_per_step']:.1f}",
                *(f"{figures[share]:.0%}" for share in shares),
            ]
            for name, figures in (("in the window", fast), (f"in the window, at {conditions['fps']} fps", paced))
        ),
    ]
    width, height = report["window"]
    ratios, passes = report["ratios"], report["num_inference_steps"]
    return f"""# Speed of play

World {report["world"]["name"]} ({report["world"]["hash"][:12]}), {passes} denoising steps a frame.
The window has {width} x {height} pixels on SDL's driver {report["driver"]}.
{named(report["machine"])}

{markdown_table(["", "frames/s", "ms a step", *shares], rows)}
Medians of {conditions["rounds"]} rounds of {conditions["steps"]} steps. The window keeps {median(ratios):.0%} of the
environment's pace ({min(ratios):.0%} to {max(ratios):.0%}, each timed right before or after the other).
*Draw* is drawing and looking at the keys; it goes on beside the dream, so the shares of a step may add up to more than
all.
"""


def main(config: PlaySpeed) -> None:
    check_out(config.out)
    report = measure(config)
    text = to_markdown(report)
    write(config.out, report, text)
    print(text)


if __name__ == "__main__":
    command(main, PlaySpeed)

"""A world whose dreams one can foresee, and a person at the keyboard of a real window."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pygame
import pytest
import torch
from torch import Tensor

from neural_pacman.autoencoder import Decoded, nothing_told
from neural_pacman.frames import to_tensor
from neural_pacman.panel import View
from neural_pacman.play import Play, play
from neural_pacman.renderer import Key, Renderer
from neural_pacman.world import Outcome, WorldModel

COLORS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (90, 90, 90), (0, 0, 0)], np.uint8)
"""Of a frame: those of the five actions that led to it, and of one that a dream begins with."""

BEGINNING = len(COLORS) - 1
ACTION_AT, STEP_AT = (..., 0, 0, 0), (..., 0, 0, 1)
"""Where a latent holds the action that led to it, and the number of steps since the dream began."""


class ScriptedWorld(WorldModel):
    """Shows each step in its action's colour, gives ten points for it, and ends each dream after `length` of them.

    Attributes:
        asked: the denoising steps of each step that was dreamed.
        while_dreaming: called with the number of the step while it is dreamed, in whatever thread does that.
        seconds: how long a step takes.
    """

    length: int = 1000
    seconds: float = 0.0
    asked: list[int]
    while_dreaming: Callable[[int], object]

    @classmethod
    def load(cls, folder: Path) -> ScriptedWorld:
        world = cls.from_pretrained(folder, device="cpu")
        assert isinstance(world, ScriptedWorld)
        world.asked = []
        world.while_dreaming = lambda step: None
        return world

    def encode(self, frames: Tensor, chunk: Any = None) -> Tensor:
        latents = torch.zeros(*frames.shape[:2], 32, 16, 16)
        latents[ACTION_AT] = BEGINNING
        return latents

    def dream(self, history: Tensor, actions: Tensor, noise: Tensor, num_inference_steps: int | None = None) -> Tensor:
        latent = history[:, -1].clone()
        latent[ACTION_AT] = actions[:, -1].float()
        latent[STEP_AT] += 1
        self.asked.append(num_inference_steps or 0)
        self.while_dreaming(int(latent[STEP_AT][0]))
        time.sleep(self.seconds)
        return latent

    def decode(self, latents: Tensor) -> Tensor:
        colors = COLORS[latents[ACTION_AT].int().numpy()]
        frames = to_tensor(np.broadcast_to(colors[..., None, None, :], (*colors.shape[:-1], 512, 512, 3)))
        return frames

    def decode_after(self, known: Tensor, latents: Tensor) -> Decoded:
        frames = self.decode(latents)
        return nothing_told(frames, known)

    def judge(self, history: Tensor, actions: Tensor, next_latent: Tensor, decoded: Decoded | None = None) -> Outcome:
        steps = next_latent[STEP_AT]
        return Outcome(torch.full_like(steps, 10.0), torch.zeros_like(steps), (steps >= self.length).float())


@pytest.fixture
def scripted_world(tiny_world: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedWorld:
    """The world that every environment made in this test gets."""
    world = ScriptedWorld.load(tiny_world)
    monkeypatch.setattr("neural_pacman.dreams.shared_world", lambda *arguments: world)
    return world


Script = Callable[["Person"], Generator[None]]
"""What a person does, with a `yield` for every look at the window."""


class Person(Renderer):
    """The real window, with somebody in front of it who does what `script` says, through pygame's own event queue."""

    def __init__(self, *arguments: Any, script: Script, **options: Any) -> None:
        super().__init__(*arguments, **options)
        pygame.event.clear()
        self.views: list[View] = []
        self._script = script(self)

    @property
    def view(self) -> View:
        """What the window shows."""
        return self.views[-1]

    def draw(self, view: View) -> None:
        super().draw(view)
        self.views.append(view)

    def take_keys(self) -> list[Key]:
        if self.views:
            with suppress(StopIteration):
                next(self._script)
        return super().take_keys()

    def press(self, *names: str) -> None:
        """Press keys, one after the other, and keep them down."""
        self._post(pygame.KEYDOWN, names)

    def release(self, *names: str) -> None:
        self._post(pygame.KEYUP, names)

    def tap(self, *names: str) -> None:
        """Press keys and let them go at once."""
        for name in names:
            self.press(name)
            self.release(name)

    def _post(self, kind: int, names: tuple[str, ...]) -> None:
        for name in names:
            pygame.event.post(pygame.Event(kind, key=pygame.key.key_code(name)))

    def until(self, true: Callable[[View], object]) -> Generator[None]:
        """Look until the window shows what is waited for; TimeoutError after 20 seconds."""
        start = time.perf_counter()
        while not true(self.view):
            if time.perf_counter() - start > 20:
                raise TimeoutError(f"waited in vain; the window shows {replace(self.view, frames=())}")
            yield

    def until_step(self, step: int) -> Generator[None]:
        """Look until so many steps were dreamed."""
        return self.until(lambda view: view.panel and view.panel.step >= step)

    def until_step_back(self, step: int) -> Generator[None]:
        """Look until time ran back to that step."""
        return self.until(lambda view: view.panel and view.panel.step <= step)

    def begin(self) -> Generator[None]:
        """Wait for the title card, and play."""
        yield from self.until(lambda view: view.card and "Enter" in view.card.footer)
        self.tap("return")


def colors(view: View) -> list[int]:
    """What led to each frame that is shown: an action's number, or `BEGINNING`."""
    return [int(np.flatnonzero((frame[256, 256] == COLORS).all(axis=1))[0]) for frame in view.frames]


def played(script: Script, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Person:
    """Play with these settings, while a person does what the script says."""
    people: list[Person] = []

    def open_window(*arguments: Any, **options: Any) -> Person:
        people.append(Person(*arguments, script=script, **options))
        return people[0]

    monkeypatch.setattr("neural_pacman.play.Renderer", open_window)
    play(Play(**settings))
    return people[0]

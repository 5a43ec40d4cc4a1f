"""DreamEngine: a batch of dreams, stepped together. It knows latents, actions and noise; no spaces and no episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neural_pacman.actions import check_actions
from neural_pacman.autoencoder import LATENT_CHANNELS, LATENT_SIZE, Decoded
from neural_pacman.episodes import HISTORY
from neural_pacman.frames import FRAME_SIZE, to_images
from neural_pacman.world import WorldModel, resolve_device
from neural_pacman.world_folder import CONFIG, find_world

LATENT_SHAPE = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)

STATE_VERSION = 5
"""Counts up when a saved state's meaning changes; a state of another version is refused."""

DECODE_CHUNK = 8
"""Frames of a history decoded at once, which bounds the memory."""

BLOCK_BYTES = 2**21
"""Memory that small tensors are kept in together."""


@dataclass(frozen=True, eq=False)
class Step:
    """What a step brought each of `B` dreams: `points` float64, `life_lost` bool and `end` bool, NumPy `[B]`."""

    points: np.ndarray
    life_lost: np.ndarray
    end: np.ndarray


@dataclass(frozen=True, eq=False)
class EngineState:
    """All that the future of `B` dreams depends on, besides the actions to come.

    It holds the engine's own latents, which nobody writes to, so saving every step of a dream costs one latent a step
    (32 kB), and going back to one of them copies nothing. Pickled, it stands alone: 1 MB a dream.

    Attributes:
        version: `STATE_VERSION` of the code that saved it.
        world: hash of the world that it was dreamed in.
        latents: 32 of `[B, 32, 16, 16]`, oldest first.
        actions: int64 `[B, 31]`, those between the latents.
        generators: `B` states of the dreams' noise generators, uint8.
        known: int16 `[B, M]`, what the frame showed on which each dream settled last, and the action that led on
            (`FrameAutoencoder.decode_after`).
    """

    version: int
    world: str
    latents: tuple[Tensor, ...]
    actions: Tensor
    generators: tuple[Tensor, ...]
    known: Tensor

    def take(self, dreams: Sequence[int]) -> EngineState:
        """These of the dreams, by index, as a state of their own; an index may come twice. IndexError outside."""
        chosen = list(dreams)
        return EngineState(
            self.version,
            self.world,
            tuple(latent[chosen] for latent in self.latents),
            self.actions[chosen],
            tuple(self.generators[dream] for dream in chosen),
            self.known[chosen],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # As arrays: a pickled tensor brings all of the storage that it is a view of, and its device.
        tensors = torch.stack(self.latents), self.actions, torch.stack(self.generators), self.known
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        return _unpickled, (self.version, self.world, *arrays)


def _unpickled(
    version: int,
    world: str,
    latents: np.ndarray,
    actions: np.ndarray,
    generators: np.ndarray,
    known: np.ndarray | None = None,
) -> EngineState:
    known = np.empty((len(actions), 0), np.int16) if known is None else known  # a state of version 1
    tensors = [torch.from_numpy(array) for array in (latents, actions, generators, known)]
    return EngineState(version, world, tensors[0].unbind(), tensors[1], tensors[2].unbind(), tensors[3])


class Shelf:
    """Keeps small tensors for long, many of them in one block of memory.

    Allocated one by one they would settle in the gaps that the networks' large buffers leave behind at every step, and
    those would need new room at the next: with glibc's allocator a tape of 40 kB a step took 3 MB a step.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], Iterator[Tensor]] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy, not to be written to."""
        if not tensor.nbytes:
            return tensor.clone()
        kind = (tensor.shape, tensor.dtype, tensor.device)
        place = next(self._places.get(kind, iter(())), None)
        if place is None:
            count = max(1, BLOCK_BYTES // max(1, tensor.nbytes))
            self._places[kind] = iter(tensor.new_empty(count, *tensor.shape))
            place = next(self._places[kind])
        return place.copy_(tensor)


class DreamEngine:
    """`num_dreams` dreams of one world in one forward pass a step.

    Args:
        world: the world to dream, shared among engines.
        num_dreams: the batch size `B`. Results are bit-identical for the same batch size only.
        num_inference_steps: denoising steps a frame; None takes the world's own number.

    Raises ValueError when `num_dreams` or `num_inference_steps` is below 1.
    """

    def __init__(self, world: WorldModel, num_dreams: int = 1, num_inference_steps: int | None = None) -> None:
        for name, value in (("num_dreams", num_dreams), ("num_inference_steps", num_inference_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more.")
        self.world = world
        self.num_dreams = num_dreams
        self.num_inference_steps = num_inference_steps
        self._tape: deque[Tensor] = deque(maxlen=HISTORY)
        self._shelf = Shelf()
        self._actions: Tensor | None = None
        self._generators: list[torch.Generator] = []
        self._known: Tensor = world.autoencoder.blank(num_dreams)
        self._pictures: Decoded | None = None

    @torch.no_grad()
    def reset(
        self,
        latents: Tensor,
        actions: Tensor,
        generators: Sequence[torch.Generator],
        dreams: Sequence[int] | None = None,
        known: Tensor | None = None,
    ) -> None:
        """Begin `N` dreams anew from their histories: all, or only `dreams`, while the others stay as they are.

        Args:
            latents: float32 `[N, 32, 32, 16, 16]`, oldest first.
            actions: int64 `[N, 31]`, those between the latents.
            generators: one CPU generator a dream, the source of its noise from here on.
            dreams: indices of those to begin anew; None for all.
            known: int16 `[N, M]`, what the frames before the newest showed (`WorldModel.follow`); None for nothing.

        Raises ValueError for other shapes or numbers, RuntimeError for some dreams before the first `reset` of all.
        """
        count = self.num_dreams if dreams is None else len(dreams)
        expected = {"latents": (count, HISTORY, *LATENT_SHAPE), "actions": (count, HISTORY - 1)}
        for name, given in (("latents", latents), ("actions", actions)):
            if tuple(given.shape) != expected[name]:
                raise ValueError(f"{name} have shape {list(given.shape)}; expected {list(expected[name])}.")
        if len(generators) != count:
            raise ValueError(f"Given {len(generators)} generators for {count} dreams; expected one each.")
        latents, actions = latents.to(self.world.device), actions.to(self.world.device)
        before = self.world.autoencoder.blank(count)
        if known is not None:
            if known.shape != before.shape:
                raise ValueError(f"known has shape {list(known.shape)}; expected {list(before.shape)}.")
            before = self.world.autoencoder.before_next(known.to(self.world.device), actions[:, -1], recorded=True)
        if dreams is None:
            self._actions, self._generators = actions.clone(), list(generators)
            self._known, self._pictures = before, None
        else:
            if self._actions is None:
                raise RuntimeError("Some dreams were to begin anew before reset() began them all.")
            rows = list(dreams)
            self._actions = self._actions.clone()
            self._actions[rows] = actions
            for row, generator in zip(rows, generators, strict=True):
                self._generators[row] = generator
            self._known = self._known.clone()
            self._known[rows] = before
            if self._pictures is not None:  # the others' pictures are as good as they were
                new = self.world.decode_after(before, latents[:, -1])
                self._pictures = Decoded(*(kept.clone() for kept in self._pictures))
                for kept, some in zip(self._pictures, new, strict=True):
                    kept[rows] = some
        self._tape = deque((self._begun(i, latents[:, i], dreams) for i in range(HISTORY)), maxlen=HISTORY)

    def _begun(self, i: int, latents: Tensor, dreams: Sequence[int] | None) -> Tensor:
        """Place `i` of the tape with the new latents in it: a copy, since saved states share what is here, and since a
        view would keep all 32 alive."""
        if dreams is None:
            return latents.clone()
        return self._tape[i].index_copy(0, torch.tensor(dreams, device=latents.device), latents)

    @torch.no_grad()
    def step(self, actions: np.ndarray | Sequence[int]) -> Step:
        """Dream the next frame of every dream.

        `actions` are `B` integers 0 to 4, which lead out of the newest frames. A dream may go on past its end.
        Raises RuntimeError before the first `reset`, ValueError for other actions.
        """
        newest = np.asarray(actions)
        if newest.shape != (self.num_dreams,):
            raise ValueError(f"actions have shape {list(newest.shape)}; expected [{self.num_dreams}], one a dream.")
        check_actions(newest)
        if self._actions is None:
            raise RuntimeError("step() was called before reset(); a dream needs a history to begin from.")
        chosen = torch.from_numpy(newest.astype(np.int64)).to(self._actions.device)
        led = torch.cat([self._actions, chosen[:, None]], dim=1)
        noise = torch.stack([torch.randn(LATENT_SHAPE, generator=generator) for generator in self._generators])
        noise = noise.to(self.world.device)
        settled = self.world.settles(noise)
        self._settle(settled, chosen)
        history = torch.stack(tuple(self._tape), dim=1)
        latent = self.world.dream(history, led, noise, self.num_inference_steps)
        self._tape.append(self._shelf.keep(latent))
        self._actions = led[:, 1:]
        self._pictures = None
        outcome = self.world.judge(history, led, latent, self._told(settled))
        return Step(
            points=outcome.points.cpu().double().numpy(),
            life_lost=(outcome.life_lost > 0.5).cpu().numpy(),
            end=(outcome.end > 0.5).cpu().numpy(),
        )

    def _settle(self, which: Tensor, actions: Tensor) -> None:
        """Move the newest latents of some dreams, bool `[B]`, to what their frames show; actions `[B]` lead on."""
        untold = self.world.autoencoder.before_next(self._known)
        if not which.any():
            self._known = self._shelf.keep(untold)
            return
        shown, known, *_ = self._decoded()
        known = self.world.autoencoder.before_next(known, actions)
        newest = self._tape[-1].clone()
        newest[which] = self.world.autoencoder.encode(shown[which])
        self._tape[-1] = self._shelf.keep(newest)
        self._known = self._shelf.keep(torch.where(which[:, None], known, untold))

    def _told(self, settled: Tensor) -> Decoded | None:
        """What the newest frames tell of their step, where it went out from frames on which dreams settled, bool `[B]`:
        of others it is not known what they showed."""
        if not settled.any():
            return None
        decoded = self._decoded()
        points = torch.where(settled, decoded.points, -1)
        return decoded._replace(points=points, lost=decoded.lost & settled, over=decoded.over & settled)

    def _decoded(self) -> Decoded:
        """The newest frames as they are shown, and what is known of them."""
        if self._pictures is None:
            self._pictures = self.world.decode_after(self._known, self.latent)
        return self._pictures

    @property
    def latent(self) -> Tensor:
        """The newest latents, float32 `[B, 32, 16, 16]`, on the world's device, not to be written to.

        RuntimeError before `reset`.
        """
        if not self._tape:
            raise RuntimeError("There is no dream yet: call reset() first.")
        return self._tape[-1]

    @torch.no_grad()
    def decode(self, size: int = FRAME_SIZE) -> np.ndarray:
        """The newest frames as uint8 `[B, size, size, 3]`, averaged over areas when `size` is below 512.

        A step is decoded once, however often and in however many sizes it is asked for.
        """
        return _images(self._decoded().shown, size)

    def history(self, dream: int = 0) -> Tensor:
        """The last 32 latents of one dream, float32 `[32, 32, 16, 16]`, oldest first. RuntimeError before `reset`."""
        if not self._tape:
            raise RuntimeError("There is no dream yet: call reset() first.")
        return torch.stack([latent[dream] for latent in self._tape])

    @torch.no_grad()
    def decode_history(self, dream: int = 0, size: int = FRAME_SIZE) -> np.ndarray:
        """The last 32 frames of one dream, uint8 `[32, size, size, 3]`, oldest first. RuntimeError before `reset`.

        The newest is as `decode` shows it, the others each by themselves.
        """
        parts = [self.world.decode(part) for part in self.history(dream)[:-1].split(DECODE_CHUNK)]
        return np.concatenate([_images(part, size) for part in (*parts, self._decoded().shown[dream, None])])

    def get_state(self) -> EngineState:
        """The dreams as they stand. RuntimeError before `reset`."""
        if self._actions is None:
            raise RuntimeError("There is no dream yet: call reset() first.")
        generators = tuple(self._shelf.keep(generator.get_state()) for generator in self._generators)
        return EngineState(STATE_VERSION, self.world.hash, tuple(self._tape), self._actions, generators, self._known)

    def set_state(self, state: EngineState) -> None:
        """Go back, or over, to a saved state; before `reset` too.

        Raises TypeError when it is no such state, ValueError when another version, world or batch size saved it.
        """
        if not isinstance(state, EngineState):
            raise TypeError(f"Given a {type(state).__name__}; expected the state that get_state() returned.")
        if state.version != STATE_VERSION:
            raise ValueError(
                f"The state has version {state.version}; this neural_pacman reads version {STATE_VERSION}."
            )
        if state.world != self.world.hash:
            raise ValueError(
                f"The state was dreamed in another world (hash {state.world[:12]}) than this one "
                f"({self.world.config.name}, {self.world.hash[:12]}); load it in the world that it came from."
            )
        if len(state.generators) != self.num_dreams:
            raise ValueError(f"The state holds {len(state.generators)} dreams; this engine dreams {self.num_dreams}.")
        device = self.world.device
        self._tape = deque((latent.to(device) for latent in state.latents), maxlen=HISTORY)
        self._actions = state.actions.to(device)
        self._generators = [_generator(saved) for saved in state.generators]
        self._known = state.known.to(device)
        self._pictures = None


def _images(pictures: Tensor, size: int) -> np.ndarray:
    if size != FRAME_SIZE:
        pictures = functional.interpolate(pictures, size=(size, size), mode="area")
    return to_images(pictures)


def _generator(state: Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state.clone())  # PyTorch 2.13 misreads a view into a larger tensor
    return generator


def shared_world(world: str | Path, device: str = "auto", compile: bool = False) -> WorldModel:
    """The world of this name, folder or hub id, loaded once a process for everyone who is using it.

    `compile` compiles the networks that run at every step with `torch.compile`. Raises what
    `WorldModel.from_pretrained` raises.
    """
    folder = find_world(world).resolve()
    marker = folder / CONFIG
    # By the time of saving too: a folder that was trained further is another world.
    edition = marker.stat().st_mtime_ns if marker.is_file() else 0
    key = (folder, edition, str(resolve_device(device)), compile)
    model = _worlds.get(key)
    if model is None:
        model = WorldModel.from_pretrained(folder, device=device)
        if compile:
            for network in (model.denoiser, model.outcome, model.autoencoder.dc.decoder):
                network.compile()
        _worlds[key] = model
    return model


_worlds: WeakValueDictionary[tuple[Path, int, str, bool], WorldModel] = WeakValueDictionary()

"""The world model: autoencoder, denoiser, sampler and outcome as one thing that can be loaded, asked and saved."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neural_pacman.actions import ACTION_ORDER, NUM_ACTIONS, one_hot
from neural_pacman.autoencoder import LATENT_CHANNELS, LATENT_SIZE, Decoded, FrameAutoencoder
from neural_pacman.denoiser import DENOISERS, Denoiser, fold
from neural_pacman.devices import resolve_device
from neural_pacman.episodes import HISTORY
from neural_pacman.frames import FRAME_SIZE, decode_image
from neural_pacman.outcome import OUTCOMES, POINTS, OutcomeModel
from neural_pacman.sampler import flow_scheduler, sample
from neural_pacman.world_folder import (
    CARD,
    CONFIG,
    NOTICES,
    PICTURES,
    SEEDS,
    WEIGHTS,
    WorldConfig,
    find_world,
    hashes,
    known_worlds,
    model_card,
    read_config,
    replacing,
)

__all__ = ["Outcome", "WorldConfig", "WorldModel", "known_worlds", "resolve_device"]

FRAME = (3, FRAME_SIZE, FRAME_SIZE)
LATENT = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
ENCODE_CHUNK = 8
"""Frames that `predict` encodes at once: enough to fill a processor, few enough for a small memory."""
TO_TENSOR = "neural_pacman.frames.to_tensor makes them of uint8 images"

Model = TypeVar("Model")


class Outcome(NamedTuple):
    """What a step brought, float32 `[B]` each: game points, and the probabilities of a lost life and of the end."""

    points: Tensor
    life_lost: Tensor
    end: Tensor


class WorldModel(nn.Module):
    """A game as a network. Its parts are in eval mode and frozen, and it dreams in float32.

    Args:
        config: what the world says of itself.
        autoencoder, denoiser, outcome, scheduler: its parts.
        seeds_file: dataset of the real histories that dreams start from; copied into a saved world as `seeds.parquet`.
        notices: licence texts by file name (`LICENSE-...`), saved beside it.
    """

    def __init__(
        self,
        config: WorldConfig,
        autoencoder: FrameAutoencoder,
        denoiser: Denoiser,
        outcome: OutcomeModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        seeds_file: Path | None = None,
        notices: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.outcome = outcome
        self.scheduler = scheduler
        self.seeds_file = seeds_file
        self.notices = notices or {}
        self.eval().requires_grad_(False)  # eval matters: the published decoder has batch norm
        for network in (autoencoder.dc, denoiser, outcome):
            network.to(memory_format=torch.channels_last)  # as convolutions want it

    @classmethod
    def create(
        cls,
        size: str,
        background: np.ndarray | None = None,
        name: str = "untrained",
        points: tuple[int, ...] = POINTS,
        other: np.ndarray | None = None,
        signs: np.ndarray | None = None,
        sprites: np.ndarray | None = None,
        ways: np.ndarray | None = None,
        settled_share: float = 0.0,
    ) -> WorldModel:
        """A world of a preset size ("tiny", "compact" or "full") with random weights.

        `background` is the uint8 `[512, 512, 3]` frame whose difference is coded; None codes whole frames. `points` are
        the gains in one step that the outcome tells apart, `other` another look of the background, `signs` and
        `sprites` the looks of what is drawn (see `FrameAutoencoder`), `settled_share` how often dreams settle on these.
        Raises ValueError for an unknown size.
        """
        if size not in DENOISERS:
            raise ValueError(f"There is no size {size!r}; expected one of {', '.join(DENOISERS)}.")
        autoencoder = FrameAutoencoder.create(size, background, other, signs, sprites, ways)
        fold = autoencoder.pixel_unshuffle
        config = WorldConfig(name=name, size=size, pixel_unshuffle=fold, settled_share=settled_share)
        outcome = OutcomeModel(points=list(points), **OUTCOMES[size])
        return cls(config, autoencoder, Denoiser(**DENOISERS[size]), outcome, flow_scheduler())

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], device: str | torch.device = "auto") -> WorldModel:
        """Load a world: a shipped name (`known_worlds()`), a folder, or a Hugging Face hub id (`owner/name`).

        Raises:
            FileNotFoundError: there is no such world, or the hub is out of reach.
            ValueError: the folder is no world, a damaged one (every file's SHA-256 is checked) or one of another
                version, or there is no such device.
        """
        chosen = resolve_device(device)
        folder = find_world(name_or_path)
        config = read_config(folder)
        # Only what was saved with the world, and so checked, belongs to it.
        files = {file: folder / file for file in (*PICTURES, SEEDS) if file in config.weights}
        pictures = (decode_image(files[file].read_bytes()) if file in files else None for file in PICTURES)
        world = cls(
            config,
            FrameAutoencoder(_load_part(AutoencoderDC, folder / "autoencoder"), config.pixel_unshuffle, *pictures),
            _load_part(Denoiser, folder / "denoiser"),
            _load_part(OutcomeModel, folder / "outcome"),
            FlowMatchEulerDiscreteScheduler.from_config(_read_json(folder / "scheduler" / "scheduler_config.json")),
            files.get(SEEDS),
            {file.name: file.read_text(encoding="utf-8") for file in folder.glob(NOTICES)},
        )
        return world.to(chosen)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write the world as a folder, whole or not at all; a world that is there already is replaced.

        `dtype` is that of the stored weights: float16 halves the folder. Raises ValueError for a folder that is not
        empty and not a world, and FileNotFoundError when the seeds have gone from their place.
        """
        parts = {"autoencoder": self.autoencoder.dc, "denoiser": self.denoiser, "outcome": self.outcome}
        with replacing(Path(folder)) as new:
            for name, part in parts.items():
                _save_part(part, new / name, dtype)
            _save_config(self.scheduler, new / "scheduler")
            for name, picture in self._pictures():
                Image.fromarray(picture).save(new / name)
            if self.seeds_file is not None:
                shutil.copyfile(self.seeds_file, new / SEEDS)
            config = dataclasses.replace(self.config, weights=hashes(new))
            sizes = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}
            (new / CARD).write_text(model_card(config, sizes), encoding="utf-8", newline="\n")
            for name, notice in self.notices.items():
                (new / name).write_text(notice, encoding="utf-8", newline="\n")
            (new / CONFIG).write_text(config.to_json(), encoding="utf-8", newline="\n")

    @property
    def device(self) -> torch.device:
        """Where the world runs."""
        return next(self.denoiser.parameters()).device

    @cached_property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the weights and of what else shapes a dream, read once.

        Where the world lies, what it is called and the number of steps, which callers choose, are not part of it.
        """
        settings = (
            self.autoencoder.pixel_unshuffle,
            self.autoencoder.scaling_factor,
            self.scheduler.config.shift,
            self.config.history_noise,
            self.config.settled_share,
            list(self.outcome.config.points),
        )
        tensors = self.state_dict() | {Path(name).stem: torch.from_numpy(picture) for name, picture in self._pictures()}
        digest = hashlib.sha256(str(settings).encode())
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {list(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def predict(
        self,
        frames: Tensor,
        actions: Tensor,
        *,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Dream the frame after a history.

        Args:
            frames: RGB `[B, 32, 3, 512, 512]` in [-1, 1], oldest first.
            actions: one-hot `[B, 32, 5]` (LEFT, RIGHT, UP, DOWN, NO_ACTION); `actions[:, i]` leads out of
                `frames[:, i]`, so the last one leads to the dreamed frame.
            num_inference_steps: passes of the denoiser; the world's own number by default.
            generator: source of the noise; by default a new one, seeded with 0.

        Returns:
            float32 `[B, 3, 512, 512]` in [-1, 1], on the world's device.

        Raises:
            TypeError: frames or actions are no tensors.
            ValueError: their shape, dtype or values are not these.
        """
        _check_shape("frames", frames, ("B", HISTORY, *FRAME))
        _check_shape("actions", actions, (len(frames), HISTORY, NUM_ACTIONS))
        _check_one_hot(actions)
        history = self.encode(frames, chunk=ENCODE_CHUNK)
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        noise = torch.randn(len(frames), *LATENT, generator=generator, device=generator.device).to(self.device)
        return self.decode(self._dream(history, actions.to(self.device).float(), noise, num_inference_steps))

    @torch.no_grad()
    def encode(self, frames: Tensor, chunk: int | Literal["sequence"] | None = None) -> Tensor:
        """Frames `[B, T, 3, 512, 512]` in [-1, 1] as latents float32 `[B, T, 32, 16, 16]`, on the world's device.

        `chunk` bounds the memory, for the same result: None encodes everything at once, "sequence" one sequence of T
        frames at a time, a number so many frames at a time. Raises TypeError for no tensor, ValueError for another
        shape, dtype or range.
        """
        _check_shape("frames", frames, ("B", "T", *FRAME))
        _check_range(frames)
        if chunk != "sequence" and chunk is not None and (not isinstance(chunk, int) or chunk < 1):
            raise ValueError(f'chunk is {chunk!r}; expected None, "sequence" or a number of frames, at least 1.')
        flat = frames.flatten(0, 1)
        size = chunk if isinstance(chunk, int) else frames.shape[1] if chunk == "sequence" else len(flat)
        latents = [self.autoencoder.encode(some.to(self.device, torch.float32)) for some in flat.split(size)]
        return torch.cat(latents).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `[..., 32, 16, 16]` as frames float32 `[..., 3, 512, 512]` in [-1, 1]."""
        _check_shape("latents", latents, (..., *LATENT))
        flat = latents.reshape(-1, *LATENT)
        shown = self.decode_after(self.autoencoder.blank(len(flat)), flat).shown
        return shown.reshape(*latents.shape[:-3], *FRAME)

    @torch.no_grad()
    def follow(self, frames: Tensor, known: Tensor | None = None) -> Tensor:
        """What is known after consecutive recorded frames `[T, 3, 512, 512]` in [-1, 1], oldest first, int16 `[1, M]`:
        what `decode_after` goes by. `known` is that of the frames before them, if there are any."""
        return self.autoencoder.follow(frames.to(self.device), known)

    @torch.no_grad()
    def decode_after(self, known: Tensor, latents: Tensor) -> Decoded:
        """Latents `[B, 32, 16, 16]` as frames, as the network draws them and as they are shown after other ones.

        `known` is what these showed, int16 `[B, M]`, or the autoencoder's `blank`.
        """
        _check_shape("latents", latents, ("B", *LATENT))
        return self.autoencoder.decode_after(known, latents)

    @torch.no_grad()
    def settles(self, noise: Tensor) -> Tensor:
        """Which dreams settle before they are dreamed on with this noise `[B, 32, 16, 16]`, bool `[B]`.

        Their own noise says so, so that a state that was saved and restored goes on as it went on.
        """
        share = self.config.settled_share if self.autoencoder.decides else 0.0
        return noise[:, 0, 0, 0] < torch.special.ndtri(noise.new_tensor(share))

    @torch.no_grad()
    def dream(self, history: Tensor, actions: Tensor, noise: Tensor, num_inference_steps: int | None = None) -> Tensor:
        """The next latent, float32 `[B, 32, 16, 16]`.

        `history` are latents `[B, 32, 32, 16, 16]`, oldest first, `actions` integers `[B, 32]`, `noise` standard normal
        `[B, 32, 16, 16]`. Raises ValueError for other shapes, actions outside 0 to 4 or less than one step.
        """
        _check_shape("history", history, ("B", HISTORY, *LATENT))
        _check_shape("actions", actions, (len(history), HISTORY))
        _check_shape("noise", noise, (len(history), *LATENT))
        return self._dream(history, one_hot(actions), noise, num_inference_steps)

    @torch.no_grad()
    def judge(self, history: Tensor, actions: Tensor, next_latent: Tensor, decoded: Decoded | None = None) -> Outcome:
        """What the step from a history to `next_latent` `[B, 32, 16, 16]` brought; the other arguments are `dream`'s.

        Points are the most probable class, the others probabilities; unless what the latent's frame shows tells, where
        it was `decoded` after the frame before.
        """
        _check_shape("history", history, ("B", HISTORY, *LATENT))
        _check_shape("actions", actions, (len(history), HISTORY))
        _check_shape("next_latent", next_latent, (len(history), *LATENT))
        logits = self.outcome(fold(history), one_hot(actions), next_latent)
        points = torch.tensor(self.outcome.config.points, dtype=torch.float32, device=next_latent.device)
        points, lost, end = points[logits.points.argmax(dim=-1)], logits.life_lost.sigmoid(), logits.end.sigmoid()
        if decoded is not None:
            others = points // self.autoencoder.others * self.autoencoder.others
            points = torch.where(decoded.points < 0, points, decoded.points + others)
            lost, end = torch.maximum(lost, decoded.lost.float()), torch.maximum(end, decoded.over.float())
        return Outcome(points, lost, end)

    def _pictures(self) -> Iterator[tuple[str, np.ndarray]]:
        """The pictures that the autoencoder has, by the name of their file."""
        for name, picture in zip(PICTURES, self.autoencoder.pictures, strict=True):
            if picture is not None:
                yield name, picture

    def _dream(self, history: Tensor, actions: Tensor, noise: Tensor, num_inference_steps: int | None) -> Tensor:
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        level = self.config.history_noise
        return sample(self.denoiser, self.scheduler, noise, fold(history), actions, level, steps)


def _check_shape(name: str, tensor: Any, expected: tuple[Any, ...]) -> None:
    """Refuse another shape than the expected, where a letter stands for any size but 0 and `...` for any beginning."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} has type {type(tensor).__name__}; expected torch.Tensor.")
    sizes = expected[1:] if expected[0] is ... else expected
    shape = tensor.shape[len(tensor.shape) - len(sizes) :] if expected[0] is ... else tensor.shape
    fits = len(shape) == len(sizes) and all(
        given > 0 if isinstance(size, str) else given == size for given, size in zip(shape, sizes, strict=True)
    )
    if not fits:
        wanted = ", ".join("..." if size is ... else str(size) for size in expected)
        raise ValueError(f"{name} has shape {list(tensor.shape)}; expected [{wanted}].")


def _check_range(frames: Tensor) -> None:
    if not frames.is_floating_point():
        raise ValueError(f"frames has dtype {frames.dtype}; expected floats in [-1, 1] ({TO_TENSOR}).")
    if frames.is_meta:
        return  # shapes alone: there are no values
    low, high = (float(bound) for bound in frames.aminmax())
    if not (low >= -1.0001 and high <= 1.0001):  # written so that NaN fails too; the margin is for rounding
        raise ValueError(f"frames has values from {low:g} to {high:g}; expected [-1, 1] ({TO_TENSOR}).")


def _check_one_hot(actions: Tensor) -> None:
    if actions.is_meta:
        return
    if actions.is_complex() or not (((actions == 0) | (actions == 1)).all() and (actions.sum(dim=-1) == 1).all()):
        raise ValueError(
            f"actions is not one-hot; expected a single 1 among {NUM_ACTIONS} ({', '.join(ACTION_ORDER)}), 0 elsewhere "
            "(neural_pacman.actions.one_hot makes it of integers)."
        )


def _save_part(part: nn.Module, folder: Path, dtype: torch.dtype) -> None:
    """Write a model as diffusers does."""
    _save_config(part, folder)
    tensors = {name: _stored(tensor, dtype) for name, tensor in part.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in the dtype it is stored in: its own where it counts (batch norm does) or would overflow."""
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    stored = tensor.to(dtype)
    return stored if stored.isfinite().all() else tensor


def _save_config(part: Any, folder: Path) -> None:
    folder.mkdir()
    config = json.loads(part.to_json_string())
    config.pop("_name_or_path", None)  # where somebody once loaded it from is nobody's business
    # The same bytes on every system: they are hashed.
    (folder / part.config_name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")


def _load_part(model_class: type[Model], folder: Path) -> Model:
    """Read what `_save_part`, or diffusers, wrote, in float32. Every weight must be there: none is left random."""
    with torch.random.fork_rng(devices=[]):  # loading a world must not disturb the caller's random numbers
        model: Any = model_class.from_config(_read_json(folder / "config.json"))  # type: ignore[attr-defined]
    try:
        tensors = load_file(folder / WEIGHTS)
        model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"The weights in {folder} do not fit the config.json beside them: {error}") from error
    return model


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))

"""Train the frame autoencoder: `python -m training.autoencoder --dataset D --run R`.

Frames are mostly black and mostly still, so the loss weights what differs from the background and from its
surroundings, and examples are crops, the richest of a few drawn from each frame. Noise on the latents while training
makes the decoder forgive what a dream gets slightly wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from PIL import Image
from torch import Tensor, nn

from neural_pacman.autoencoder import AUTOENCODERS, COMPRESSION, DEAD_ZONE, FrameAutoencoder
from neural_pacman.command import command
from neural_pacman.episodes import Episode, read_episodes
from neural_pacman.frames import FRAME_SIZE, to_images, to_tensor
from neural_pacman.progress import progress_bar
from neural_pacman.world_folder import PICTURES
from training.looks import find_pictures, read_pictures
from training.loop import Figures, LoopConfig, Size, Trainer, finished
from training.ways import Run, find_ways

RUN = 150
"""Consecutive frames in which it is found where things turn."""


@dataclass
class AutoencoderTraining:
    """Train a frame autoencoder on the frames of one or more datasets."""

    dataset: tuple[str, ...]
    """Folders of parquet files, parquet files or hub ids."""
    run: Path
    """Folder of the run: checkpoint, TensorBoard curves, and `export/`, the trained part."""
    size: Size = "compact"
    """tiny, compact or full."""
    held_out: tuple[int, ...] = ()
    """Episode numbers that must not be read: a world's seeds come from them."""
    frames_in_memory: int = 6000
    """Frames drawn evenly from the datasets and kept decoded (0.8 MB each)."""
    screens: int = 3000
    """Screens, spread evenly over the datasets, in which the looks of what is drawn are found, and as many, in runs of
    consecutive ones, in which it is found where things turn."""
    crop: int = 256
    """Side of the training crops, px; a multiple of 32, 512 for whole frames."""
    active_weight: float = 8.0
    """How much more a pixel counts that differs from the background."""
    absolute_weight: float = 0.1
    """Weight of the absolute error beside the squared one: more of it decides doubtful pellets, less blurs them."""
    latent_noise: float = 0.1
    """Noise added to the latents while training, in their standard deviations."""
    latent_penalty: float = 1e-5
    """Weight of the latents' mean square, which keeps their scale from drifting."""
    train: Literal["all", "decoder"] = "all"
    """all, or the decoder alone: the latents, their caches and the denoisers made for them then stay valid."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=8000, batch_size=32, learning_rate=1.5e-3))


def episodes_of(datasets: tuple[str, ...], held_out: tuple[int, ...]) -> Iterator[Episode]:
    """The episodes of several datasets, without those held out."""
    for dataset in datasets:
        for episode in read_episodes(dataset):
            if episode.number not in held_out:
                yield episode


def draw_frames(datasets: tuple[str, ...], held_out: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """About `count` prepared frames drawn evenly from the datasets' episodes, uint8 `[N, 512, 512, 3]`."""
    episodes = list(episodes_of(datasets, held_out))
    places = [(episode, k) for episode in episodes for k in range(len(episode))]
    if not places:
        raise ValueError(f"No frames are left in {datasets} beside the held-out episodes {held_out}.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(places), min(count, len(places)), replace=False))
    frames = np.empty((len(chosen), FRAME_SIZE, FRAME_SIZE, 3), np.uint8)

    def read(i: int) -> None:
        episode, k = places[chosen[i]]
        frames[i] = episode.frames(k, k + 1)[0]

    with ThreadPoolExecutor() as pool, progress_bar(total=len(chosen), desc="reading frames", unit="frame") as bar:
        for _ in pool.map(read, range(len(chosen))):
            bar.update()
    return frames


class Screens(Sequence[np.ndarray]):
    """About `count` upright screens, uint8 `[H, W, 3]`, read when asked for: two in a row, then another two, and so on,
    spread evenly over the datasets."""

    def __init__(self, datasets: tuple[str, ...], held_out: tuple[int, ...], count: int) -> None:
        pairs = [
            ((episode, k), (episode, min(k + 1, len(episode) - 1)))
            for episode in episodes_of(datasets, held_out)
            for k in range(0, len(episode), 2)
        ]
        chosen = np.linspace(0, len(pairs) - 1, min(max(1, count // 2), len(pairs))).astype(int)
        self.places = [place for i in chosen for place in pairs[i]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: Any) -> Any:
        episode, k = self.places[i]
        return episode.raw(k)


def draw_runs(datasets: tuple[str, ...], held_out: tuple[int, ...], count: int) -> Iterator[Run]:
    """About `count` prepared frames in runs of `RUN` consecutive ones, or whole episodes, spread evenly over the
    datasets: uint8 `[T, 512, 512, 3]` each, and the actions that lead out of them, int64 `[T]`."""
    episodes = list(episodes_of(datasets, held_out))
    chosen = np.linspace(0, len(episodes) - 1, min(-(-count // RUN), len(episodes))).astype(int)
    with progress_bar(total=len(chosen), desc="where things turn", unit="run") as bar:
        for i in chosen.tolist():
            count = min(RUN, len(episodes[i]))
            yield episodes[i].frames(0, count), episodes[i].actions[:count]
            bar.update()


class CropBatches:
    """Draws crops: of three places in a frame, the one that differs most from the background.

    A batch is the difference from the background, folded as the network sees it but with channels last: int16
    `[N, crop / fold, crop / fold, 3 * fold * fold]`.
    """

    def __init__(
        self, frames: np.ndarray, background: np.ndarray | None, crop: int, batch_size: int, fold: int
    ) -> None:
        self.frames, self.crop, self.batch_size, self.fold = frames, crop, batch_size, fold
        self.background = np.zeros(frames.shape[1:], np.uint8) if background is None else background

    def __call__(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        crops = np.empty((self.batch_size, self.crop, self.crop, 3), np.int16)
        places = (FRAME_SIZE - self.crop) // COMPRESSION + 1
        for i in range(self.batch_size):
            frame = self.frames[rng.integers(len(self.frames))]
            richest = -1
            for top, left in rng.integers(0, places, (3 if places > 1 else 1, 2)) * COMPRESSION:
                part = (slice(top, top + self.crop), slice(left, left + self.crop))
                difference = frame[part].astype(np.int16) - self.background[part]
                content = int(np.count_nonzero(difference[::3, ::3]))
                if content > richest:
                    richest, crops[i] = content, difference
        n, side, fold = self.batch_size, self.crop // self.fold, self.fold
        folded = crops.reshape(n, side, fold, side, fold, 3).transpose(0, 1, 3, 5, 2, 4)
        return {"difference": folded.reshape(n, side, side, -1)}


class AutoencoderLoss:
    """Weighted squared and absolute error of a crop seen through noisy latents."""

    def __init__(self, config: AutoencoderTraining) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Figures]:
        assert isinstance(model, FrameAutoencoder)
        target = batch["difference"].float() / 127.5
        with torch.set_grad_enabled(self.config.train == "all"):
            latents = model.encode_folded(target.movedim(-1, 1)).float()
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        noisy = latents + self.config.latent_noise * latents.detach().std() * noise
        shown = model.decode_folded(noisy).movedim(1, -1).float()
        error = shown - target
        if model.background is not None:
            # What differs is asked to stand clear of the dead zone; where nothing does, anything within it is right.
            shown = F.softshrink(shown, DEAD_ZONE)
            differs = target.abs() > DEAD_ZONE / 2
            error = torch.where(differs, error - DEAD_ZONE * target.sign(), shown - target)
        # The strongest of a pixel's colours; what is shown and should not be counts like what should be and is not.
        strongest = torch.maximum(target.abs(), shown.detach().abs()).unflatten(-1, (3, -1)).amax(-2, keepdim=True)
        weight = 1 + self.config.active_weight * (strongest > 0.05).float()
        weight = weight / weight.mean()
        squares = error.square()
        squared = (weight * squares.unflatten(-1, (3, -1))).mean()
        absolute = (weight * error.abs().unflatten(-1, (3, -1))).mean()
        loss = squared + self.config.absolute_weight * absolute + self.config.latent_penalty * latents.square().mean()
        mse = squares.detach().mean() / 4  # of frames on a scale of 0 to 1
        return loss, {"psnr": -10 * torch.log10(mse), "latent_std": latents.detach().std()}


@torch.no_grad()
def set_scaling_factor(model: FrameAutoencoder, frames: np.ndarray) -> None:
    """Make the latents' standard deviation 1 over some frames."""
    model.scaling_factor = 1.0
    device = next(model.parameters()).device
    latents = [model.encode(to_tensor(frames[i : i + 8]).to(device)).float() for i in range(0, len(frames), 8)]
    model.scaling_factor = 1.0 / float(torch.cat(latents).std())


def main(config: AutoencoderTraining) -> None:
    """Train to the end; nothing is read when that has been done.

    Raises ValueError for a decoder to be trained without an encoder to keep.
    """
    init = config.loop.init
    kept = init if config.train == "decoder" else None
    if config.train == "decoder" and kept is None:
        raise ValueError("--train decoder keeps an encoder, and none is given; say which with --loop.init.")
    identity = {
        "stage": "autoencoder",
        "size": config.size,
        "dataset": list(config.dataset),
        "held_out": list(config.held_out),
    }
    if finished(config.run, identity, config.loop):
        return
    torch.manual_seed(config.loop.seed)
    frames = draw_frames(config.dataset, config.held_out, config.frames_in_memory, config.loop.seed)
    pictures = read_pictures(init) if init else (None,) * len(PICTURES)
    if pictures[0] is not None or (not kept and AUTOENCODERS[config.size].pixel_unshuffle > 1):
        pictures = find_pictures(frames, Screens(config.dataset, config.held_out, config.screens), pictures)
    if pictures[-1] is None and pictures[-2] is not None:
        model = FrameAutoencoder.create(config.size, *pictures)
        pictures = *pictures[:-1], find_ways(model, draw_runs(config.dataset, config.held_out, config.screens))
    background = pictures[0]
    model = FrameAutoencoder.create(config.size, *pictures)
    if kept:
        model.dc.encoder.requires_grad_(False)
        model.scaling_factor = float(AutoencoderDC.load_config(kept)["scaling_factor"])
    shown = frames[np.linspace(0, len(frames) - 1, 24).astype(int)]

    @torch.no_grad()
    def sample(module: nn.Module) -> dict[str, np.ndarray]:
        assert isinstance(module, FrameAutoencoder)
        given = to_tensor(shown[::12]).to(next(module.parameters()).device)
        seen = to_images(module.decode(module.encode(given)))
        return {
            "real above reconstruction": np.concatenate([np.concatenate(list(f), 1) for f in (shown[::12], seen)], 0)
        }

    def export(module: nn.Module, folder: Path) -> None:
        assert isinstance(module, FrameAutoencoder)
        if not kept:
            set_scaling_factor(module, shown)
        module.save(folder)
        for name, picture in zip(PICTURES, pictures, strict=True):
            if picture is not None:
                Image.fromarray(picture).save(folder / name)

    batches = CropBatches(frames, background, config.crop, config.loop.batch_size, model.pixel_unshuffle)
    Trainer(config.run, model, AutoencoderLoss(config), batches, config.loop, identity, export, sample).train()


if __name__ == "__main__":
    command(main, AutoencoderTraining)

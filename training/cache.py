"""Encode datasets once: `python -m training.cache --dataset D --autoencoder A --out C`.

The cache is what the denoiser and the outcome model read: memory-mapped latents and what goes with each state. It
carries a key of its datasets, their formats and the autoencoder's weights, and a cache made from others is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from tqdm import tqdm

from neural_pacman.actions import Action
from neural_pacman.autoencoder import AUTOENCODERS, LATENT_CHANNELS, LATENT_SIZE, FrameAutoencoder
from neural_pacman.devices import resolve_device
from neural_pacman.episodes import HISTORY, Episode
from neural_pacman.frames import to_tensor
from training.autoencoder import episodes_of
from training.loop import STAGE, auto_precision

FRAME_SHAPE = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
FRAME_BYTES = 2 * int(np.prod(FRAME_SHAPE))
LATENTS, EPISODES, KEY = "latents.bin", "episodes.jsonl", "key.json"


@dataclass
class CacheBuilding:
    """Encode the frames of one or more datasets with a trained autoencoder."""

    dataset: tuple[str, ...]
    """Folders of parquet files, parquet files or hub ids."""
    autoencoder: Path
    """A trained autoencoder: the `export/` folder of its run."""
    out: Path
    """Folder of the cache, 16 kB a frame; an unfinished one is taken up where it stopped."""
    held_out: tuple[int, ...] = ()
    """Episode numbers that must not be read."""
    batch_size: int = 16
    """Frames encoded at once."""
    precision: str = "auto"
    """fp32, bf16, or auto."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""


def load_autoencoder(folder: Path) -> FrameAutoencoder:
    """A trained autoencoder from its stage's export folder."""
    stage = folder / STAGE
    if not stage.exists():
        raise FileNotFoundError(
            f"No trained autoencoder at {folder}; expected the export/ folder of an autoencoder run."
        )
    size = json.loads(stage.read_text())["identity"]["size"]
    picture = folder / "background.png"
    background = np.array(Image.open(picture).convert("RGB")) if picture.exists() else None
    model = FrameAutoencoder.load(folder, AUTOENCODERS[size].pixel_unshuffle, background)
    return model.eval().requires_grad_(False)


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build_cache(config: CacheBuilding) -> Cache:
    """Encode every episode that the cache does not hold yet, in order."""
    weights = config.autoencoder / "diffusion_pytorch_model.safetensors"
    model = load_autoencoder(config.autoencoder)
    device = resolve_device(config.device)
    model.to(device)
    precision = auto_precision(device) if config.precision == "auto" else config.precision
    key = {
        "dataset": list(config.dataset),
        "held_out": sorted(config.held_out),
        "autoencoder": file_hash(weights),
        "scaling_factor": model.scaling_factor,
        "format": None,
    }
    config.out.mkdir(parents=True, exist_ok=True)
    key_file, index_file, latents_file = (config.out / name for name in (KEY, EPISODES, LATENTS))
    done: list[dict[str, object]] = []
    if key_file.exists():
        held = json.loads(key_file.read_text())
        if {**held, "format": None, "complete": None} != {**key, "complete": None}:
            raise ValueError(
                f"{config.out} was made from {held}; now asked for {key}. Delete it or give another folder."
            )
        done = [json.loads(line) for line in index_file.read_text().splitlines()] if index_file.exists() else []
        if held["complete"]:
            return Cache(config.out)
    write_json(key_file, {**key, "complete": False})
    written = sum(int(str(entry["states"])) for entry in done)
    format_seen = None
    with latents_file.open("ab") as file, index_file.open("a") as index, ThreadPoolExecutor() as pool:
        file.truncate(written * FRAME_BYTES)
        bar = tqdm(desc="encoding", unit="frame", initial=written)
        for number, episode in enumerate(episodes_of(config.dataset, config.held_out)):
            format_seen = episode.format
            if number < len(done):
                continue
            for start in range(0, len(episode), config.batch_size):
                stop = min(start + config.batch_size, len(episode))
                frames = np.concatenate(list(pool.map(lambda k, e=episode: e.frames(k, k + 1), range(start, stop))))  # type: ignore[misc]
                with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    latents = model.encode(to_tensor(frames).to(device))
                file.write(latents.float().cpu().numpy().astype(np.float16).tobytes())
                bar.update(stop - start)
            file.flush()
            os.fsync(file.fileno())
            index.write(json.dumps(_entry(episode)) + "\n")
            index.flush()
        bar.close()
    write_json(key_file, {**key, "format": asdict(format_seen) if format_seen else None, "complete": True})
    return Cache(config.out)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1))
    os.replace(partial, path)


def _entry(episode: Episode) -> dict[str, object]:
    """What goes with each state of an episode, as lists."""
    lives = episode.labels.get("lives")
    lost = None if lives is None else [bool(x) for x in np.append(lives[1:] < lives[:-1], False)]
    return {
        "episode": episode.number,
        "states": len(episode),
        "actions": episode.actions.tolist(),
        "rewards": None if episode.rewards is None else episode.rewards.tolist(),
        "dones": None if episode.dones is None else episode.dones.tolist(),
        "life_lost": lost,
    }


class Cache:
    """Latents of many states and what goes with them, read from a folder.

    Attributes:
        latents: float16 memory map `[N, 32, 16, 16]`, scaled.
        actions: int64 `[N]`; rewards float32 `[N]` (NaN where unknown); dones, life_lost int8 `[N]` (-1 where unknown).
        first, last: for each state, the first and last state of its episode.

    Raises FileNotFoundError or ValueError when there is no whole cache in the folder.
    """

    def __init__(self, folder: Path) -> None:
        key_file = folder / KEY
        if not key_file.exists() or not json.loads(key_file.read_text())["complete"]:
            raise FileNotFoundError(f"No finished cache in {folder}; run `python -m training.cache` (it resumes).")
        self.folder, self.key = folder, json.loads(key_file.read_text())
        entries = [json.loads(line) for line in (folder / EPISODES).read_text().splitlines()]
        counts = np.array([entry["states"] for entry in entries])
        total = int(counts.sum())
        self.latents = np.memmap(folder / LATENTS, np.float16, "r", shape=(total, *FRAME_SHAPE))
        starts = np.cumsum(counts) - counts
        self.first, self.last = np.repeat(starts, counts), np.repeat(starts + counts - 1, counts)
        self.episodes = np.repeat([entry["episode"] for entry in entries], counts)

        def column(name: str, unknown: float, kind: type) -> np.ndarray:
            return np.concatenate(
                [np.array(e[name] if e[name] is not None else [unknown] * e["states"], kind) for e in entries]
            )

        self.actions = column("actions", Action.NO_ACTION, np.int64)
        self.rewards = column("rewards", np.nan, np.float32)
        self.dones, self.life_lost = column("dones", -1, np.int8), column("life_lost", -1, np.int8)

    def __len__(self) -> int:
        return len(self.latents)

    def check_autoencoder(self, folder: Path) -> None:
        """Raise ValueError unless the cache was made with this autoencoder."""
        given = file_hash(folder / "diffusion_pytorch_model.safetensors")
        if given != self.key["autoencoder"]:
            raise ValueError(
                f"The cache {self.folder} was encoded with another autoencoder ({self.key['autoencoder'][:12]}) than "
                f"{folder} ({given[:12]}); make it again with `python -m training.cache`."
            )

    def windows(
        self, ends: np.ndarray, following: int, shown: np.ndarray | None = None, history: int = HISTORY
    ) -> tuple[np.ndarray, np.ndarray]:
        """Histories that end at states `ends` `[B]`, and the `following` states after them.

        Returns float16 latents `[B, history + following, 32, 16, 16]` and int64 actions `[B, history + following]`, each of
        which leads out of its latent. A history that would reach beyond its episode, or beyond its newest `shown` `[B]`
        states, repeats its first state with NO_ACTION, as a dream that starts from few frames does.
        """
        places = ends[:, None] + np.arange(1 - history, following + 1)
        earliest = self.first[ends]
        if shown is not None:
            earliest = np.maximum(earliest, ends + 1 - shown)
        before = places < earliest[:, None]
        places = np.where(before, earliest[:, None], places)
        return self.latents[places], np.where(before, Action.NO_ACTION, self.actions[places])


if __name__ == "__main__":
    build_cache(tyro.cli(CacheBuilding))

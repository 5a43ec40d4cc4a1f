"""Encode datasets once: `python -m training.cache --dataset D --autoencoder A --out C`.

The cache is what the denoiser and the outcome model read: memory-mapped latents and what goes with each state. It
carries a key of its datasets, their formats and the autoencoder's weights, and a cache made from others is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch import Tensor

from neural_pacman.actions import Action
from neural_pacman.autoencoder import AUTOENCODERS, LATENT_CHANNELS, LATENT_SIZE, FrameAutoencoder
from neural_pacman.command import command
from neural_pacman.devices import resolve_device
from neural_pacman.episodes import HISTORY, Episode, parquet_files
from neural_pacman.frames import to_tensor
from neural_pacman.progress import progress_bar
from neural_pacman.world_folder import BACKGROUND
from training.autoencoder import episodes_of
from training.checkpoint import WEIGHTS, read_state
from training.looks import read_pictures
from training.loop import Precision, as_json, auto_precision
from training.mirror import Mirror

FRAME_SHAPE = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
FRAME_BYTES = 2 * int(np.prod(FRAME_SHAPE))
AHEAD = 4
"""Batches that are decoded ahead."""
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
    precision: Precision = "auto"
    """fp32, bf16, or auto."""
    device: str = "auto"
    """cuda, mps, cpu, or auto."""
    mirror: Mirror = field(default_factory=Mirror)
    """The mirror image of every episode, to be encoded too."""

    def frames_of(self, rows: int) -> int:
        """How many frames are encoded of so many rows."""
        return 2 * rows if self.mirror.rows else rows


def load_autoencoder(folder: Path) -> FrameAutoencoder:
    """A trained autoencoder from its stage's export folder; FileNotFoundError or ValueError when it is none."""
    state = read_state(folder)
    if state is None:
        raise FileNotFoundError(
            f"No trained autoencoder at {folder}; expected the export/ folder of an autoencoder run."
        )
    if state["identity"].get("stage") != "autoencoder":
        raise ValueError(f"{folder} holds a trained {state['identity'].get('stage')}; expected a trained autoencoder.")
    fold = AUTOENCODERS[state["identity"]["size"]].pixel_unshuffle
    model = FrameAutoencoder.load(folder, fold, *read_pictures(folder))
    return model.eval().requires_grad_(False)


def encode(model: FrameAutoencoder, frames: np.ndarray, precision: Precision) -> np.ndarray:
    """Prepared frames uint8 `[N, 512, 512, 3]` as scaled latents float16 `[N, 32, 16, 16]`, on the model's device."""
    device = next(model.parameters()).device
    bf16 = (auto_precision(device) if precision == "auto" else precision) == "bf16"
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        latents = model.encode(to_tensor(frames, device))
    return latents.float().cpu().numpy().astype(np.float16)


def build_cache(config: CacheBuilding) -> Cache:
    """Encode every episode that the cache does not hold yet, in order.

    Raises ValueError for the cache of another dataset or autoencoder, or when no frame is left beside those held out.
    """
    model = load_autoencoder(config.autoencoder).to(resolve_device(config.device))
    key = {
        "dataset": list(config.dataset),
        "held_out": sorted(config.held_out),
        "autoencoder": encoder_hash(config.autoencoder),
        "scaling_factor": model.scaling_factor,
        "format": None,
    }
    if config.mirror.rows:
        key["mirror"] = as_json(asdict(config.mirror))
    config.out.mkdir(parents=True, exist_ok=True)
    key_file, index_file, latents_file = (config.out / name for name in (KEY, EPISODES, LATENTS))
    done: list[dict[str, Any]] = []
    if key_file.exists():
        held = json.loads(key_file.read_text(encoding="utf-8"))
        if {**held, "format": None, "complete": None} != {**key, "complete": None}:
            raise ValueError(
                f"{config.out} was made from {held}; now asked for {key}. Delete it or give another folder."
            )
        if held["complete"]:
            return Cache(config.out)
        done = _take_up(index_file, latents_file)
    write_json(key_file, {**key, "complete": False})
    written = sum(entry["states"] for entry in done)
    format_seen = None
    rows = count_rows(config.dataset, config.held_out)
    total = None if rows is None else config.frames_of(rows)
    with (
        latents_file.open("ab") as file,
        index_file.open("a" if done else "w", encoding="utf-8") as index,
        ThreadPoolExecutor() as pool,
        progress_bar(desc="encoding", unit="frame", initial=written, total=total) as bar,
    ):
        file.truncate(written * FRAME_BYTES)
        for number, episode in enumerate(_episodes(config)):
            format_seen = episode.format
            if number < len(done):
                continue
            for frames in _read(pool, episode, config.batch_size):
                file.write(encode(model, frames, config.precision).tobytes())
                bar.update(len(frames))
            file.flush()
            os.fsync(file.fileno())
            index.write(json.dumps(_entry(episode)) + "\n")
            index.flush()
    if format_seen is None:
        raise ValueError(f"No frames are left in {config.dataset} beside the held-out episodes {config.held_out}.")
    write_json(key_file, {**key, "format": asdict(format_seen), "complete": True})
    return Cache(config.out)


def _episodes(config: CacheBuilding) -> Iterator[Episode]:
    """The episodes to encode, each followed by its mirror image if that is wanted."""
    for episode in episodes_of(config.dataset, config.held_out):
        yield episode
        if config.mirror.rows:
            yield config.mirror(episode)


def count_rows(datasets: tuple[str, ...], held_out: tuple[int, ...] = ()) -> int | None:
    """Rows of local datasets without the episodes held out; None when one of them is on the hub.

    Raises what `parquet_files` does, and ValueError when there is no column `episode`.
    """
    files = [parquet_files(dataset) for dataset in datasets]
    if not all(files):
        return None
    rows = 0
    for file in (file for part in files for file in part):
        table = pq.ParquetFile(file).read(columns=["episode"])
        if not table.column_names:
            raise ValueError(f"{file} has columns {pq.read_schema(file).names}; missing 'episode'.")
        rows += int((~np.isin(table["episode"].to_numpy(), held_out)).sum())
    return rows


def encoder_hash(autoencoder: Path) -> str:
    """Hexadecimal SHA-256 of what a trained autoencoder makes latents with; a decoder trained further leaves it be."""
    digest = hashlib.sha256()
    weights = load_file(autoencoder / WEIGHTS)
    for name in sorted(weights):
        if name.startswith("encoder."):
            digest.update(name.encode() + weights[name].float().numpy().tobytes())  # however they are stored
    background = autoencoder / BACKGROUND
    if background.exists():
        digest.update(background.read_bytes())
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(partial, path)


def _read(pool: Executor, episode: Episode, batch_size: int) -> Iterator[np.ndarray]:
    """An episode's states as batches of prepared frames, decoded side by side while the batch before is encoded."""
    batches = deque[list[Future[np.ndarray]]]()
    for start in range(0, len(episode), batch_size):
        states = range(start, min(start + batch_size, len(episode)))
        batches.append([pool.submit(episode.frames, k, k + 1) for k in states])
        if len(batches) > AHEAD:
            yield np.concatenate([frame.result() for frame in batches.popleft()])
    for batch in batches:
        yield np.concatenate([frame.result() for frame in batch])


def _take_up(index: Path, latents: Path) -> list[dict[str, Any]]:
    """The episodes of an unfinished cache that are there as a whole; what a kill left of another is cut off."""
    if not index.exists():
        return []
    held = latents.stat().st_size // FRAME_BYTES if latents.exists() else 0
    entries: list[dict[str, Any]] = []
    whole = 0
    for line in index.read_bytes().splitlines(keepends=True):
        entry = json.loads(line) if line.endswith(b"\n") else None
        if entry is None or entry["states"] > held:
            break
        entries.append(entry)
        held -= entry["states"]
        whole += len(line)
    os.truncate(index, whole)
    return entries


def _entry(episode: Episode) -> dict[str, Any]:
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
        latents: float16 `[N, 32, 16, 16]`, scaled: a memory map, or a tensor in a GPU's memory (see `keep_on`).
        actions: int64 `[N]`; rewards float32 `[N]` (NaN where unknown); dones, life_lost int8 `[N]` (-1 where unknown).
        first, last: for each state, the first and last state of its episode.

    Raises FileNotFoundError or ValueError when there is no whole cache in the folder.
    """

    def __init__(self, folder: Path) -> None:
        key_file = folder / KEY
        self.folder = folder
        self.key = json.loads(key_file.read_text(encoding="utf-8")) if key_file.exists() else {"complete": False}
        if not self.key["complete"]:
            raise FileNotFoundError(f"No finished cache in {folder}; run `python -m training.cache` (it resumes).")
        entries = [json.loads(line) for line in (folder / EPISODES).read_text(encoding="utf-8").splitlines()]
        counts = np.array([entry["states"] for entry in entries])
        total = int(counts.sum())
        size = (folder / LATENTS).stat().st_size
        if size != total * FRAME_BYTES:
            raise ValueError(
                f"{folder / LATENTS} has {size} bytes; expected {total * FRAME_BYTES}, {FRAME_BYTES} for each of its "
                f"{total} states. Delete {folder} and make it again with `python -m training.cache`."
            )
        self.latents: np.ndarray | Tensor = np.memmap(folder / LATENTS, np.float16, "r", shape=(total, *FRAME_SHAPE))
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

    def keep_on(self, device: torch.device) -> None:
        """Keep the latents in a GPU's memory if they take less than half of what is free there: no batch waits then."""
        if device.type == "cuda" and FRAME_BYTES * len(self) < torch.cuda.mem_get_info(device)[0] / 2:
            self.latents = torch.from_numpy(np.array(self.latents)).to(device)

    def identity(self, stage: str, size: str) -> dict[str, Any]:
        """What makes a run on this cache that run and no other."""
        return {
            "stage": stage,
            "size": size,
            "autoencoder": self.key["autoencoder"],
            "dataset": self.key["dataset"],
        }

    def windows(
        self, ends: np.ndarray, following: int, shown: np.ndarray | None = None, history: int = HISTORY
    ) -> tuple[np.ndarray | Tensor, np.ndarray]:
        """Histories that end at states `ends` `[B]`, and the `following` states after them.

        Returns float16 latents `[B, history + following, 32, 16, 16]` and int64 actions `[B, history + following]`,
        each of which leads out of its latent. A history that would reach beyond its episode, or beyond its newest
        `shown` `[B]` states, repeats its first state with NO_ACTION, as a dream that starts from few frames does.
        """
        places = ends[:, None] + np.arange(1 - history, following + 1)
        earliest = self.first[ends]
        if shown is not None:
            earliest = np.maximum(earliest, ends + 1 - shown)
        before = places < earliest[:, None]
        places = np.where(before, earliest[:, None], places)
        return self.latents[places], np.where(before, Action.NO_ACTION, self.actions[places])


if __name__ == "__main__":
    command(build_cache, CacheBuilding)

"""Take a world apart, to train it further: `python -m training.take_apart --world W --out PARTS`.

Each part becomes a folder as its stage exports it, for `--loop.init` of a new run, for `python -m training.cache` and
for `python -m training.assemble`, whichever parts are new and whichever are kept.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_pacman.command import command
from neural_pacman.world_folder import PARTS, PICTURES, SEEDS, find_world, read_config
from training.cache import encoder_hash
from training.checkpoint import STAGE, replacing


@dataclass
class TakingApart:
    """Make the folders of its parts from a world."""

    world: str
    """A shipped world's name, a world's folder, or a hub id."""
    out: Path
    """Folder to write: a folder for each part, and the world's `seeds.parquet` if it has any."""


def main(config: TakingApart) -> None:
    """Write the parts; those that are there already are replaced.

    Raises what `find_world` and `read_config` do when there is no such world or it is damaged.
    """
    world = find_world(config.world)
    said = read_config(world)
    for name in PARTS:
        with replacing(config.out / name) as folder:
            shutil.copytree(world / name, folder)
            if name == "autoencoder":
                for picture in PICTURES:
                    if picture in said.weights:
                        shutil.copyfile(world / picture, folder / picture)
            code = {} if name == "autoencoder" else {"autoencoder": encoder_hash(config.out / "autoencoder")}
            identity: dict[str, Any] = {"stage": name, "size": said.size, "dataset": [said.name], **code}
            state = {"step": 0, "elapsed": 0.0, "identity": identity}
            (folder / STAGE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    if SEEDS in said.weights:
        shutil.copyfile(world / SEEDS, config.out / SEEDS)


if __name__ == "__main__":
    command(main, TakingApart)

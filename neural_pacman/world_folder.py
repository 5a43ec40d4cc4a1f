"""A world on disk: what its `world.json` says, where worlds are found, and that a folder is whole before it is used.

world.json                  WorldConfig, with the SHA-256 of every file below but the last two
background.png              the frame whose difference the autoencoder codes (a world may have none)
other.png                   the other look, or both, of some of its spots, and what these bring (a world may have none)
signs.png, sprites.png      the looks of what is drawn, as `neural_pacman.looks` reads them (a world may have none)
ways.png                    where what moves may turn, as `neural_pacman.ways` reads it (a world may have none)
autoencoder/, denoiser/, outcome/
                            config.json and diffusion_pytorch_model.safetensors each, as diffusers writes them
scheduler/scheduler_config.json
seeds.parquet               real histories that dreams start from (a world may have none)
README.md                   the model card, made from world.json
LICENSE*                    notices of those whose pictures the world carries
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from neural_pacman.actions import ACTION_ORDER

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "worlds"
CONFIG = "world.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
BACKGROUND = "background.png"
OTHER = "other.png"
SIGNS = "signs.png"
SPRITES = "sprites.png"
WAYS = "ways.png"
PICTURES = (BACKGROUND, OTHER, SIGNS, SPRITES, WAYS)
SEEDS = "seeds.parquet"
CARD = "README.md"
NOTICES = "LICENSE*"
PARTS = ("autoencoder", "denoiser", "outcome")
NEEDED = (*(f"{part}/{file}" for part in PARTS for file in ("config.json", WEIGHTS)), "scheduler/scheduler_config.json")


@dataclass(frozen=True)
class WorldConfig:
    """What a world says of itself.

    Attributes:
        name: what people call it.
        size: "tiny", "compact" or "full".
        pixel_unshuffle: side of the pixel blocks folded into channels in front of the autoencoder (1: none).
        num_inference_steps: passes of the denoiser for a frame unless the caller asks for another number.
        history_noise: level of noise in [0, 1] that the denoiser is told the dreamed history has.
        settled_share: share of the steps, drawn by each dream's own noise, before which its latents settle
            (`DreamEngine`).
        frames_per_second: dreamed frames a second of play.
        action_order: names of the actions 0 to 4.
        description: Markdown for the model card: how the world was made and what it cannot do.
        held_out_episodes: what no trainer read, as `{"dataset": name, "episodes": [numbers]}` each.
        scores: measured figures by name.
        weights: SHA-256 of each file by its path in the folder; `save_pretrained` fills it in.
        format_version: of the folder's layout.
    """

    name: str
    size: str
    pixel_unshuffle: int = 1
    num_inference_steps: int = 2
    history_noise: float = 0.1
    settled_share: float = 0.0
    frames_per_second: int = 15
    action_order: tuple[str, ...] = ACTION_ORDER
    description: str = ""
    held_out_episodes: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.settled_share <= 1:
            raise ValueError(f"settled_share is {self.settled_share}; expected a share of the steps, 0 to 1")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> WorldConfig:
        """Raises ValueError for anything that this version cannot dream by."""
        values = json.loads(text)  # its JSONDecodeError is a ValueError
        if not isinstance(values, dict) or "format_version" not in values:
            raise ValueError("no format_version; expected the world.json of a world")
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"format version {values['format_version']!r}; this neural-pacman reads {FORMAT_VERSION}. Update "
                "neural-pacman, or save the world again with it"
            )
        if unknown := values.keys() - {known.name for known in fields(cls)}:
            raise ValueError(f"unknown entries {sorted(unknown)}")
        if missing := {"name", "size", "weights"} - values.keys():
            raise ValueError(f"no entries {sorted(missing)}")
        if not isinstance(values["weights"], dict):
            raise ValueError("weights is no table of file paths and their SHA-256")
        if values.setdefault("action_order", list(ACTION_ORDER)) != list(ACTION_ORDER):
            raise ValueError(f"action order {values['action_order']}; expected {list(ACTION_ORDER)}")
        return cls(**values | {"action_order": ACTION_ORDER})


def known_worlds() -> list[str]:
    """Names of the worlds that come with the package."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{CONFIG}"))


def find_world(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a shipped name, a folder, or a Hugging Face hub id (`owner/name`, downloaded and cached).

    A shipped name wins over a folder of that name: write `./name` for the folder. Raises FileNotFoundError when it is
    none of them or the hub does not give it, and ValueError for a file.
    """
    name = os.fspath(name_or_path)
    if name in known_worlds():
        return SHIPPED / name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"{folder} is a file; expected the folder of a world.")
    if isinstance(name_or_path, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return _download(name)
    raise FileNotFoundError(f"There is no world {name!r}. {_alternatives()}")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    files = [CONFIG, *NEEDED, *PICTURES, SEEDS, CARD, NOTICES]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files))
    except Exception as error:  # whatever the network, the proxy, the hub or its client came up with
        reason = str(error).strip().splitlines() or [""]
        raise FileNotFoundError(
            f"There is no folder {hub_id!r} here, and the Hugging Face hub did not give a world of that id "
            f"({type(error).__name__}: {reason[0]}). Check id and connection, or do without. {_alternatives()}"
        ) from error


def _alternatives() -> str:
    return (
        f"Give a world that comes with neural-pacman ({', '.join(known_worlds()) or 'this copy has none'}), "
        "the path of a world's folder, or a Hugging Face hub id (owner/name)."
    )


def read_config(folder: Path) -> WorldConfig:
    """The config of the world in a folder, once every file that it names is there and is the one that was saved.

    Raises ValueError for a folder that is no world, a damaged one or one of another version.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ValueError(
            f"{folder} is not a world: it has no {CONFIG}. Expected a folder that WorldModel.save_pretrained wrote."
        )
    try:
        config = WorldConfig.from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"The world in {folder} cannot be used: {CONFIG}: {error}.") from error
    faults = [f"{CONFIG} names no SHA-256 for {path}" for path in NEEDED if path not in config.weights]
    for path, expected in config.weights.items():
        if not (folder / path).is_file():
            faults.append(f"{path} is missing")
        elif sha256(folder / path) != expected:
            faults.append(f"{path} is not the file that was saved (its SHA-256 differs from {CONFIG}'s)")
    if faults:
        raise ValueError(f"The world in {folder} is damaged: {'; '.join(faults)}. Copy or download it again.")
    return config


@contextmanager
def replacing(folder: Path, mark: str = CONFIG, kind: str = "world") -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends, and vanishes when it raises.

    `mark` is the file that tells a folder of this `kind`. A process killed in between leaves the former one, the new
    one, or (between two renames) none under that name and both whole beside it; the next call clears up. Raises
    ValueError rather than replace anything else.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder / mark).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and is not a {kind}; expected a new or empty folder, or a {kind} to replace."
        )
    unfinished, former = (folder.with_name(f".{folder.name}.{state}") for state in ("unfinished", "former"))
    if former.exists() and not folder.exists():
        former.rename(folder)
    for left_over in (unfinished, former):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rename(former)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if former.exists() and not folder.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path there with forward slashes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def model_card(config: WorldConfig, num_parameters: dict[str, int]) -> str:
    """A world's README.md: what it is, how to use it, what it scored. `num_parameters` by part."""
    parts = "\n".join(f"| {part} | {count:,} |" for part, count in num_parameters.items())
    sections = [
        "---\nlicense: mit\nlibrary_name: diffusers\ntags: [world-model, pac-man, gymnasium]\n---",
        f"# {config.name}",
        "A neural network that dreams Pac-Man: from the last 32 frames and actions it makes the next frame, "
        f"{config.frames_per_second} a second of play. A `{config.size}` world of neural-pacman, in diffusers' layout.",
        "```python\nfrom neural_pacman import WorldModel\n\nworld = WorldModel.from_pretrained(this_folder)\n```",
        config.description,
        f"| part | parameters |\n|---|---:|\n{parts}",
    ]
    if config.scores:
        rows = "\n".join(f"| {name} | {score} |" for name, score in config.scores.items())
        sections += ["## Scores", f"| measure | score |\n|---|---:|\n{rows}"]
    if config.held_out_episodes:
        rows = "\n".join(
            f"- `{held_out.get('dataset', '?')}`: episodes {', '.join(map(str, held_out.get('episodes', [])))}"
            for held_out in config.held_out_episodes
        )
        sections += ["## Held out", f"No trainer read these episodes:\n\n{rows}"]
    return "\n\n".join(section for section in sections if section) + "\n"

"""A dataset of recorded play, as episodes and windows; and written, as one parquet file.

The public schema (`Tahahah/PacmanDataset_3`) has three conventions that a reader must undo, and `DatasetFormat`
states them: images are stored transposed, row `i + 1` shows the state that `action[i]` leads out of, and an episode's
first row shows the last state of the episode before it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from neural_pacman.actions import ACTION_ORDER, Action, check_actions
from neural_pacman.files import UnfinishedFile
from neural_pacman.frames import decode_image, prepare

HISTORY = 32
"""Frames, and actions, that a dreamed frame is made from."""

FORMAT_KEY = b"neural_pacman.format"
"""Parquet schema metadata under which a dataset of ours states its `DatasetFormat`."""

REQUIRED_COLUMNS = ("episode", "frame_image", "action")
STEP_COLUMNS = ("reward", "done")
"""Columns that describe the step out of a state; every other extra column describes the state itself."""


@dataclass(frozen=True)
class DatasetFormat:
    """How rows of a dataset are to be read. The defaults are the public dataset's.

    Attributes:
        transposed: images are stored with height and width exchanged.
        action_lag: row `i + action_lag` shows the state that `action[i]` leads out of (0 or 1).
        stale_first_row: an episode's row 0 shows the last state of the episode before it.
        action_order: the names of actions 0 to 4.
        frame_height, frame_width: size of the upright screen, px.
        frames_per_second: rows a second of play.
    """

    transposed: bool = True
    action_lag: int = 1
    stale_first_row: bool = True
    action_order: tuple[str, ...] = ACTION_ORDER
    frame_height: int = 552
    frame_width: int = 456
    frames_per_second: int = 15

    def __post_init__(self) -> None:
        if (self.action_lag, self.stale_first_row) not in ((0, False), (1, True)):
            raise ValueError(
                f"action_lag={self.action_lag} with stale_first_row={self.stale_first_row}; expected 1 with True "
                "(the public dataset) or 0 with False (actions in place)."
            )
        if sorted(self.action_order) != sorted(ACTION_ORDER):
            raise ValueError(f"action_order is {self.action_order}; expected the names {ACTION_ORDER} in some order.")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> DatasetFormat:
        fields = json.loads(text)
        return cls(**{**fields, "action_order": tuple(fields["action_order"])})


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The type of a column of encoded images, as `datasets` writes it."""

ROWS_AT_ONCE = 64
"""Rows in memory, encoded, while a dataset is written, and in a row group of its file."""

PUBLIC_FORMAT = DatasetFormat()
OWN_FORMAT = DatasetFormat(transposed=False, action_lag=0, stale_first_row=False)
"""What we write ourselves: upright, every action in the row of the state it leads out of."""


@dataclass(frozen=True)
class Window:
    """One training example: `history` uint8 `[32, 512, 512, 3]`, `actions` int64 `[32]`, `next` uint8 `[512, 512, 3]`.

    `actions[i]` leads out of `history[i]`; the last one leads to `next`.
    """

    history: np.ndarray
    actions: np.ndarray
    next: np.ndarray


@dataclass(frozen=True)
class Recording:
    """One game to be written: `S` states, and the action that led out of each with what it brought.

    What an action that ended the game led to is no state of it, and neither is the last frame of one that was left.

    Attributes:
        frames: uint8 `[H, W, 3]` each, upright; they may be made as they are asked for.
        actions: int `[S]`.
        rewards: float `[S]`, game points.
        dones: bool `[S]`, whether that step ended the game.
    """

    frames: Iterable[np.ndarray] = field(repr=False)
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray


@dataclass
class Episode:
    """One game: its states in order, and the action that leads out of each.

    Frames stay encoded until asked for. State `k` is followed by state `k + 1` under `actions[k]`; the last action of a
    finished game leads to an end that no frame shows, so there are as many states as actions. In a dataset's last
    episode the last state may be lost with its terminal step: then there is one state fewer than rows.

    Attributes:
        number: the dataset's own number of the episode.
        format: how the frames are stored.
        images: the encoded states, `S` of them.
        actions: int64 `[S]`.
        labels: further columns that describe each state (`score`, `lives`, `player_xy`, ...), `[S, ...]`.
        rewards: float64 `[S]`, game points that the step out of each state brought, if the dataset says.
        dones: bool `[S]`, whether that step ended the game, if the dataset says.
    """

    number: int
    format: DatasetFormat
    images: list[bytes] = field(repr=False)
    actions: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    rewards: np.ndarray | None = None
    dones: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of states."""
        return len(self.images)

    @property
    def windows(self) -> int:
        """Number of states that have a next one: `window(k)` takes 0 to `windows - 1`."""
        return max(len(self) - 1, 0)

    def raw(self, k: int) -> np.ndarray:
        """State `k` as an upright uint8 screen `[frame_height, frame_width, 3]`; ValueError for another size."""
        image = decode_image(self.images[k])
        if self.format.transposed:
            image = image.swapaxes(0, 1)
        expected = (self.format.frame_height, self.format.frame_width)
        if image.shape[:2] != expected:
            raise ValueError(
                f"Episode {self.number}, state {k}: the upright frame is {image.shape[1]} x {image.shape[0]}; "
                f"the dataset's format says {expected[1]} x {expected[0]}. Is it stored transposed "
                f"({self.format.transposed})?"
            )
        return np.ascontiguousarray(image)

    def frames(self, start: int, stop: int) -> np.ndarray:
        """States `start` to `stop - 1` as prepared frames, uint8 `[stop - start, 512, 512, 3]`."""
        return np.stack([prepare(self.raw(k)) for k in range(start, stop)])

    def window(self, k: int) -> Window:
        """The window whose history ends at state `k`, padded when `k` is below 31, and whose next is state `k + 1`.

        Raises IndexError when state `k` has no successor in this episode.
        """
        if not 0 <= k < self.windows:
            raise IndexError(f"Episode {self.number} has windows 0 to {self.windows - 1}; given {k}.")
        first = max(k - HISTORY + 1, 0)
        frames = self.frames(first, k + 2)
        history, actions = pad_history(frames[:-1], self.actions[first:k])
        return Window(history, np.append(actions, self.actions[k]), frames[-1])


def pad_history(frames: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`N` states and the `N - 1` actions between them (1 <= N <= 32) as 32 states and 31 actions.

    The first state is repeated with NO_ACTION. Works on frames and on latents alike.
    """
    if not 1 <= len(frames) <= HISTORY or len(actions) != len(frames) - 1:
        raise ValueError(
            f"Given {len(frames)} frames and {len(actions)} actions; expected 1 to {HISTORY} frames, one action fewer."
        )
    missing = HISTORY - len(frames)
    still = np.full(missing, Action.NO_ACTION, dtype=np.int64)
    return np.concatenate([np.repeat(frames[:1], missing, axis=0), frames]), np.concatenate([still, actions])


def read_episodes(dataset: str | Path, format: DatasetFormat | None = None) -> Iterator[Episode]:
    """The episodes of a dataset, in order, one in memory at a time.

    Args:
        dataset: a folder of parquet files, one parquet file, or a hub id (`owner/name`, which is streamed).
        format: how to read its rows; None takes what the dataset's metadata says, or else the public format.

    Raises:
        FileNotFoundError: there is no such path and the hub has no such dataset or is out of reach.
        ValueError: a missing column, no rows, an action outside 0 to 4, or frames of another size (when read).
    """
    files = parquet_files(dataset)
    if format is None:
        metadata = pq.read_schema(files[0]).metadata if files else None
        format = DatasetFormat.from_json(metadata[FORMAT_KEY]) if metadata and FORMAT_KEY in metadata else PUBLIC_FORMAT
    yield from _episodes(_rows(dataset, files), format)


def parquet_files(dataset: str | Path) -> list[Path]:
    """A local dataset's files in order; none for what can only be a hub id.

    Raises FileNotFoundError for a path that does not exist, ValueError for one without rows in parquet files.
    """
    path = Path(dataset)
    if path.exists():
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        if not files:
            raise ValueError(
                f"The folder {dataset} has no parquet file; expected a dataset with columns {REQUIRED_COLUMNS}."
            )
        try:
            filled = [file for file in files if pq.read_metadata(file).num_rows]
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{dataset} holds a file that is no whole parquet file: {error}") from error
        if not filled:
            raise ValueError(f"The dataset {dataset} has no rows; expected recorded frames and actions.")
        return filled
    if isinstance(dataset, Path) or str(dataset).count("/") != 1 or str(dataset).startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"No dataset at {dataset}; expected a folder of parquet files, one parquet file, or a hub id (owner/name)."
        )
    return []


def write_episodes(path: str | Path, recordings: Iterable[Recording]) -> None:
    """Write recorded games as a dataset: episode 0, 1, ..., in `OWN_FORMAT`, the images in lossless WebP.

    `read_episodes` reads it, and so does `datasets.load_dataset`. A frame is in memory one at a time, and takes some 10
    ms. A recording without states leaves no row. The file is whole or absent; `files.check_writable(path, "dataset",
    ".parquet")` says beforehand whether it can be written.

    Raises:
        ValueError: another ending than ".parquet"; no state at all; an action outside 0 to 4; not one action, reward
            and done a frame; frames of different sizes.
        OSError: the file cannot be written.
    """
    rows = (row for number, recording in enumerate(recordings) for row in _recorded_rows(number, recording))
    write_rows(path, rows, {"reward": pa.float64(), "done": pa.bool_()}, fast=True)


def write_rows(
    path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, pa.DataType], *, fast: bool = False
) -> None:
    """Write a dataset in `OWN_FORMAT` row by row; the file is whole or absent.

    Args:
        path: ends in ".parquet", in a folder that exists.
        rows: `episode` and `action`, integers; `frame_image`, the upright screen, uint8 `[H, W, 3]`; and `columns`.
        columns: types of the further columns.
        fast: how the screens are encoded, see `encode_image`.

    Raises ValueError for another ending, no rows, or screens that differ in size, OSError when the file cannot be
    written.
    """
    path = Path(path)
    with UnfinishedFile(path, "dataset", ".parquet") as partial:
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"Given 0 rows for the dataset {path}; expected one or more.")
        height, width = first["frame_image"].shape[:2]
        schema = pa.schema(
            [("episode", pa.int64()), ("frame_image", IMAGE), ("action", pa.int64()), *columns.items()],
            metadata={FORMAT_KEY: replace(OWN_FORMAT, frame_height=height, frame_width=width).to_json()},
        )
        encoded = (_encoded(row, (height, width, 3), fast) for row in chain([first], rows))
        with pq.ParquetWriter(partial, schema) as writer:
            while batch := list(islice(encoded, ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def encode_image(screen: np.ndarray, *, fast: bool = False) -> bytes:
    """A screen uint8 `[H, W, 3]` as a lossless WebP; `fast` takes a tenth of the time and an eighth more bytes."""
    data = io.BytesIO()
    method, quality = (1, 20) if fast else (4, 100)
    Image.fromarray(screen).save(data, "WEBP", lossless=True, method=method, quality=quality)
    return data.getvalue()


def _recorded_rows(number: int, recording: Recording) -> Iterator[dict[str, Any]]:
    count = len(recording.actions)
    if not count == len(recording.rewards) == len(recording.dones):
        raise ValueError(
            f"Recording {number} has {count} actions, {len(recording.rewards)} rewards and {len(recording.dones)} "
            "dones; expected as many of each."
        )
    check_actions(recording.actions)
    frames = iter(recording.frames)
    shown = 0
    for shown, frame in enumerate(islice(frames, count), start=1):
        yield {
            "episode": number,
            "frame_image": frame,
            "action": int(recording.actions[shown - 1]),
            "reward": float(recording.rewards[shown - 1]),
            "done": bool(recording.dones[shown - 1]),
        }
    more = next(frames, None) is not None
    if shown < count or more:
        raise ValueError(
            f"Recording {number} has {f'more than {shown}' if more else shown} frames for {count} actions; expected "
            "one action a frame."
        )


def _encoded(row: Mapping[str, Any], shape: tuple[int, int, int], fast: bool) -> dict[str, Any]:
    screen = row["frame_image"]
    if screen.dtype != np.uint8 or screen.shape != shape:
        raise ValueError(
            f"Episode {row['episode']} has a frame of {screen.dtype} {list(screen.shape)}; expected uint8 "
            f"{list(shape)}, upright, in the size of the first."
        )
    return {**row, "frame_image": {"bytes": encode_image(screen, fast=fast), "path": None}}


def _rows(dataset: str | Path, files: list[Path]) -> Iterable[dict[str, Any]]:
    """Rows in order, images still encoded."""
    import datasets

    try:
        if files:
            # A plain scan in file order: nothing is copied into a cache.
            stream = datasets.load_dataset(
                "parquet",
                data_files=[str(f) for f in files],
                split="train",
                streaming=True,
                verification_mode="no_checks",
            )
        else:
            stream = datasets.load_dataset(str(dataset), split="train", streaming=True, verification_mode="no_checks")
    except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
        raise FileNotFoundError(
            f"The dataset {dataset} is neither a local path nor reachable on the hub ({type(error).__name__}: "
            f"{error}). Check the name and the connection, or give a local folder of parquet files."
        ) from error
    columns = stream.column_names or list(next(iter(stream), {}))
    missing = [c for c in REQUIRED_COLUMNS if c not in columns]
    if missing and columns:
        raise ValueError(f"The dataset {dataset} has columns {columns}; missing {missing}.")
    for image in ("frame_image", "next_frame_image"):
        if image in columns:
            stream = stream.cast_column(image, datasets.Image(decode=False))
    return stream


def _episodes(rows: Iterable[dict[str, Any]], format: DatasetFormat) -> Iterator[Episode]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        if batch and row["episode"] != batch[0]["episode"]:
            yield _episode(batch, row, format)
            batch = []
        batch.append(row)
    if batch:
        yield _episode(batch, None, format)


def _episode(rows: list[dict[str, Any]], following: dict[str, Any] | None, format: DatasetFormat) -> Episode:
    """One episode from its rows and the row that follows them, which may hold its last state."""
    steps, states = rows, rows
    if format.stale_first_row:
        if following is None and rows[-1].get("next_frame_image"):
            following = {"frame_image": rows[-1]["next_frame_image"]}
        states = rows[1:] + ([following] if following is not None else [])
    count = len(states)
    number = int(rows[0]["episode"])
    given = np.array([row["action"] for row in steps[:count]], dtype=np.int64)
    try:
        check_actions(given)
    except ValueError as error:
        raise ValueError(f"Episode {number}: {error}") from error
    order = np.array([Action[name] for name in format.action_order], dtype=np.int64)
    skip = {*REQUIRED_COLUMNS, *STEP_COLUMNS, "next_frame_image"}
    labels = {
        name: np.array([state[name] for state in states])
        for name in rows[0]
        if name not in skip and all(name in state for state in states)
    }
    return Episode(
        number=number,
        format=format,
        images=[state["frame_image"]["bytes"] for state in states],
        actions=order[given],
        labels=labels,
        rewards=np.array([row["reward"] for row in steps[:count]], float) if "reward" in rows[0] else None,
        dones=np.array([row["done"] for row in steps[:count]], bool) if "done" in rows[0] else None,
    )

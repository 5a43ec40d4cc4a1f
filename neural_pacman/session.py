"""A session of play as a log of events, from which the very same frames can be dreamed again.

The file is JSON Lines: a header, then one event a line, in order. It grows beside its name in a hidden file, so that
even a crash leaves all that was played up to then; it takes its name when the session ends.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from neural_pacman.actions import Action
from neural_pacman.files import UnfinishedFile

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Header:
    """What a session was played in, and all that its frames depend on besides the events.

    Attributes:
        world: name of the world.
        world_hash: its hash; no other world dreams these frames.
        seed_index: the world's history that each dream begins from; None where the seed picks it.
        device: where the networks ran.
        threads: how many CPU threads they ran on.
        torch: PyTorch's version.
    """

    world: str
    world_hash: str
    seed_index: int | None
    device: str
    threads: int
    torch: str

    def __post_init__(self) -> None:
        for name in ("world", "world_hash", "device", "torch"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"{name} is {value!r}; expected text")
        if self.seed_index is not None:
            _check_whole("seed_index", self.seed_index, 0)
        _check_whole("threads", self.threads, 1)


@dataclass(frozen=True)
class Begin:
    """A dream began from this seed, 0 or more."""

    seed: int

    def __post_init__(self) -> None:
        _check_whole("seed", self.seed, 0)


@dataclass(frozen=True)
class Step:
    """A step under an action, drawn in so many denoising steps; `checksum` is of the latent that it led to."""

    action: Action
    denoising_steps: int
    checksum: int

    def __post_init__(self) -> None:
        _check_whole("denoising_steps", self.denoising_steps, 1)
        _check_whole("checksum", self.checksum, 0)


@dataclass(frozen=True)
class Rewind:
    """One step back along the tape."""


@dataclass(frozen=True)
class DreamOn:
    """The dream was over and went on all the same."""


Event: TypeAlias = Begin | Step | Rewind | DreamOn


def checksum(latent: np.ndarray) -> int:
    """What tells two latents apart: CRC-32 of the bytes."""
    return zlib.crc32(np.ascontiguousarray(latent).data)


class SessionLog:
    """Writes a session to `path` while it is played.

    Use it as a context manager. A session without a step leaves nothing behind, and an older file stays. Raises what
    `UnfinishedFile` raises, before anything is played, when `path` does not end in ".jsonl" or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._place = UnfinishedFile(path, "session", ".jsonl")
        self.path = self._place.path
        self.events = self.steps = 0
        """How many events were written, and how many of them are steps."""
        self._file = self._place.partial.open("w", encoding="utf-8")

    def write(self, item: Header | Event) -> None:
        """Add the header, first, or an event, for good before the next one. OSError when it cannot (a full disk)."""
        try:
            self._file.write(json.dumps(_to_json(item)) + "\n")
            self._file.flush()
        except OSError as error:
            raise type(error)(
                f"The session {self.path} cannot be written any more: {error.strerror}. It ends with event "
                f"{self.events}."
            ) from error
        self.events += not isinstance(item, Header)
        self.steps += isinstance(item, Step)

    def close(self) -> None:
        """Give the file its name; once."""
        if self._file.closed:
            return
        with suppress(OSError):  # of a line that `write` has said it cannot write; those before it are there
            self._file.close()
        if self.steps:
            self._place.finish()
        self._place.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Session:
    """A session that was played: its header, and the events in order."""

    header: Header
    events: tuple[Event, ...]

    @classmethod
    def read(cls, path: Path) -> Session:
        """The session in a file. A last line that a crash cut off counts for nothing.

        Raises FileNotFoundError when there is none, ValueError when the file is something else or damaged.
        """
        if not path.is_file():
            raise FileNotFoundError(f"There is no session at {path}; expected a file that play --session wrote.")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no session: {error}.") from error
        whole = list(_lines(path, lines[:-1]))
        header, events = whole[:1], [item for item in whole[1:] if not isinstance(item, Header)]
        if not header or not isinstance(header[0], Header):
            raise ValueError(f"{path} is no session: its first line is not the header that play --session writes.")
        if len(events) < len(whole) - 1 or not events or not isinstance(events[0], Begin):
            raise ValueError(f"{path} is no whole session: expected a header and events, the first a beginning.")
        return cls(header[0], tuple(events))


def _lines(path: Path, lines: list[str]) -> Iterator[Header | Event]:
    for number, line in enumerate(lines, start=1):
        try:
            yield _from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is nothing that play --session writes ({error})."
            ) from error


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, {least} or more")


_EVENTS: dict[str, type[Event]] = {"begin": Begin, "step": Step, "rewind": Rewind, "dream_on": DreamOn}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


def _to_json(item: Header | Event) -> dict[str, Any]:
    if isinstance(item, Header):
        return {"neural_pacman_session": FORMAT_VERSION, **asdict(item)}
    fields = asdict(item)
    if isinstance(item, Step):
        fields["action"] = item.action.name
    return {"event": _NAMES[type(item)], **fields}


def _from_json(fields: dict[str, Any]) -> Header | Event:
    version = fields.pop("neural_pacman_session", None)
    if version is not None:
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version!r}; this neural_pacman reads {FORMAT_VERSION}")
        return Header(**fields)
    kind = _EVENTS[fields.pop("event")]
    if kind is Step:
        fields["action"] = Action[fields["action"]]
    return kind(**fields)

"""Files that are whole or not there: they grow hidden beside their place and take their name in the end."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from types import TracebackType

_numbers = count()


class UnfinishedFile:
    """A file that is written at `partial`, hidden beside `path`, and then gets the name `path`, or vanishes.

    A context manager that gives `partial`: when the block ends the file is finished, after an error discarded. Until it
    is finished an older file at `path` stays as it is.

    Args:
        path: where the file goes, in a folder that exists.
        what: what it is, for messages: "video", "dataset".
        endings: those that its name may have, in lower case (".mp4"); none for any.

    Raises:
        ValueError: the name of `path` ends otherwise.
        OSError: `path` cannot be written. Said at once, before there is anything to lose.
    """

    def __init__(self, path: Path, what: str, *endings: str) -> None:
        if endings and path.suffix.lower() not in endings:
            raise ValueError(f"The {what} would be {path}; expected a name that ends in {' or '.join(endings)}.")
        if path.is_dir():
            raise IsADirectoryError(f"The {what} would be {path}, which is a folder; expected the name of a file.")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(f"The {what} would replace {path}, which is read-only; name another file.")
        self.path = path.absolute()
        # With its ending, by which libraries know what to write; with numbers, since two may write at once.
        self.partial = self.path.with_name(f".{path.stem}.{os.getpid()}-{next(_numbers)}{path.suffix}")
        try:
            self.partial.touch()
        except OSError as error:
            raise type(error)(f"Cannot write a {what} into {self.path.parent}: {error.strerror}.") from error

    def finish(self) -> None:
        """Give the file its name, in place of an older one."""
        os.replace(self.partial, self.path)

    def discard(self) -> None:
        """Leave nothing behind; after `finish` this changes nothing."""
        self.partial.unlink(missing_ok=True)

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.discard()


def check_writable(path: Path, what: str, *endings: str) -> None:
    """Raise at once what `UnfinishedFile` would raise when the file is to be written, and leave nothing behind."""
    UnfinishedFile(path, what, *endings).discard()

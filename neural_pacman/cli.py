"""The `neural-pacman` command: play a world, list the worlds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PLAY_EXTRA = ("imageio_ffmpeg", "pygame", "rich", "tqdm", "tyro")
"""Modules of the extra `play`. They are imported late, so that `main` can say which are missing."""


@dataclass(frozen=True)
class Worlds:
    """List the worlds: name, size, where they are, and how they scored."""

    folders: tuple[Path, ...] = ()
    """World folders of your own to list after the shipped ones."""


def list_worlds(worlds: Worlds) -> None:
    """Print the table of worlds. FileNotFoundError or ValueError for a folder that is no world, or a damaged one."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from neural_pacman.world_folder import find_world, known_worlds, read_config

    table = Table("name", "size", "where", "scores", show_lines=True)
    for folder in [*map(find_world, known_worlds()), *map(find_world, worlds.folders)]:
        config = read_config(folder)
        scores = "\n".join(f"{name}: {score}" for name, score in config.scores.items())
        # As Text, since a folder's name may hold brackets, which are markup in a plain string.
        table.add_row(*map(Text, (config.name, config.size, str(folder.resolve()), scores or "none")))
    if table.row_count:
        Console().print(table)
    else:
        print("No world ships with this copy; make one with: python -m training")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command with `args` (the process's own by default); returns its exit status."""
    if missing := [module for module in PLAY_EXTRA if find_spec(module) is None]:
        return fail(f'{", ".join(missing)} not installed; get what play needs with: pip install "neural-pacman[play]"')
    import tyro

    from neural_pacman.play import Play, play

    try:
        command = tyro.cli(
            Play | Worlds,
            prog="neural-pacman",
            description="A neural network that dreams Pac-Man.",
            args=args,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        if isinstance(command, Play):
            play(command)
        else:
            list_worlds(command)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def fail(message: str) -> int:
    """Say what is wrong and return the exit status that tells so."""
    print(f"neural-pacman: {message}", file=sys.stderr)
    return 1

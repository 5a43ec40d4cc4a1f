"""Running a part of the training from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")


def command(main: Callable[[Config], Any], config: type[Config]) -> None:
    """Call `main` with the settings that the command line gives; what is wrong with them is said in one line."""
    try:
        main(tyro.cli(config))
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

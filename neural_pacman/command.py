"""Running a script from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")


def command(main: Callable[[Config], Any], config: type[Config], *style: Any) -> None:
    """Call `main` with the settings that the command line gives; what is wrong with them is said in one line.

    `style` are markers of `tyro.conf`, for the whole command line.
    """
    try:
        main(tyro.cli(config, config=style))
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

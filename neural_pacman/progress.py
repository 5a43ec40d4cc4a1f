"""Progress bars with rate and time left: on a terminal a moving bar, in a log file a line now and then."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]\n"
LINE_SECONDS = 30.0


def progress_bar(*args: Any, **options: Any) -> tqdm:
    """tqdm with these arguments."""
    if sys.stderr.isatty():
        return tqdm(*args, mininterval=0.5, dynamic_ncols=True, **options)
    return tqdm(*args, mininterval=LINE_SECONDS, maxinterval=LINE_SECONDS, bar_format=LINE, **options)

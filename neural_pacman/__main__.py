"""`python -m neural_pacman` is the `neural-pacman` command."""

import sys

from neural_pacman.cli import main

if __name__ == "__main__":
    sys.exit(main())

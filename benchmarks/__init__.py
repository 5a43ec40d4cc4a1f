"""How fast the dream is and whether it lasts: `python -m benchmarks.speed` and `python -m benchmarks.soak`."""

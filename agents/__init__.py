"""Agents that learn in the dream, from a clone: `pip install -e ".[sb3,train]"`, then `python -m agents.train`."""

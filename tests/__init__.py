"""Tests, and the command that cut the real rows they read (`python -m tests.make_data`)."""

# From an empty clone:  make play  and  make test.  Each installs what it needs into .venv, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: play test lint

play: .venv/.installed-play
	$(BIN)/neural-pacman play $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.installed-play: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[play]"
	touch $@

.venv/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[play,sb3,train,dev]"
	touch $@

# An environment that is already there is kept: PyTorch's CPU build, say, put there beforehand.
$(BIN)/python:
	$(PYTHON) -m venv .venv

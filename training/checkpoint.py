"""The folder of a run: a checkpoint to go on from and the exported part, each whole or absent.

checkpoint.safetensors   weights, their moving average and the optimizer's state; how far the run is, as metadata
export/                  the part as its component folder, from the averaged weights, with `stage.json`: how far it is
unfinished/              what was being written when the run was killed
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CHECKPOINT = "checkpoint.safetensors"
EXPORT = "export"
STAGE = "stage.json"
UNFINISHED = "unfinished"
WEIGHTS = "diffusion_pytorch_model.safetensors"

State = dict[str, Any]
"""How far a run is and whose it is: `step`, `elapsed` (seconds) and `identity`, the settings that must not change."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Where to write a file or folder that takes `target`'s place when the block ends.

    A kill leaves the old file or the new one, and of a folder at worst none. What it leaves half written goes with the
    next call.
    """
    unfinished = target.parent / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    new = unfinished / target.name
    yield new
    if new.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        with new.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(new, target)
    shutil.rmtree(unfinished)


def write_checkpoint(file: Path, state: State, tensors: dict[str, Tensor]) -> None:
    """Replace a checkpoint as a whole: a kill at any moment leaves the old one or the new one."""
    with replacing(file) as new:
        stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(stored, new, {"state": json.dumps(state)})


def read_checkpoint(file: Path) -> tuple[State, dict[str, Tensor]]:
    """What `write_checkpoint` wrote; ValueError when the file is damaged or foreign."""
    try:
        with safe_open(file, "pt") as tensors:
            state = _checked(json.loads(tensors.metadata()["state"]))
            return state, {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> ValueError:
    """The error to raise for a checkpoint that cannot be taken up."""
    return ValueError(
        f"{file} is not a whole checkpoint of this run ({_brief(error)}). Delete it: the run goes on from the weights "
        f"in {EXPORT}/, or starts anew where there are none."
    )


def read_state(export: Path) -> State | None:
    """How far an exported part is; None when there is none, ValueError when its `stage.json` is damaged."""
    file = export / STAGE
    if not file.exists():
        return None
    try:
        return _checked(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete the folder {export}.") from error


def check_identity(run: Path, state: State, identity: dict[str, Any]) -> None:
    """Raise ValueError when a run's state is that of another run."""
    if state["identity"] != identity:
        raise ValueError(
            f"{run} holds a run with {state['identity']}; now asked for {identity}. Give another folder, or delete it."
        )


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of an exported component folder.

    Raises FileNotFoundError when it has none, ValueError when they do not fit.
    """
    part = getattr(model, "dc", model)
    file = folder / WEIGHTS
    if not file.exists():
        raise FileNotFoundError(f"No weights at {file}; expected an {EXPORT}/ folder of the same stage.")
    try:
        part.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"The weights in {folder} do not fit this model: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """The beginning of an error in one line: PyTorch names every single weight that does not fit."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _checked(state: State) -> State:
    return {"step": int(state["step"]), "elapsed": float(state["elapsed"]), "identity": dict(state["identity"])}


def check_stage(folder: Path, stage: str, autoencoder: str) -> dict[str, Any]:
    """The identity of an exported part, checked to be of this stage and this autoencoder."""
    state = read_state(folder)
    if state is None:
        raise FileNotFoundError(f"No trained {stage} at {folder}; expected the export/ folder of a run.")
    identity = state["identity"]
    if identity.get("stage") != stage:
        raise ValueError(f"{folder} holds a trained {identity.get('stage')}; expected a trained {stage}.")
    if identity["autoencoder"] != autoencoder:
        raise ValueError(
            f"The {stage} in {folder} was trained on latents of another autoencoder ({identity['autoencoder'][:12]}) "
            f"than the given one ({autoencoder[:12]}); make the cache again and train it on that."
        )
    return identity

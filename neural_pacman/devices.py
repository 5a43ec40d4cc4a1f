"""Which device to run on, what it is good at, and on how many threads after a fork."""

from __future__ import annotations

import logging
import os

import torch

logger = logging.getLogger(__name__)

# OpenMP's threads do not survive a fork, and a child that calls on them waits forever. Gymnasium's AsyncVectorEnv
# forks: its workers calculate on one thread each, which is what many processes side by side want anyway.
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` is CUDA, else Apple's Metal, else the CPU, and is logged; anything else is what it says.

    Raises ValueError for a device that this PyTorch does not know or this machine does not have.
    """
    if device == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        logger.info("device=auto picked %s", name)
        return torch.device(name)
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"The device {device!r} cannot be used here ({error}); expected auto, cuda, mps or cpu."
        ) from error


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, much faster than float32: many GPUs, CPUs with AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())

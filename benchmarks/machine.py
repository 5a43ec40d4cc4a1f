"""The machine that measures: its name, its clock, its memory."""

from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

SAMPLE_SECONDS = 0.001
"""Time between two looks at the resident memory while its peak is sought."""


def machine(device: torch.device) -> dict[str, Any]:
    """What a figure must be read with: processor, cores, threads, how busy it is, library versions and the device."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": round(psutil.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def named(machine: dict[str, Any]) -> str:
    """The machine in a sentence."""
    cores = f"{machine['cores'] or '?'} cores ({machine['logical_cores']} logical)"
    return (
        f"Device {machine['device']}; {machine['processor']}, {cores}, {machine['memory_gb']:g} GB, load "
        f"{machine['load']:g} at the start; {machine['system']}, Python {machine['python']}, torch {machine['torch']} "
        f"on {machine['threads']} threads."
    )


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given: a clock is read before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory(device: torch.device) -> dict[str, int]:
    """Bytes that this process has resident and, on CUDA, that its tensors take on the device."""
    sizes = {"resident memory": int(psutil.Process().memory_info().rss)}
    if device.type == "cuda":
        sizes["GPU memory"] = torch.cuda.memory_allocated(device)
    return sizes


def release() -> None:
    """Give freed memory back to the system, as far as the C library can be asked to (glibc can).

    It keeps some for later, by chance more or less: with frames of several MB that hides what is really in use.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def held(device: torch.device) -> int:
    """Bytes in use once freed memory is given back: on CUDA the tensors', else the process's resident memory."""
    release()
    return list(memory(device).values())[-1]


class Peak:
    """The most memory in use while a `with` block ran: afterwards `bytes`, counted as in `held`.

    CUDA keeps count by itself; elsewhere a thread looks every millisecond, so that a shorter peak may be missed.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0
        self._device = device
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self.bytes = held(self._device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            self._done.set()
            self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, memory(self._device)["resident memory"])


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with suppress(OSError):
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or platform.machine()

"""Seconds and memory of each optimiser step, measured the same way in every trainer's process.

Needs torch alone, so that it runs in any environment. A step lasts from the end of the one before
to its own end, with all that the trainer does in between: fetching data, logging, clearing up.
Memory is that since the end of the step before: all that is resident in the process, as Linux
counts it (libraries and freed memory that was not given back count as well), and what CUDA's
allocator gave out. So neither start-up nor loading is in it.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import torch

RESTART_PEAK = "5"  # see proc_pid_clear_refs(5)


class Stopwatch:
    """One process's steps; the first has only an end."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._resident: list[int] = []
        self._cuda: list[int] = []

    def lap(self) -> None:
        """A step has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self._cuda.append(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
        self._ends.append(time.perf_counter())
        self._resident.append(_most_resident())
        with contextlib.suppress(OSError):  # a container that forbids it: then the peak so far
            Path("/proc/self/clear_refs").write_text(RESTART_PEAK)

    def result(self) -> dict[str, Any]:
        """Seconds from the second step on, and the most bytes in any of them."""
        pairs = zip(self._ends, self._ends[1:], strict=False)
        return {
            "seconds": [end - begin for begin, end in pairs],
            "resident": max(self._resident[1:]),
            "cuda": max(self._cuda[1:], default=None),
            "device": torch.cuda.get_device_name() if self._cuda else None,
        }


def _most_resident() -> int:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: no VmHWM")

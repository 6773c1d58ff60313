"""The processor and the main memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmtrain.probe import CPU_FLAGS, cpu_flags

HALF_FLAGS = ("amx_fp16", "avx512_fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor and the main memory (bytes); `flags` are those that mean bf16 or fp16 units."""

    name: str
    cores: int
    threads: int
    memory_total: int
    memory_free: int
    flags: Sequence[str]


def look() -> Cpu:
    """The processor of this machine."""
    import psutil

    memory = psutil.virtual_memory()
    return Cpu(
        name=_name(),
        cores=psutil.cpu_count(logical=False) or 1,
        threads=_usable_threads(),
        memory_total=memory.total,
        memory_free=memory.available,
        flags=sorted(cpu_flags().intersection(CPU_FLAGS + HALF_FLAGS)),
    )


def _usable_threads() -> int:
    """Hardware threads that this process may use; a container may have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name() -> str:
    """The model's name as Linux gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()

"""What training would run on: NVIDIA cards, cores, memory; asked of the system, not of torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BF16_FROM = (8, 0)
"""The compute capability from which on NVIDIA cards compute in bf16 (Ampere)."""
CGROUP = Path("/sys/fs/cgroup/memory.max")
SMI = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,compute_cap",
    "--format=csv,noheader,nounits",
)
SMI_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A graphics card: its memory in bytes, and whether it computes in bf16."""

    name: str
    memory: int
    bf16: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Cores that this process may use, its memory in bytes, and the cards."""

    cores: int
    memory: int
    cards: Sequence[Card] = ()

    def as_json(self) -> dict[str, Any]:
        """The machine as plain JSON values."""
        return asdict(self)


def look() -> Machine:
    """Look at this machine."""
    import psutil

    total = int(psutil.virtual_memory().total)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cards = _by_library()
    return Machine(
        cores=cores or 1,
        memory=min(total, _allowed() or total),
        cards=_by_command() if cards is None else cards,
    )


def _allowed() -> int | None:
    """The memory that a container may use, None where there is no limit."""
    try:
        limit = CGROUP.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(limit) if limit.isdigit() else None


def _by_library() -> list[Card] | None:
    """The cards as nvidia-ml-py tells them, None where it is not installed or finds no driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [
            Card(
                name=_text(pynvml.nvmlDeviceGetName(handle)),
                memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                bf16=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)) >= BF16_FROM,
            )
            for handle in handles
        ]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _by_command() -> list[Card]:
    """The cards as nvidia-smi lists them; none where there is no such command, or it fails."""
    try:
        done = subprocess.run(SMI, capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [card for line in done.stdout.splitlines() if (card := _card(line)) is not None]


def _card(line: str) -> Card | None:
    """A line of nvidia-smi, such as `NVIDIA A10, 23028, 8.6`."""
    try:
        name, mebibytes, capability = (part.strip() for part in line.rsplit(",", 2))
        version = tuple(int(number) for number in capability.split("."))
        return Card(name=name, memory=int(mebibytes) << 20, bf16=version >= BF16_FROM)
    except ValueError:
        return None


def _text(value: str | bytes) -> str:
    """Older versions of the library answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

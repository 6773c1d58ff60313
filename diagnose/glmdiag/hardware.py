"""What the machine has: processor, accelerators, their memory and users, versions of software.

Nothing here is required: without torch or NVIDIA's management library the rest is still told, and
`Machine.unseen` names what could not be looked at.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glmtrain.probe import CPU_FLAGS, Recommendation, cpu_flags, recommend

from glmdiag import accelerators
from glmdiag.accelerators import Device

Unseen: TypeAlias = Literal["torch", "nvml", "processes", "memory"]
SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}  # as --dtype takes them
DRIVER = Path("/proc/driver/nvidia/version")
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "glm-finetune-suite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor and the main memory (bytes); `flags` are the ones that mean bf16 units."""

    name: str
    cores: int
    threads: int
    memory_total: int
    memory_free: int
    flags: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything that was seen, and what was not."""

    cpu: Cpu
    devices: Sequence[Device]
    driver: str | None
    versions: Mapping[str, str | None]
    recommendation: Recommendation | None
    unseen: Sequence[Unseen]

    @property
    def has_nvidia_driver(self) -> bool:
        """Whether NVIDIA's driver is loaded, seen by its library or by the kernel."""
        return self.driver is not None

    def as_json(self) -> dict[str, Any]:
        """The machine as plain JSON values."""
        found = asdict(self)
        if self.recommendation is not None:
            found["recommendation"]["reason"] = self.recommendation.reason
            for name in ("bf16", "fp16", "fp32"):
                state = getattr(self.recommendation, name).state
                found["recommendation"][name]["state"] = state
        return found


def examine() -> Machine:
    """Look at this machine; about a second of it is the computation in each number format."""
    unseen: list[Unseen] = []
    driver, devices = accelerators.nvidia()
    if driver is None and DRIVER.exists():
        driver = "unknown"
        unseen.append("nvml")
    recommendation = None
    if _has_torch():
        devices = devices or accelerators.of_torch()
        recommendation = recommend()
    else:
        unseen.append("torch")
    if any(device.memory_free is None for device in devices):
        unseen.append("memory")
    if devices and driver in (None, "unknown"):
        unseen.append("processes")
    return Machine(
        cpu=_cpu(),
        devices=devices,
        driver=driver,
        versions=_versions(),
        recommendation=recommendation,
        unseen=unseen,
    )


def _has_torch() -> bool:
    """Whether torch is there and loads; a build whose libraries are missing raises OSError."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def _cpu() -> Cpu:
    import psutil

    memory = psutil.virtual_memory()
    return Cpu(
        name=_cpu_name(),
        cores=psutil.cpu_count(logical=False) or 1,
        threads=_usable_threads(),
        memory_total=memory.total,
        memory_free=memory.available,
        flags=sorted(cpu_flags().intersection(CPU_FLAGS)),
    )


def _usable_threads() -> int:
    """Hardware threads that this process may use; a container may have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    """The model's name as Linux gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    found["cuda"] = _cuda_of_torch() if _has_torch() else None
    return found


def _cuda_of_torch() -> str | None:
    """The CUDA (or ROCm) version that torch was built for, None for a build without."""
    import torch

    version = torch.version.cuda or torch.version.hip
    return str(version) if version else None

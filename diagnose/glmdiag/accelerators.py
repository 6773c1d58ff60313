"""Accelerators as NVIDIA's management library and torch show them.

The library sees all NVIDIA devices and who uses them, also without torch and whatever
CUDA_VISIBLE_DEVICES says; torch sees accelerators of every make, but not their users.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that holds memory (bytes) on a device; None where the system does not tell."""

    pid: int
    user: str | None
    name: str | None
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An accelerator; memory in bytes, None where it is not told. `processes` are others' only."""

    kind: str
    index: int
    name: str
    memory_total: int | None
    memory_free: int | None
    capability: str | None = None
    processes: Sequence[Process] = ()

    @property
    def place(self) -> str:
        """The device as torch names it."""
        return f"{self.kind}:{self.index}"


def nvidia() -> tuple[str | None, Sequence[Device]]:
    """The driver's version and all NVIDIA devices; (None, ()) without driver or library."""
    try:
        import pynvml
    except ImportError:
        return None, ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None, ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        count = pynvml.nvmlDeviceGetCount()
        return driver, [_nvidia_device(pynvml, index) for index in range(count)]
    finally:
        pynvml.nvmlShutdown()


def of_torch() -> Sequence[Device]:
    """The accelerators that torch can compute on; empty on a machine without."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return ()
    return [_torch_device(found.type, i) for i in range(torch.accelerator.device_count())]


def _nvidia_device(pynvml: Any, index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = _told(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _told(pynvml, pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    running = _told(pynvml, pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
    return Device(
        kind="cuda",
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_total=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        capability=".".join(map(str, capability)) if capability else None,
        processes=[_process(p.pid, p.usedGpuMemory) for p in running if p.pid != os.getpid()],
    )


def _told(pynvml: Any, ask: Any, handle: Any) -> Any:
    """An answer of the library, None where this device does not support the question."""
    try:
        return ask(handle)
    except pynvml.NVMLError:
        return None


def _process(pid: int, memory: int | None) -> Process:
    """Who a process is; another user's, or one outside this container, may not be told."""
    import psutil

    try:
        process = psutil.Process(pid)
        return Process(pid=pid, user=process.username(), name=process.name(), memory=memory)
    except psutil.Error:
        return Process(pid=pid, user=None, name=None, memory=memory)


def _torch_device(kind: str, index: int) -> Device:
    import torch

    module = getattr(torch, kind)
    describe = getattr(module, "get_device_properties", None)
    measure = getattr(module, "mem_get_info", None)
    properties = describe(index) if describe else None
    free, total = measure(index) if measure else (None, None)
    major, minor = (getattr(properties, name, None) for name in ("major", "minor"))
    return Device(
        kind=kind,
        index=index,
        name=getattr(properties, "name", None) or kind,
        memory_total=total or getattr(properties, "total_memory", None),
        memory_free=free,
        capability=None if major is None else f"{major}.{minor}",
    )


def _text(value: str | bytes) -> str:
    """Older versions of the library answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

"""NVIDIA's management library (package nvidia-ml-py): devices, how they are doing, who uses them.

Each question is asked on its own, since every make of card and every age of driver refuses others;
what is refused is None. A device that has fallen off the bus refuses all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmprep.errors import first_line

from glmdiag.machine.accelerators import Condition, Device, Process, Slowing

MILLIWATTS = 1000
SLOWING: tuple[tuple[int, Slowing], ...] = (
    (0x20 | 0x40, "heat"),  # the driver's limit on temperature, the hardware's
    (0x80, "power"),  # a brake that the power supply pulls
    (0x08, "hardware"),  # clocks halved or worse, with or without one of the two above
)
"""Bits of the library's reasons for lower clocks.

Those that belong to sound work are left out: an idle device (0x1), clocks set by the user (0x2),
the usual limit on power (0x4).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The driver's version, the newest CUDA that it runs, and the devices."""

    driver: str | None = None
    cuda: str | None = None
    devices: Sequence[Device] = ()


def look() -> Seen:
    """What the library tells; nothing without driver or library."""
    try:
        import pynvml
    except ImportError:
        return Seen()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Seen()
    library = Library(pynvml)
    try:
        count = library.ask("nvmlDeviceGetCount") or 0
        return Seen(
            driver=_text(library.ask("nvmlSystemGetDriverVersion") or "unknown"),
            cuda=_cuda(library.ask("nvmlSystemGetCudaDriverVersion")),
            devices=[_device(library, index) for index in range(count)],
        )
    finally:
        library.ask("nvmlShutdown")


@dataclass(frozen=True, slots=True)
class Library:
    """The library, asked by name, since older ones lack what newer ones have."""

    module: Any

    def ask(self, name: str, *arguments: Any) -> Any:
        """An answer, None where it is refused or the question is not known."""
        try:
            return getattr(self.module, name)(*arguments)
        except (AttributeError, self.module.NVMLError):
            return None


def _device(library: Library, index: int) -> Device:
    try:
        handle = library.module.nvmlDeviceGetHandleByIndex(index)
    except library.module.NVMLError as error:
        return _lost(index, first_line(error))
    memory = library.ask("nvmlDeviceGetMemoryInfo", handle)
    capability = library.ask("nvmlDeviceGetCudaComputeCapability", handle)
    running = library.ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()
    return Device(
        kind="cuda",
        index=index,
        name=_text(library.ask("nvmlDeviceGetName", handle) or "?"),
        memory_total=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        capability=".".join(map(str, capability)) if capability else None,
        processes=[_process(p.pid, p.usedGpuMemory) for p in running if p.pid != os.getpid()],
        condition=_condition(library, handle),
    )


def _lost(index: int, problem: str) -> Device:
    return Device(
        kind="cuda", index=index, name="?", memory_total=None, memory_free=None, problem=problem
    )


def _condition(library: Library, handle: Any) -> Condition:
    def ask(name: str, *arguments: int) -> Any:
        return library.ask(f"nvmlDeviceGet{name}", handle, *arguments)

    return Condition(
        clock=ask("ClockInfo", 1),  # 1 means the multiprocessors
        clock_max=ask("MaxClockInfo", 1),
        slowed_by=_slowing(ask("CurrentClocksThrottleReasons")),
        temperature=ask("Temperature", 0),  # 0 means the chip
        power=_watts(ask("PowerUsage")),
        power_limit=_watts(ask("EnforcedPowerLimit")),
        power_default=_watts(ask("PowerManagementDefaultLimit")),
        ecc_errors=ask("TotalEccErrors", 1, 0),  # uncorrected, since the driver was loaded
        pcie=ask("CurrPcieLinkGeneration"),
        pcie_max=ask("MaxPcieLinkGeneration"),
        lanes=ask("CurrPcieLinkWidth"),
        lanes_max=ask("MaxPcieLinkWidth"),
        nvlinks=_nvlinks(library, handle),
    )


def _nvlinks(library: Library, handle: Any) -> int | None:
    """Links that are up; None where the device tells of none at all."""
    most = getattr(library.module, "NVML_NVLINK_MAX_LINKS", 18)
    states = [library.ask("nvmlDeviceGetNvLinkState", handle, link) for link in range(most)]
    told = [state for state in states if state is not None]
    return sum(map(bool, told)) if told else None


def _slowing(reasons: int | None) -> Sequence[Slowing] | None:
    if reasons is None:
        return None
    return [name for bits, name in SLOWING if reasons & bits]


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / MILLIWATTS


def _cuda(version: int | None) -> str | None:
    """The library writes 12.8 as 12080."""
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _process(pid: int, memory: int | None) -> Process:
    """Who a process is; another user's, or one outside this container, may not be told."""
    import psutil

    try:
        process = psutil.Process(pid)
        return Process(pid=pid, user=process.username(), name=process.name(), memory=memory)
    except psutil.Error:
        return Process(pid=pid, user=None, name=None, memory=memory)


def _text(value: str | bytes) -> str:
    """Older versions of the library answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

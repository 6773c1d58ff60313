"""Accelerators as NVIDIA's management library and torch show them.

The library sees all NVIDIA devices, how they are doing and who uses them, also without torch and
whatever CUDA_VISIBLE_DEVICES says; torch sees accelerators of every make, but none of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeAlias

Make: TypeAlias = Literal["nvidia", "amd", "ascend", "apple", "other"]
Slowing: TypeAlias = Literal["heat", "power", "hardware"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that holds memory (bytes) on a device; None where the system does not tell."""

    pid: int
    user: str | None
    name: str | None
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a device is doing; None for what it or its driver does not tell.

    Clocks of the multiprocessors in MHz; what slows them down now; temperature in degrees Celsius;
    power in watts: drawn, allowed, and allowed as delivered; memory errors since the driver was
    loaded that could not be corrected; generation and lanes of the PCIe link, now and at most;
    NVLinks that are up. A link's generation falls while the device is idle, its lanes do not.
    """

    clock: int | None = None
    clock_max: int | None = None
    slowed_by: Sequence[Slowing] | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    power_default: float | None = None
    ecc_errors: int | None = None
    pcie: int | None = None
    pcie_max: int | None = None
    lanes: int | None = None
    lanes_max: int | None = None
    nvlinks: int | None = None


UNTOLD = Condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An accelerator; memory in bytes, None where it is not told. `processes` are others' only.

    `capability` is NVIDIA's compute capability, or the name of the architecture of another make.
    `problem` is what the driver says of a device that does not answer.
    """

    kind: str
    index: int
    name: str
    memory_total: int | None
    memory_free: int | None
    capability: str | None = None
    processes: Sequence[Process] = ()
    make: Make = "nvidia"
    condition: Condition = UNTOLD
    problem: str | None = None

    @property
    def place(self) -> str:
        """The device as torch names it."""
        return f"{self.kind}:{self.index}"

    @property
    def compute(self) -> tuple[int, int] | None:
        """NVIDIA's compute capability as a pair of numbers, None for another make."""
        major, dot, minor = (self.capability or "").partition(".")
        known = self.make == "nvidia" and dot and major.isdecimal() and minor.isdecimal()
        return (int(major), int(minor)) if known else None


def of_torch() -> Sequence[Device]:
    """The accelerators that torch can compute on; empty on a machine without."""
    import torch

    _load_ascend()
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return ()
    return [_torch_device(found.type, i) for i in range(torch.accelerator.device_count())]


def _load_ascend() -> None:
    """Torch knows Ascend's devices once the package torch_npu is imported."""
    with suppress(ImportError, OSError, RuntimeError):
        import_module("torch_npu")


def _torch_device(kind: str, index: int) -> Device:
    import torch

    module = getattr(torch, kind)
    properties = _asked(module, "get_device_properties", index)
    free, total = _asked(module, "mem_get_info", index) or (None, None)
    return Device(
        kind=kind,
        index=index,
        name=getattr(properties, "name", None) or kind,
        memory_total=total
        or getattr(properties, "total_memory", None)
        or _asked(module, "recommended_max_memory"),
        memory_free=free,
        capability=_capability(properties),
        make=_make(kind),
    )


def _asked(module: Any, name: str, *arguments: Any) -> Any:
    """An answer of torch's module for a kind of device, None where it has none."""
    ask = getattr(module, name, None)
    try:
        return ask(*arguments) if ask else None
    except (RuntimeError, AssertionError, NotImplementedError):
        return None


def _capability(properties: Any) -> str | None:
    architecture = getattr(properties, "gcnArchName", None)  # AMD's, such as gfx942:sramecc+
    if architecture:
        return str(architecture).partition(":")[0]
    major, minor = (getattr(properties, name, None) for name in ("major", "minor"))
    return None if major is None else f"{major}.{minor}"


def _make(kind: str) -> Make:
    import torch

    if kind == "cuda":
        return "amd" if torch.version.hip else "nvidia"
    makes: dict[str, Make] = {"npu": "ascend", "mps": "apple"}
    return makes.get(kind, "other")

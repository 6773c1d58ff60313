"""Rules on whether driver, torch and flash-attention fit the card."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.machine.accelerators import Device
from glmdiag.machine.hardware import SHORT, Machine

KERNELS = re.compile(r"(sm|compute)_(\d+)(\d)[a-z]?")
FIRST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""The first drivers (on Linux) of each CUDA, which run all later builds of the same CUDA."""


@rule("HW015", Severity.ERROR)
def driver_too_old(machine: Machine) -> Iterator[Finding]:
    """The driver is too old for torch's CUDA.

    Evidence: Torch was built for CUDA {cuda}; driver {driver} runs CUDA up to {driver_cuda}.
    Why: torch falls back to the processor or ends with "the NVIDIA driver on your system is too
    old".
    Fix: update the driver, or install a build of torch for CUDA {driver_major} from
    https://pytorch.org/get-started/previous-versions.
    """
    cuda, newest = _major(machine.versions.get("cuda")), _driver_major(machine)
    if cuda is not None and newest is not None and cuda > newest and _has_nvidia(machine):
        yield driver_too_old.finding(
            "torch",
            cuda=str(machine.versions["cuda"]),
            driver=str(machine.driver),
            driver_cuda=machine.driver_cuda or str(newest),
            driver_major=newest,
        )


@rule("HW016", Severity.ERROR)
def no_kernels(machine: Machine) -> Iterator[Finding]:
    """Torch has no kernels for the card.

    Evidence: {place} ({name}) has compute capability {capability}; torch {torch} has kernels for
    {kernels}.
    Why: the first computation ends with "no kernel image is available for execution on the device".
    PyTorch's builds for CUDA 13 have none for Pascal and Volta, and builds before CUDA 12.8 none
    for Blackwell.
    Fix: install a build of torch that has them: for P100 and V100 one for CUDA 12.6, for RTX 50 and
    B200 one for CUDA 12.8 or later.
    """
    for device in machine.devices:
        if device.compute and machine.architectures and not _covered(device, machine):
            yield no_kernels.finding(
                device.place,
                place=device.place,
                name=device.name,
                capability=str(device.capability),
                torch=str(machine.versions.get("torch")),
                kernels=", ".join(machine.architectures),
            )


@rule("HW017", Severity.INFO)
def flash_missing(machine: Machine) -> Iterator[Finding]:
    """Flash attention could run here but is not installed.

    Evidence: {name} can run flash-attention 2 in {dtype}; the package flash-attn is not installed.
    Why: without it packed rows need a mask of length by length, for which torch's own attention
    takes a slower kernel.
    Fix: install the package flash-attn, built for the installed torch; or stay with
    --attention sdpa and length buckets.
    """
    found = machine.attention
    states = {kernel.kind: kernel.state for kernel in found.kernels} if found else {}
    if found is not None and states.get("flash_attention_2") == "package":
        yield flash_missing.finding(
            "flash-attn", name=machine.devices[0].name, dtype=SHORT[found.dtype]
        )


@rule("HW018", Severity.INFO)
def flash_unsupported(machine: Machine) -> Iterator[Finding]:
    """Flash attention cannot run on this card.

    Evidence: {name} has compute capability {capability}; flash-attention 2 needs 8.0 (Ampere).
    Why: a script that asks for flash_attention_2 ends with "FlashAttention only supports Ampere
    GPUs or newer".
    Fix: take --attention sdpa (flash_attn: sdpa in LLaMA-Factory, attn_impl: sdpa in ms-swift);
    torch then takes its {plain} kernel.
    """
    found = machine.attention
    states = {kernel.kind: kernel.state for kernel in found.kernels} if found else {}
    if found is not None and states.get("flash_attention_2") == "capability":
        yield flash_unsupported.finding(
            "attention",
            name=machine.devices[0].name,
            capability=str(machine.devices[0].capability),
            plain=found.plain.removeprefix("sdpa_"),
        )


BUILD_RULES = (driver_too_old, no_kernels, flash_missing, flash_unsupported)


def _has_nvidia(machine: Machine) -> bool:
    return all(device.make == "nvidia" for device in machine.devices)


def _major(version: str | None) -> int | None:
    found = re.match(r"\d+", version or "")
    return int(found[0]) if found else None


def _driver_major(machine: Machine) -> int | None:
    """The CUDA that the driver runs, from its own number where it was not asked."""
    if machine.driver_cuda is not None:
        return _major(machine.driver_cuda)
    driver = _major(machine.driver)
    if driver is None:
        return None
    return max((cuda for cuda, first in FIRST_DRIVERS.items() if driver >= first), default=None)


def _covered(device: Device, machine: Machine) -> bool:
    """Kernels run on later cards of the same generation, PTX (`compute_`) on all later ones."""
    assert device.compute is not None
    for found in map(KERNELS.fullmatch, machine.architectures):
        built = (int(found[2]), int(found[3])) if found else None
        if found is None or built is None or built > device.compute:
            continue
        if found[1] == "compute" or built[0] == device.compute[0]:
            return True
    return False

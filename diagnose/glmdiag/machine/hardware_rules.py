"""Rules on a machine: each takes a `Machine` and yields its findings."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Example, Finding, Severity, rule

from glmdiag.machine.accelerators import Device, Process
from glmdiag.machine.build_rules import BUILD_RULES
from glmdiag.machine.device_rules import DEVICE_RULES
from glmdiag.machine.hardware import SHORT, Machine

GIB = 1 << 30
FREE_SHARE = 0.5  # of a device: less means that somebody else computes there, or a process leaked
FREE_MEMORY = 4 * GIB  # of main memory: less does not hold even a small model beside its data
HELD = GIB // 2  # a desktop's own windows hold less


@rule("HW001", Severity.INFO)
def no_accelerator(machine: Machine) -> Iterator[Finding]:
    """No accelerator.

    Evidence: No GPU or other accelerator is seen; training would run on {name} ({threads} threads).
    Why: a CPU is enough to try the road with a tiny model; a 9B model would take weeks.
    Fix: prepare the data here, and train on a machine with a GPU; the shards can be copied.
    """
    cpu = machine.cpu
    if not machine.devices and cpu is not None:
        yield no_accelerator.finding("cpu", name=cpu.name, threads=cpu.threads)


@rule("HW002", Severity.WARNING)
def bf16_emulated(machine: Machine) -> Iterator[Finding]:
    """The hardware has no bf16 units.

    Evidence: {device} has no bf16 units; a product in emulated bf16 took {slowdown:.1f} times as
    long as in fp32.
    Why: scripts that ask for bf16 without a look run all the same, only slowly, or fail in the
    middle.
    Fix: leave --dtype auto, which takes {dtype} here; do not pass --dtype bf16.
    """
    found = machine.recommendation
    if found is None or found.bf16.state != "missing":
        return
    yield bf16_emulated.finding(
        found.device,
        severity=Severity.INFO if found.device == "cpu" else Severity.WARNING,
        device=found.device,
        slowdown=1 / max(found.bf16.speedup, 1e-9),
        dtype=SHORT[found.dtype],
    )


@rule("HW003", Severity.ERROR)
def bf16_wrong(machine: Machine) -> Iterator[Finding]:
    """Bf16 gives wrong results.

    Evidence: On {device} the loss or gradient of a small test in bf16 is off by {error:.1%} from
    fp64.
    Why: such a device or build of torch trains towards something else than the data, without a
    message.
    Fix: train with --dtype {option}, and update torch or the driver.
    """
    found = machine.recommendation
    if found is not None and found.bf16.state == "wrong":
        yield bf16_wrong.finding(
            found.device,
            device=found.device,
            error=found.bf16.error,
            option=SHORT[found.dtype],
        )


@rule("HW004", Severity.WARNING)
def little_memory(machine: Machine) -> Iterator[Finding]:
    """Little memory is free.

    Evidence: {place} has {free:.1f} GiB free of {total:.1f} GiB.
    Why: training stops with an out-of-memory error, often not at once but at the longest batch.
    Fix: end what holds the memory, or take a smaller --tokens-per-batch with
    --gradient-checkpointing.
    """
    cpu = machine.cpu
    if cpu is not None and cpu.memory_free < FREE_MEMORY:
        free, total = cpu.memory_free / GIB, cpu.memory_total / GIB
        yield little_memory.finding("cpu", place="main memory", free=free, total=total)
    for device in machine.devices:
        if device.memory_free is None or not device.memory_total:
            continue
        if device.memory_free < FREE_SHARE * device.memory_total:
            free, total = device.memory_free / GIB, device.memory_total / GIB
            yield little_memory.finding(device.place, place=device.place, free=free, total=total)


@rule("HW005", Severity.WARNING)
def device_shared(machine: Machine) -> Iterator[Finding]:
    """Other processes hold memory on the device.

    Evidence: {count} other processes hold {held:.1f} GiB on {place}.
    Why: their need can grow at any time, and then one of you runs out of memory.
    Fix: ask their owners, end those that are left over from earlier runs, or choose another device
    with CUDA_VISIBLE_DEVICES.
    """
    for device in machine.devices:
        held = sum(process.memory or 0 for process in device.processes)
        if held >= HELD:
            yield device_shared.finding(
                device.place,
                examples=tuple(_as_example(device, process) for process in device.processes),
                count=len(device.processes),
                held=held / GIB,
                place=device.place,
            )


@rule("HW006", Severity.WARNING)
def torch_missing(machine: Machine) -> Iterator[Finding]:
    """Torch is not installed.

    Evidence: This Python ({python}) has no torch.
    Why: data can be prepared without it, but not trained on.
    Fix: pip install torch, then pip install "glm-finetune-suite[train]".
    """
    if "torch" in machine.unseen:
        yield torch_missing.finding("torch", python=str(machine.versions["python"]))


@rule("HW007", Severity.ERROR)
def torch_without_cuda(machine: Machine) -> Iterator[Finding]:
    """Torch cannot use the NVIDIA GPU.

    Evidence: The NVIDIA driver ({driver}) is loaded, but torch {torch} computes on the CPU; its
    CUDA is {cuda}.
    Why: training runs a hundred times slower than it could, and nothing says so.
    Fix: install the build of torch for your CUDA from https://pytorch.org/get-started, update a
    driver that is older than that CUDA, and look whether CUDA_VISIBLE_DEVICES is empty.
    """
    found = machine.recommendation
    if found is not None and found.device == "cpu" and machine.has_nvidia_driver:
        yield torch_without_cuda.finding(
            "torch",
            driver=str(machine.driver),
            torch=str(machine.versions["torch"]),
            cuda=machine.versions["cuda"] or "none",
        )


@rule("HW008", Severity.WARNING)
def bf16_slow(machine: Machine) -> Iterator[Finding]:
    """Bf16 is slower than fp32.

    Evidence: {device} reports bf16 units, but a product in bf16 runs at {speedup:.2f} times the
    speed of fp32.
    Why: either the device is busy, or this build of torch has no kernel for its units.
    Fix: run glmdiag hw again when the device is idle; if it stays, update torch.
    """
    found = machine.recommendation
    if found is not None and found.bf16.state == "slow":
        yield bf16_slow.finding(found.device, device=found.device, speedup=found.bf16.speedup)


HARDWARE_RULES = (
    no_accelerator,
    bf16_emulated,
    bf16_wrong,
    little_memory,
    device_shared,
    torch_missing,
    torch_without_cuda,
    bf16_slow,
    *DEVICE_RULES,
    *BUILD_RULES,
)


def judge(machine: Machine) -> list[Finding]:
    """All findings on a machine."""
    return [finding for each in HARDWARE_RULES for finding in each(machine)]


def _as_example(device: Device, process: Process) -> Example:
    memory = "?" if process.memory is None else f"{process.memory / GIB:.1f} GiB"
    text = f"{process.name or '?'} ({process.user or '?'}) {memory}"
    return Example(where=f"{device.place} pid {process.pid}", excerpt=text)

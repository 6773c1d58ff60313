"""Rules on what a machine's devices and their links are like."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Example, Finding, Severity, rule

from glmdiag.machine.hardware import SHORT, Machine

LOWERED = 0.9  # of the power limit as delivered; less is somebody's decision, not rounding
FEW_LANES = 4  # PCIe 3.0 with four lanes moves 4 GB/s: offloading and several GPUs wait for it


@rule("HW009", Severity.WARNING)
def card_without_bf16(machine: Machine) -> Iterator[Finding]:
    """The card has no bf16 units.

    Evidence: {card} (compute capability {capability}) has no bf16 units: they begin with 8.0 at
    NVIDIA (A100, RTX 30) and with 910B at Ascend.
    Why: scripts that ask for bf16 without a look run all the same, only slowly, or fail in the
    middle.
    Fix: train in {dtype} on it: leave --dtype auto, and switch bf16 off in other trainers'
    configurations.
    """
    if machine.simulated and machine.formats.bf16 is False:
        yield card_without_bf16.finding(
            machine.simulated,
            card=machine.simulated,
            capability=machine.devices[0].capability or "-",
            dtype=SHORT[machine.dtype or "float32"],
        )


@rule("HW010", Severity.WARNING)
def slowed_down(machine: Machine) -> Iterator[Finding]:
    """A device is slowed down.

    Evidence: {place} runs at {clock} of {clock_max} MHz because of {reason}; it is at {temperature}
    degrees Celsius.
    Why: steps take longer than they could, more so the longer the run, and in a group of GPUs all
    wait for the slowest.
    Fix: look after cooling and power supply of this machine; nvidia-smi -q -d PERFORMANCE tells
    more.
    """
    for device in machine.devices:
        state = device.condition
        if state.slowed_by:
            yield slowed_down.finding(
                device.place,
                place=device.place,
                reason=", ".join(state.slowed_by),
                clock=_told(state.clock),
                clock_max=_told(state.clock_max),
                temperature=_told(state.temperature),
            )


@rule("HW011", Severity.ERROR)
def memory_errors(machine: Machine) -> Iterator[Finding]:
    """A device's memory has errors.

    Evidence: {place} had {count} memory {count:|error|errors} that could not be corrected since its
    driver was loaded.
    Why: such an error ends the process that it hits, or changes a number without a word.
    Fix: reset the device or restart the machine; if errors come back, have the card exchanged.
    """
    for device in machine.devices:
        if device.condition.ecc_errors:
            yield memory_errors.finding(
                device.place, place=device.place, count=device.condition.ecc_errors
            )


@rule("HW012", Severity.INFO)
def narrow_link(machine: Machine) -> Iterator[Finding]:
    """A device's PCIe link is narrower than it could be.

    Evidence: {place} uses {lanes} of {lanes_max} PCIe lanes.
    Why: loading, offloading and gradients between GPUs go over this link.
    Fix: put the card into another slot, or seat it and its riser again; where the board shares
    lanes among slots, take this as it is.
    """
    for device in machine.devices:
        lanes, most = device.condition.lanes, device.condition.lanes_max
        if lanes and most and lanes < most:
            yield narrow_link.finding(
                device.place,
                severity=Severity.WARNING if lanes <= FEW_LANES else Severity.INFO,
                place=device.place,
                lanes=lanes,
                lanes_max=most,
            )


@rule("HW013", Severity.INFO)
def power_lowered(machine: Machine) -> Iterator[Finding]:
    """A device's power limit was lowered.

    Evidence: {place} may draw {limit:.0f} W; as delivered it is {default:.0f} W.
    Why: clocks fall under load, so steps take longer; the results are the same.
    Fix: if that is not meant, set it back with nvidia-smi -i {index} -pl {default:.0f}.
    """
    for device in machine.devices:
        limit, default = device.condition.power_limit, device.condition.power_default
        if limit and default and limit < LOWERED * default:
            yield power_lowered.finding(
                device.place,
                place=device.place,
                limit=limit,
                default=default,
                index=device.index,
            )


@rule("HW014", Severity.WARNING)
def mixed_devices(machine: Machine) -> Iterator[Finding]:
    """The accelerators differ.

    Evidence: {count} kinds of accelerators in one machine: {names}.
    Why: all processes of a run do the same work, so the smallest memory and the slowest card decide
    for all; cards with and without bf16 units cannot train together in one format.
    Fix: choose like cards with CUDA_VISIBLE_DEVICES.
    """
    alive = [device for device in machine.devices if device.problem is None]
    names = sorted({device.name for device in alive})
    if len(names) > 1:
        yield mixed_devices.finding(
            alive[0].place,
            examples=tuple(Example(where=d.place, excerpt=d.name) for d in alive),
            count=len(names),
            names=", ".join(names),
        )


@rule("HW019", Severity.ERROR)
def device_lost(machine: Machine) -> Iterator[Finding]:
    """A device does not answer.

    Evidence: {place}: {problem}.
    Why: runs that count on it hang or end; a card that fell off the bus comes back only with a
    restart.
    Fix: look for Xid in the kernel's log (dmesg), restart the machine, and check the card's power
    and seat if it happens again.
    """
    for device in machine.devices:
        if device.problem is not None:
            yield device_lost.finding(device.place, place=device.place, problem=device.problem)


@rule("HW020", Severity.INFO)
def no_nvlink(machine: Machine) -> Iterator[Finding]:
    """Several GPUs are joined by PCIe alone.

    Evidence: {count} GPUs, none of them with an NVLink that is up.
    Why: gradients of full training and ZeRO-3's weights pass over PCIe in every step; adapters are
    small, so LoRA hardly feels it.
    Fix: prefer LoRA, or ZeRO-2 to ZeRO-3; on GeForce RTX 40 set NCCL_P2P_DISABLE=1 if NCCL hangs.
    """
    alive = [d for d in machine.devices if d.problem is None and d.make == "nvidia"]
    told = [device.condition.nvlinks for device in alive]
    seen = any(device.condition.lanes is not None for device in alive)
    if len(alive) > 1 and seen and not any(told):
        yield no_nvlink.finding(alive[0].place, count=len(alive))


DEVICE_RULES = (
    card_without_bf16,
    slowed_down,
    memory_errors,
    narrow_link,
    power_lowered,
    mixed_devices,
    device_lost,
    no_nvlink,
)


def _told(value: int | None) -> int | str:
    return "?" if value is None else value

"""Sections on a machine's devices: how they are doing, their attention, and what fits on them."""

from __future__ import annotations

from collections.abc import Sequence

from glmreport.page import Block, Column, Paragraph, Section, Table, Value
from glmreport.text import Literal, Text

from glmdiag.machine.accelerators import UNTOLD, Condition, Device
from glmdiag.machine.attention import Attention
from glmdiag.machine.hardware import SHORT, Machine
from glmdiag.machine.room import Room


def columns(*names: str) -> list[Column]:
    """Headings of a table."""
    return [Column(label=Text(f"diag.hw.column.{name}")) for name in names]


def size(value: int | None) -> Text | None:
    """Bytes, None where they are not told."""
    return None if value is None else Text("diag.bytes", size=value)


def devices(machine: Machine) -> Section:
    """Accelerators, how they are doing and who uses them; what could not be looked at."""
    blocks: list[Block] = []
    if machine.devices:
        blocks.append(_devices(machine.devices))
    known = [device for device in machine.devices if device.condition != UNTOLD]
    if known:
        blocks.append(_conditions(known))
    if any(device.processes for device in machine.devices):
        blocks.append(_processes(machine.devices))
    blocks += [Paragraph(Text(f"diag.hw.unseen.{name}")) for name in machine.unseen]
    if not blocks:
        blocks.append(Paragraph(Text("diag.hw.no_device")))
    return Section(title=Text("diag.hw.devices"), blocks=blocks)


def units(machine: Machine) -> Section:
    """Which number formats the device has units for, and whether TF32 is allowed."""
    formats = machine.formats
    rows: list[list[Value | None]] = [
        [Literal(name), Text(_known(value)), Text(f"diag.hw.unit.{name.lower()}")]
        for name, value in (
            ("BF16", formats.bf16),
            ("FP16", formats.fp16),
            ("TF32", formats.tf32),
            ("FP8", formats.fp8),
        )
    ]
    blocks: list[Block] = [Table(columns=columns("dtype", "native", "use"), rows=rows)]
    if machine.tf32 is not None and formats.tf32:
        blocks.append(Paragraph(Text(f"diag.hw.tf32.{'on' if machine.tf32 else 'off'}")))
    return Section(title=Text("diag.hw.units"), intro=_source(machine), blocks=blocks)


def attention(found: Attention) -> Section:
    """The kernels of attention, and which one is taken."""
    rows: list[list[Value | None]] = [
        [
            Text(f"diag.hw.kernel.{kernel.kind}"),
            Text("diag.yes" if kernel.usable else "diag.no"),
            Text(f"diag.hw.kernel_state.{kernel.state}"),
        ]
        for kernel in found.kernels
    ]
    taken = Text(
        "diag.hw.attention.taken",
        plain=Text(f"diag.hw.kernel.{found.plain}"),
        masked=Text(f"diag.hw.kernel.{found.masked}"),
    )
    load = Text(f"diag.hw.attention.{found.load}")
    table = Table(columns=columns("kernel", "usable", "reason"), rows=rows)
    intro = Text("diag.hw.attention.intro", head=found.head, dtype=SHORT[found.dtype])
    title = Text("diag.hw.attention.title")
    return Section(title=title, intro=intro, blocks=[table, Paragraph(taken), Paragraph(load)])


def fitting(model: str, rooms: Sequence[Room], dtype: str) -> Section:
    """The longest row of each method that fits."""
    rows: list[list[Value | None]] = [
        [
            Literal(room.method),
            Text("diag.hw.room.none")
            if room.longest is None
            else Text("diag.hw.room.tokens", count=room.longest),
            size(room.needs),
        ]
        for room in rooms
    ]
    table = Table(columns=columns("method", "longest", "needs"), rows=rows)
    intro = Text("diag.hw.room.intro", model=model, dtype=dtype)
    return Section(title=Text("diag.hw.room.title"), intro=intro, blocks=[table])


def _devices(found: Sequence[Device]) -> Table:
    return Table(
        columns=columns("device", "name", "capability", "total", "free"),
        rows=[
            [d.place, d.name, d.capability, size(d.memory_total), size(d.memory_free)]
            for d in found
        ],
    )


def _conditions(found: Sequence[Device]) -> Table:
    names = ("device", "clock", "slowed", "temperature", "power", "ecc", "pcie", "nvlink")
    return Table(
        columns=columns(*names),
        rows=[[device.place, *_condition(device.condition)] for device in found],
        caption=Text("diag.hw.condition"),
    )


def _condition(state: Condition) -> list[Value | None]:
    slowed = None
    if state.slowed_by is not None:
        slowed = ", ".join(state.slowed_by) or Text("diag.no")
    gen, gen_max = _number(state.pcie), _number(state.pcie_max)
    lanes = f"{_number(state.lanes)}/{_number(state.lanes_max)}"
    return [
        f"{_number(state.clock)} / {_number(state.clock_max)} MHz",
        slowed,
        None if state.temperature is None else f"{state.temperature} °C",
        f"{_number(state.power)} / {_number(state.power_limit)} W",
        state.ecc_errors,
        f"Gen {gen}/{gen_max}, x{lanes}",
        state.nvlinks,
    ]


def _processes(found: Sequence[Device]) -> Table:
    return Table(
        columns=columns("device", "pid", "user", "process", "memory"),
        rows=[
            [device.place, str(p.pid), p.user, p.name, size(p.memory)]
            for device in found
            for p in device.processes
        ],
        caption=Text("diag.hw.processes"),
    )


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _known(value: bool | None) -> str:
    return "diag.hw.fact.untold" if value is None else "diag.yes" if value else "diag.no"


def _source(machine: Machine) -> Text:
    return Text(f"diag.hw.source.{'card' if machine.simulated else 'device'}")

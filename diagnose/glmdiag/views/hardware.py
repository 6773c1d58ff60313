"""A machine as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import (
    Block,
    Chart,
    Column,
    Fact,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    Value,
    Verdict,
)
from glmreport.text import Literal, Message, Text
from glmtrain.probe import DtypeCheck, Recommendation

from glmdiag.hardware import SHORT, Machine

if TYPE_CHECKING:
    from rich.console import Console

INSTALL = "pip install torch 'glm-finetune-suite[train]'"


def page(machine: Machine, findings: Sequence[Finding], command: str) -> Page:
    """The whole report on a machine."""
    return Page(
        kind="glmdiag hw",
        title=Text("diag.hw.title"),
        subject=_device_name(machine),
        verdict=_verdict(machine, findings),
        steps=_steps(machine, findings),
        facts=_facts(machine),
        sections=[*_formats(machine.recommendation), *_devices(machine), _software(machine)],
        findings=finding_views(findings),
        provenance=provenance(command, []),
    )


def summary(machine: Machine, console: Console) -> None:
    """The machine in a few lines."""
    cpu, found = machine.cpu, machine.recommendation
    lines = [
        f"{'processor':<12}{cpu.name}, {cpu.threads} threads, {' '.join(cpu.flags) or 'no bf16'}",
        f"{'memory':<12}{_of(cpu.memory_free, cpu.memory_total)}",
    ]
    for device in machine.devices:
        told = _of(device.memory_free, device.memory_total)
        lines.append(f"{device.place:<12}{device.name}, {told}")
    versions = ", ".join(f"{name} {version or '-'}" for name, version in machine.versions.items())
    lines.append(f"{'versions':<12}{versions}")
    for name in machine.unseen:
        lines.append(f"{'not seen':<12}{name}")
    if found is not None:
        lines.append(f"{'train in':<12}{SHORT[found.dtype]} ({found.reason})")
    for line in lines:
        console.print(printable(line), soft_wrap=True)


def _of(free: int | None, total: int | None) -> str:
    if free is None or total is None:
        return "memory not told"
    return f"{free / (1 << 30):.1f} of {total / (1 << 30):.1f} GiB free"


def _device_name(machine: Machine) -> str:
    return machine.devices[0].name if machine.devices else machine.cpu.name


def _verdict(machine: Machine, findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    found = machine.recommendation
    if found is None:
        headline, detail = Text("diag.hw.headline.no_torch"), Text("diag.hw.detail.no_torch")
    else:
        headline = Text("diag.hw.headline.train", dtype=SHORT[found.dtype])
        detail = Text(f"diag.hw.detail.{found.bf16.state}", speed=found.bf16.speedup)
    return Verdict(level=level, headline=headline, detail=detail)


def _steps(machine: Machine, findings: Sequence[Finding]) -> list[Step]:
    found = machine.recommendation
    if found is None:
        return [Step(text=Text("diag.hw.step.install"), command=INSTALL)]
    model = "tiny" if found.device == "cpu" else "zai-org/glm-4-9b-chat-hf"
    train = f"glmtrain run --model {model} --shards SHARDS --output RUN"
    steps = [Step(text=Text("diag.hw.step.train", dtype=SHORT[found.dtype]), command=train)]
    if findings:
        worst = min(findings, key=lambda finding: finding.severity.rank)
        explain = f"glmdiag explain {worst.rule}"
        steps.append(Step(text=Text("diag.step.explain", rule=worst.rule), command=explain))
    return steps


def _facts(machine: Machine) -> list[Fact]:
    found, cpu = machine.recommendation, machine.cpu
    memory: int | None = cpu.memory_total
    free: int | None = cpu.memory_free
    if machine.devices:
        memory, free = machine.devices[0].memory_total, machine.devices[0].memory_free
    facts = [
        Fact(label=Text("diag.hw.fact.device"), value=_device_name(machine)),
        Fact(
            label=Text("diag.hw.fact.free"),
            value=_told(free),
            note=_total(memory),
        ),
    ]
    if found is not None:
        native = "yes" if found.bf16.native else "no"
        facts.insert(0, Fact(label=Text("diag.hw.fact.dtype"), value=SHORT[found.dtype]))
        facts.append(Fact(label=Text("diag.hw.fact.native"), value=Text(f"diag.{native}")))
    return facts


def _bytes(size: int | None) -> Text | None:
    return None if size is None else Text("diag.bytes", size=size)


def _told(size: int | None) -> Text:
    return Text("diag.hw.fact.untold") if size is None else Text("diag.bytes", size=size)


def _total(size: int | None) -> Text | None:
    return None if size is None else Text("diag.hw.fact.total", size=size)


def _formats(found: Recommendation | None) -> list[Section]:
    """How the number formats did in the test computation."""
    if found is None:
        return []
    checks = (found.fp32, found.bf16, found.fp16)
    columns = ["dtype", "native", "error", "milliseconds", "speed", "state"]
    table = Table(
        columns=[
            Column(
                label=Text(f"diag.hw.column.{name}"),
                numeric=name in ("error", "milliseconds", "speed"),
                spec=".2e" if name == "error" else ".3g",
            )
            for name in columns
        ],
        rows=[_format_row(check) for check in checks],
    )
    blocks: list[Block] = [table]
    if all(check.problem is None for check in checks):
        blocks.insert(0, _timing(checks))
    title, intro = Text("diag.hw.formats.title"), Text("diag.hw.formats.intro")
    return [Section(title=title, intro=intro, blocks=blocks)]


def _timing(checks: Sequence[DtypeCheck]) -> Chart:
    return charts.bars(
        [Literal(SHORT[check.dtype]) for check in checks],
        [charts.Series(Text("diag.hw.column.milliseconds"), [1000 * c.seconds for c in checks])],
        caption=Text("diag.hw.formats.caption"),
        spec=".3g",
    )


def _format_row(check: DtypeCheck) -> list[Value | None]:
    native = Text("diag.yes" if check.native else "diag.no")
    state = Text(f"diag.hw.state.{check.state}")
    milliseconds = 1000 * check.seconds
    return [SHORT[check.dtype], native, check.error, milliseconds, check.speedup, state]


def _devices(machine: Machine) -> list[Section]:
    """Accelerators and who uses them; what could not be looked at."""
    blocks: list[Block] = []
    if machine.devices:
        blocks.append(_device_table(machine))
    processes = [(d.place, process) for d in machine.devices for process in d.processes]
    if processes:
        blocks.append(
            Table(
                columns=_columns("device", "pid", "user", "process", "memory"),
                rows=[
                    [place, str(p.pid), p.user, p.name, _bytes(p.memory)] for place, p in processes
                ],
                caption=Text("diag.hw.processes"),
            )
        )
    blocks += [Paragraph(Text(f"diag.hw.unseen.{name}")) for name in machine.unseen]
    if not blocks:
        blocks.append(Paragraph(Text("diag.hw.no_device")))
    return [Section(title=Text("diag.hw.devices"), blocks=blocks)]


def _device_table(machine: Machine) -> Table:
    return Table(
        columns=_columns("device", "name", "capability", "total", "free"),
        rows=[
            [d.place, d.name, d.capability, _bytes(d.memory_total), _bytes(d.memory_free)]
            for d in machine.devices
        ],
    )


def _software(machine: Machine) -> Section:
    """The processor and the versions."""
    cpu = machine.cpu
    rows: list[list[Value | None]] = [
        [Text("diag.hw.cpu.name"), cpu.name],
        [Text("diag.hw.cpu.cores"), cpu.cores],
        [Text("diag.hw.cpu.threads"), cpu.threads],
        [Text("diag.hw.cpu.memory"), Text("diag.bytes", size=cpu.memory_total)],
        [Text("diag.hw.cpu.flags"), ", ".join(cpu.flags) or Text("diag.none")],
        [Text("diag.hw.driver"), machine.driver or Text("diag.none")],
    ]
    versions = machine.versions.items()
    rows += [[Literal(name), version or Text("diag.none")] for name, version in versions]
    table = Table(columns=_columns("what", "value"), rows=rows)
    return Section(title=Text("diag.hw.software"), blocks=[table])


def _columns(*names: str) -> list[Column]:
    return [Column(label=_heading(name)) for name in names]


def _heading(name: str) -> Message:
    return Text(f"diag.hw.column.{name}")

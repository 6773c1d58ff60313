"""A machine as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import Block, Chart, Column, Fact, Page, Section, Step, Table, Value, Verdict
from glmreport.text import Literal, Text
from glmtrain.probe import DtypeCheck, Recommendation

from glmdiag.machine.hardware import SHORT, Machine
from glmdiag.machine.room import Room
from glmdiag.views import devices
from glmdiag.views.devices import columns, size

if TYPE_CHECKING:
    from rich.console import Console

INSTALL = "pip install torch 'glm-finetune-suite[train]'"


def page(
    machine: Machine,
    findings: Sequence[Finding],
    command: str,
    model: str = "",
    rooms: Sequence[Room] = (),
) -> Page:
    """The whole report on a machine; `rooms` are what fits of `model`."""
    sections = [*_formats(machine.recommendation), devices.units(machine)]
    if machine.attention is not None:
        sections.append(devices.attention(machine.attention))
    if rooms:
        sections.append(devices.fitting(model, rooms, _short(machine)))
    return Page(
        kind="glmdiag hw",
        title=Text("diag.hw.title"),
        subject=_device_name(machine),
        verdict=_verdict(machine, findings),
        steps=_steps(machine, findings),
        facts=_facts(machine),
        sections=[*sections, devices.devices(machine), _software(machine)],
        findings=finding_views(findings),
        provenance=provenance(command, []),
    )


def summary(
    machine: Machine, console: Console, model: str = "", rooms: Sequence[Room] = ()
) -> None:
    """The machine in a few lines."""
    lines = [*_cpu_lines(machine), *_device_lines(machine)]
    versions = ", ".join(f"{name} {version or '-'}" for name, version in machine.versions.items())
    lines.append(("versions", versions))
    lines += [("not seen", name) for name in machine.unseen]
    found = machine.attention
    if found is not None:
        taken = f"sdpa takes {_plain(found.plain)}, with a mask {_plain(found.masked)}"
        lines.append(("attention", f"{found.load}; for heads of {found.head} {taken}"))
    for room in rooms:
        fits = "does not fit" if room.longest is None else f"rows of up to {room.longest:,} tokens"
        lines.append((room.method, f"{model}: {fits}"))
    if machine.dtype is not None:
        lines.append(("train in", f"{_short(machine)} ({_reason(machine)})"))
    for name, text in lines:
        console.print(printable(f"{name:<12}{text}"), soft_wrap=True)


def _cpu_lines(machine: Machine) -> list[tuple[str, str]]:
    cpu = machine.cpu
    if cpu is None:
        return []
    flags = " ".join(cpu.flags) or "no bf16"
    return [
        ("processor", f"{cpu.name}, {cpu.threads} threads, {flags}"),
        ("memory", _of(cpu.memory_free, cpu.memory_total)),
    ]


def _device_lines(machine: Machine) -> list[tuple[str, str]]:
    name = "simulated" if machine.simulated else ""
    return [
        (name or d.place, f"{d.name}, {d.problem or _of(d.memory_free, d.memory_total)}")
        for d in machine.devices
    ]


def _of(free: int | None, total: int | None) -> str:
    if free is None or total is None:
        return "memory not told"
    return f"{free / (1 << 30):.1f} of {total / (1 << 30):.1f} GiB free"


def _short(machine: Machine) -> str:
    return SHORT[machine.dtype or "float32"]


def _plain(kernel: str) -> str:
    return kernel.removeprefix("sdpa_")


def _reason(machine: Machine) -> str:
    if machine.recommendation is not None:
        return machine.recommendation.reason
    return "what the card has units for"


def _device_name(machine: Machine) -> str:
    if machine.devices:
        return machine.devices[0].name
    return machine.cpu.name if machine.cpu else "-"


def _verdict(machine: Machine, findings: Sequence[Finding]) -> Verdict:
    level, found = verdict_level(findings), machine.recommendation
    headline = Text("diag.hw.headline.train", dtype=_short(machine))
    if machine.simulated is not None:
        headline = Text("diag.hw.headline.card", dtype=_short(machine), card=machine.simulated)
        detail = Text("diag.hw.detail.card")
    elif found is None:
        headline, detail = Text("diag.hw.headline.no_torch"), Text("diag.hw.detail.no_torch")
    else:
        detail = Text(f"diag.hw.detail.{found.bf16.state}", speed=found.bf16.speedup)
    return Verdict(level=level, headline=headline, detail=detail)


def _steps(machine: Machine, findings: Sequence[Finding]) -> list[Step]:
    if machine.dtype is None:
        return [Step(text=Text("diag.hw.step.install"), command=INSTALL)]
    found = machine.recommendation
    model = "tiny" if found and found.device == "cpu" else "zai-org/glm-4-9b-chat-hf"
    train = f"glmtrain run --model {model} --shards SHARDS --output RUN"
    steps = [Step(text=Text("diag.hw.step.train", dtype=_short(machine)), command=train)]
    if findings:
        worst = min(findings, key=lambda finding: finding.severity.rank)
        explain = f"glmdiag explain {worst.rule}"
        steps.append(Step(text=Text("diag.step.explain", rule=worst.rule), command=explain))
    return steps


def _facts(machine: Machine) -> list[Fact]:
    cpu, total, free = machine.cpu, None, None
    if machine.devices:
        total, free = machine.devices[0].memory_total, machine.devices[0].memory_free
    elif cpu is not None:
        total, free = cpu.memory_total, cpu.memory_free
    facts = [
        Fact(label=Text("diag.hw.fact.device"), value=_device_name(machine)),
        Fact(
            label=Text("diag.hw.fact.free"),
            value=size(free) or Text("diag.hw.fact.untold"),
            note=None if total is None else Text("diag.hw.fact.total", size=total),
        ),
    ]
    if machine.dtype is not None:
        native = "yes" if machine.bf16_native else "no"
        facts.insert(0, Fact(label=Text("diag.hw.fact.dtype"), value=_short(machine)))
        facts.append(Fact(label=Text("diag.hw.fact.native"), value=Text(f"diag.{native}")))
    return facts


def _formats(found: Recommendation | None) -> list[Section]:
    """How the number formats did in the test computation."""
    if found is None:
        return []
    checks = (found.fp32, found.bf16, found.fp16)
    names = ["dtype", "native", "error", "milliseconds", "speed", "state"]
    table = Table(
        columns=[
            Column(
                label=Text(f"diag.hw.column.{name}"),
                numeric=name in ("error", "milliseconds", "speed"),
                spec=".2e" if name == "error" else ".3g",
            )
            for name in names
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


def _software(machine: Machine) -> Section:
    """The processor and the versions."""
    cpu = machine.cpu
    rows: list[list[Value | None]] = []
    if cpu is not None:
        rows += [
            [Text("diag.hw.cpu.name"), cpu.name],
            [Text("diag.hw.cpu.cores"), cpu.cores],
            [Text("diag.hw.cpu.threads"), cpu.threads],
            [Text("diag.hw.cpu.memory"), Text("diag.bytes", size=cpu.memory_total)],
            [Text("diag.hw.cpu.flags"), ", ".join(cpu.flags) or Text("diag.none")],
            [Text("diag.hw.driver"), machine.driver or Text("diag.none")],
        ]
    versions = machine.versions.items()
    rows += [[Literal(name), version or Text("diag.none")] for name, version in versions]
    table = Table(columns=columns("what", "value"), rows=rows)
    return Section(title=Text("diag.hw.software"), blocks=[table])

"""An environment as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.page import (
    Block,
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
from glmreport.text import Literal, Text

from glmdiag.software.environment import OF_TORCH, Environment
from glmdiag.software.remote_code import RemoteCode

if TYPE_CHECKING:
    from rich.console import Console


def page(found: Environment, findings: Sequence[Finding], command: str) -> Page:
    """The whole report on an environment."""
    sections = [_clashes(found), *([_code(found.model)] if found.model else []), _versions(found)]
    inputs = [name for name in (found.file, found.model.folder if found.model else None) if name]
    return Page(
        kind="glmdiag env",
        title=Text("diag.env.title"),
        subject=found.file or (found.model.folder if found.model else _torch(found)),
        verdict=_verdict(findings),
        steps=_steps(found, findings),
        facts=_facts(found),
        sections=sections,
        findings=finding_views(findings),
        provenance=provenance(command, inputs),
    )


def summary(found: Environment, console: Console) -> None:
    """The environment in a few lines."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    lines = [("versions", versions or "none that matter here")]
    if found.python:
        lines.insert(0, ("python", found.python))
    if found.built is not None:
        lines.append(("torch has", ", ".join(f"{n} {v or '-'}" for n, v in found.built.items())))
    if found.driver:
        lines.append(("driver", f"{found.driver}, CUDA up to {found.driver_cuda or '?'}"))
    if found.skipped:
        lines.append(("passed over", f"{found.skipped} lines that name no version"))
    if found.model is not None:
        lines += _code_lines(found.model)
    for name, text in lines:
        console.print(printable(f"{name:<12}{text}"), soft_wrap=True)


def _code_lines(code: RemoteCode) -> list[tuple[str, str]]:
    names = ", ".join(code.architectures) or "no architecture named"
    native = "part of transformers" if code.native else "not part of transformers"
    return [
        ("model", f"{names}, {native}, written by transformers {code.written_for or '?'}"),
        ("its code", f"{len(code.files)} files read, {len(code.troubles)} places will fail"),
    ]


def _torch(found: Environment) -> str:
    return f"torch {found.versions.get('torch', '-')}, transformers {found.transformers or '-'}"


def _verdict(findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    return Verdict(
        level=level,
        headline=Text(f"diag.env.headline.{level}"),
        detail=Text("diag.env.detail", count=len(findings)),
    )


def _steps(found: Environment, findings: Sequence[Finding]) -> list[Step]:
    installs = [f'"{clash.pair.install}"' for clash in found.clashes]
    steps = []
    if installs:
        command = f"pip install {' '.join(dict.fromkeys(installs))}"
        steps.append(Step(text=Text("diag.env.step.install"), command=command))
    if findings:
        worst = min(findings, key=lambda finding: finding.severity.rank)
        explain = f"glmdiag explain {worst.rule}"
        steps.append(Step(text=Text("diag.step.explain", rule=worst.rule), command=explain))
    return steps or [Step(text=Text("diag.env.step.hardware"), command="glmdiag hw")]


def _facts(found: Environment) -> list[Fact]:
    facts = [
        Fact(label=Text("diag.env.fact.packages"), value=len(found.versions)),
        Fact(label=Text("diag.env.fact.clashes"), value=len(found.clashes)),
    ]
    if found.model is not None:
        code = found.model
        facts += [
            Fact(label=Text("diag.env.fact.files"), value=len(code.files)),
            Fact(label=Text("diag.env.fact.troubles"), value=len(code.troubles)),
        ]
    return facts


def _clashes(found: Environment) -> Section:
    title, intro = Text("diag.env.clashes.title"), Text("diag.env.clashes.intro")
    if not found.clashes:
        nothing: list[Block] = [Paragraph(Text("diag.env.clashes.none"))]
        return Section(title=title, intro=intro, blocks=nothing)
    rows: list[list[Value | None]] = [
        [
            ", ".join(f"{name} {version}" for name, version in clash.versions.items()),
            Text(f"diag.env.pair.{clash.pair.id}"),
            f"pip install '{clash.pair.install}'",
            clash.pair.thread,
        ]
        for clash in found.clashes
    ]
    table = Table(columns=_columns("versions", "breaks", "install", "thread"), rows=rows)
    return Section(title=title, intro=intro, blocks=[table])


def _code(code: RemoteCode) -> Section:
    """Where the model's code will fail."""
    blocks: list[Block] = [
        Paragraph(
            Text(
                "diag.env.code.model",
                names=", ".join(code.architectures) or "–",
                written=code.written_for or "–",
                installed=code.transformers or "–",
            )
        ),
        Paragraph(Text(f"diag.env.code.{'native' if code.native else 'foreign'}")),
    ]
    rows: list[list[Value | None]] = [
        [each.where, Text(f"diag.env.trouble.{each.kind}"), each.name, each.text]
        for each in code.troubles
    ]
    if rows:
        blocks.append(Table(columns=_columns("where", "what", "name", "line"), rows=rows))
    elif code.files:
        blocks.append(Paragraph(Text("diag.env.code.sound", count=len(code.files))))
    else:
        blocks.append(Paragraph(Text("diag.env.code.none")))
    skipped: list[list[Value | None]] = [
        [each.name, Text(f"diag.env.skipped.{each.reason}")] for each in code.skipped
    ]
    if skipped:
        caption = Text("diag.env.code.skipped")
        blocks.append(Table(columns=_columns("file", "why"), rows=skipped, caption=caption))
    title, intro = Text("diag.env.code.title"), Text("diag.env.code.intro")
    return Section(title=title, intro=intro, blocks=blocks)


def _versions(found: Environment) -> Section:
    rows: list[list[Value | None]] = [[Literal(n), v] for n, v in found.versions.items()]
    if found.python:
        rows.insert(0, [Literal("python"), found.python])
    if found.built is not None:
        rows += [[Literal(f"torch: {name}"), found.built.get(name) or "–"] for name in OF_TORCH]
    if found.driver:
        rows.append([Text("diag.hw.driver"), found.driver])
        rows.append([Text("diag.env.driver_cuda"), found.driver_cuda or "–"])
    blocks: list[Block] = [Table(columns=_columns("package", "version"), rows=rows)]
    if found.skipped:
        blocks.append(Paragraph(Text("diag.env.passed_over", count=found.skipped)))
    return Section(title=Text("diag.env.versions"), blocks=blocks)


def _columns(*names: str) -> list[Column]:
    return [Column(label=Text(f"diag.env.column.{name}")) for name in names]

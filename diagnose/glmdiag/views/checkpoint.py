"""What a run left, as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import RULES, Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import Chart, Column, Fact, Page, Section, Step, Table, Value, Verdict
from glmreport.text import Catalogue, Literal, RuleTitle, Text
from glmtrain.parity import Parity

from glmdiag.checkpoints.reading import Checkpoint

if TYPE_CHECKING:
    from rich.console import Console

LARGEST = 12
"""Tensors that are listed, the largest by root mean square."""


def page(
    checkpoint: Checkpoint, parity: Parity | None, findings: Sequence[Finding], command: str
) -> Page:
    """The whole report on a folder."""
    sections = [changes(checkpoint), _tensors(checkpoint), _optimiser(checkpoint)]
    sections += [_parity(parity), unseen(checkpoint.notes)]
    return Page(
        kind="glmdiag checkpoint",
        title=Text("diag.checkpoint.title"),
        subject=str(checkpoint.folder),
        verdict=_verdict(checkpoint, findings),
        steps=_steps(checkpoint),
        facts=_facts(checkpoint),
        sections=[section for section in sections if section is not None],
        findings=finding_views(findings),
        provenance=provenance(command, [str(checkpoint.folder)]),
    )


def summary(checkpoint: Checkpoint, parity: Parity | None, console: Console) -> None:
    """What it is, and how far it is from its base, in a few lines."""
    weights = checkpoint.weights
    formats = ", ".join(sorted(weights.bytes_by_dtype)) or "none"
    console.print(
        f"{checkpoint.kind}: {len(weights.tensors)} tensors, {weights.parameters:,} values "
        f"({formats})",
        soft_wrap=True,
    )
    if (adapter := checkpoint.adapter) is not None:
        console.print(
            f"adapter {printable(adapter.kind, 40)}: {len(adapter.pairs)} modules, "
            f"rank {adapter.rank}, scale {adapter.scale}",
            soft_wrap=True,
        )
    moved = [x for _, x in checkpoint.changed if x == x]
    if moved:
        console.print(
            f"weights moved by {min(moved):.2g} to {max(moved):.2g} of their norm a layer"
        )
    if parity is not None:
        console.print(f"merged: {parity.agreement:.1%} of the likeliest tokens are the same")
    for note in checkpoint.notes:
        console.print(f"not seen: {printable(Catalogue.load('en').say(note))}", soft_wrap=True)


def changes(checkpoint: Checkpoint) -> Section | None:
    """How far each layer moved; None where the base is not at hand."""
    layers = [(layer, x) for layer, x in checkpoint.changed if x == x]
    if not layers:
        return None
    chart = charts.bars(
        [
            Text("diag.checkpoint.outside")
            if layer is None
            else Text("diag.checkpoint.layer", layer=layer)
            for layer, _ in layers
        ],
        [charts.Series(Text("diag.checkpoint.relative"), [x for _, x in layers])],
        caption=Text("diag.checkpoint.changes.caption"),
        spec="percent",
    )
    blocks: list[Chart] = [chart]
    title, intro = Text("diag.checkpoint.changes.title"), Text("diag.checkpoint.changes.intro")
    return Section(title=title, intro=intro, blocks=blocks)


def unseen(notes: Sequence[Text]) -> Section | None:
    """What was not seen; None where all was."""
    if not notes:
        return None
    table = Table(
        columns=[Column(label=Text("diag.checkpoint.column.note"))],
        rows=[[note] for note in notes],
    )
    return Section(title=Text("diag.checkpoint.unseen"), blocks=[table])


def headline(findings: Sequence[Finding], good: Text) -> Text | RuleTitle:
    """The title of the worst finding, or what to say where nothing is amiss."""
    if verdict_level(findings) == "good":
        return good
    worst = min(findings, key=lambda finding: finding.severity.rank)
    return RuleTitle(worst.rule, RULES[worst.rule].title.rstrip("."))


def _verdict(checkpoint: Checkpoint, findings: Sequence[Finding]) -> Verdict:
    weights = checkpoint.weights
    return Verdict(
        level=verdict_level(findings),
        headline=headline(findings, Text("diag.checkpoint.good")),
        detail=Text(
            "diag.checkpoint.detail",
            kind=Text(f"diag.checkpoint.kind.{checkpoint.kind}"),
            tensors=len(weights.tensors),
            parameters=weights.parameters,
        ),
    )


def _steps(checkpoint: Checkpoint) -> list[Step]:
    folder = quote(str(checkpoint.folder))
    if checkpoint.kind == "run":
        learned = Step(
            text=Text("diag.checkpoint.step.learned"), command=f"glmdiag learned {folder}"
        )
        report = Step(text=Text("diag.checkpoint.step.report"), command=f"glmdiag report {folder}")
        return [learned, report]
    return [
        Step(
            text=Text("diag.checkpoint.step.base"),
            command=f"glmdiag checkpoint {folder} --base DIR",
        )
    ]


def _facts(checkpoint: Checkpoint) -> list[Fact]:
    weights, adapter, base = checkpoint.weights, checkpoint.adapter, checkpoint.base
    formats = ", ".join(sorted(weights.bytes_by_dtype)) or "—"
    facts: dict[str, Value] = {
        "kind": Text(f"diag.checkpoint.kind.{checkpoint.kind}"),
        "values": weights.parameters,
        "formats": Literal(formats),
    }
    if adapter is not None:
        facts |= {"adapter": Literal(adapter.kind), "modules": len(adapter.pairs)}
        facts |= {} if adapter.rank is None else {"rank": adapter.rank}
    if base is not None:
        facts["base"] = Literal(str(base.folder or "tiny"))
    if checkpoint.step is not None:
        facts["step"] = checkpoint.step
    return [
        Fact(label=Text(f"diag.checkpoint.fact.{name}"), value=value)
        for name, value in facts.items()
    ]


def _tensors(checkpoint: Checkpoint) -> Section | None:
    """The tensors with the largest values, those with what is no number first."""
    measured = checkpoint.weights.tensors.values()
    chosen = sorted(measured, key=lambda each: (-each.bad, -each.rms))[:LARGEST]
    if not chosen:
        return None
    table = Table(
        columns=[
            Column(label=Text("diag.checkpoint.column.tensor")),
            Column(label=Text("diag.checkpoint.column.shape")),
            Column(label=Text("diag.checkpoint.column.dtype")),
            Column(label=Text("diag.checkpoint.column.bad"), numeric=True),
            Column(label=Text("diag.checkpoint.column.rms"), numeric=True, spec=".3g"),
            Column(label=Text("diag.checkpoint.column.largest"), numeric=True, spec=".3g"),
        ],
        rows=[
            [
                Literal(each.name),
                Literal(" × ".join(map(str, each.shape))),
                Literal(each.dtype),
                each.bad,
                each.rms,
                each.largest,
            ]
            for each in chosen
        ],
    )
    title, intro = Text("diag.checkpoint.tensors.title"), Text("diag.checkpoint.tensors.intro")
    return Section(title=title, intro=intro, blocks=[table])


def _optimiser(checkpoint: Checkpoint) -> Section | None:
    memory = checkpoint.optimiser
    if memory is None:
        return None
    steps = ", ".join(map(str, sorted(set(memory.steps)))) or "—"
    rows: list[list[Value | None]] = [
        [Text("diag.checkpoint.optimiser.weights"), memory.weights],
        [Text("diag.checkpoint.optimiser.steps"), Literal(steps)],
        [Text("diag.checkpoint.optimiser.bad"), len(memory.bad)],
        [Text("diag.checkpoint.optimiser.still"), len(memory.never_moved)],
    ]
    table = Table(
        columns=[
            Column(label=Text("diag.checkpoint.column.what")),
            Column(label=Text("diag.checkpoint.column.value"), numeric=True),
        ],
        rows=rows,
    )
    return Section(title=Text("diag.checkpoint.optimiser.title"), blocks=[table])


def _parity(parity: Parity | None) -> Section | None:
    if parity is None:
        return None
    values: dict[str, Value] = {
        "tokens": parity.tokens,
        "mean": f"{parity.mean:.3g}",
        "allowed": f"{parity.tolerance:.3g}",
        "agreement": Text("diag.share", share=parity.agreement),
    }
    table = Table(
        columns=[
            Column(label=Text("diag.checkpoint.column.what")),
            Column(label=Text("diag.checkpoint.column.value"), numeric=True),
        ],
        rows=[[Text(f"diag.checkpoint.parity.{name}"), value] for name, value in values.items()],
    )
    return Section(title=Text("diag.checkpoint.parity.title"), blocks=[table])

"""A step that was done again, as a page and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import (
    Block,
    Column,
    Fact,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    TokenSpan,
    TokenView,
    Value,
    Verdict,
)
from glmreport.text import Catalogue, Literal, Message, Text

from glmdiag.replay.activations import Spot
from glmdiag.replay.contributions import Pass
from glmdiag.replay.excerpts import CLOSE, OPEN
from glmdiag.replay.replayed import REFERENCE, Record, Replay

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12  # records in the table and the chart
EXACT = 1e-9  # relative difference below which losses are the same


def page(replay: Replay, findings: Sequence[Finding], command: str) -> Page:
    """The whole report on a step."""
    return Page(
        kind="glmdiag replay",
        title=Text("diag.replay.title"),
        subject=f"{replay.run} · {replay.step}",
        verdict=_verdict(replay, findings),
        steps=_steps(replay, findings),
        facts=_facts(replay),
        sections=[_formats(replay), _records(replay), *_tokens(replay), *_notes(replay)],
        findings=finding_views(findings),
        provenance=provenance(command, [str(replay.run)]),
    )


def summary(replay: Replay, console: Console) -> None:
    """The step in a line a format and a line for each of the first records."""
    english = Catalogue.load("en")
    console.print(printable(english.say(_detail(replay))), soft_wrap=True)
    for each in replay.passes.values():
        first = "" if each.first is None else f"  {printable(english.say(_spot(each.first)))}"
        console.print(f"{each.dtype}  {_figures(each)}{first}", soft_wrap=True)
    for record in replay.records[:3]:
        found = record.passes[replay.dtype]
        console.print(
            f"{printable(record.name)}: {_figures(found)}  {printable(record.excerpt, 120)}",
            soft_wrap=True,
        )
    for note in _noted(replay):
        console.print(f"note: {printable(english.say(note))}", soft_wrap=True)


def _figures(found: Pass) -> str:
    return f"loss {found.loss:.4g}  gradient {found.norm:.4g}"


def _verdict(replay: Replay, findings: Sequence[Finding]) -> Verdict:
    level, detail = verdict_level(findings), _detail(replay)
    if not findings:
        headline = Text("diag.replay.headline.good", step=replay.step)
        return Verdict(level=level, headline=headline, detail=detail)
    worst = min(findings, key=lambda finding: finding.severity.rank)
    name = f"diag.replay.headline.{worst.rule}"
    headline = Text(name, step=replay.step, dtype=replay.dtype)
    return Verdict(level=level, headline=headline, detail=detail)


def _detail(replay: Replay) -> Text:
    return Text(
        f"diag.replay.detail.{replay.origin if replay.origin != 'evidence' else _kept(replay)}",
        since=replay.since,
        rerun=replay.rerun,
        records=len(replay.records),
    )


def _kept(replay: Replay) -> str:
    """What was kept of an earlier step serves as a checkpoint of the one before that."""
    return "evidence" if replay.since == replay.step - 1 else "checkpoint"


def _steps(replay: Replay, findings: Sequence[Finding]) -> list[Step]:
    steps = [
        Step(
            text=Text("diag.replay.step.fix", rule=finding.rule),
            command=f"glmdiag explain {finding.rule}",
        )
        for finding in findings
    ]
    if not replay.records:
        return steps
    first = replay.records[0]
    show = f"glmprep show {quote(first.folder)} --row {first.number}"
    again = f"glmdiag replay {quote(str(replay.run))} --step {replay.step} --row {first.row}"
    looks = [Step(text=Text("diag.replay.step.show"), command=show)]
    if replay.only is None:
        looks.append(Step(text=Text("diag.replay.step.row"), command=again))
    return [*looks, *steps]


def _facts(replay: Replay) -> list[Fact]:
    logged = replay.logged.get("loss")
    labels = sum(record.labels for record in replay.records)
    unsound = Literal(str(replay.logged.get("nonfinite") or "-"))
    facts = [
        Fact(label=Text("diag.replay.fact.step"), value=replay.step),
        Fact(
            label=Text("diag.replay.fact.logged"),
            value=_value(float(logged)) if logged is not None else unsound,
        ),
        Fact(
            label=Text("diag.replay.fact.records"),
            value=len(replay.records),
            note=Text("diag.replay.fact.labels", count=labels),
        ),
    ]
    for each in replay.passes.values():
        label = Text("diag.replay.fact.loss", dtype=each.dtype)
        note = Text("diag.replay.fact.norm", norm=_value(each.norm))
        facts.append(Fact(label=label, value=_value(each.loss), note=note))
    largest = replay.exact.trace.largest
    if largest is not None:
        label = Text("diag.replay.fact.largest")
        facts.append(Fact(label=label, value=_value(largest.peak)))
    return facts


def _formats(replay: Replay) -> Section:
    """The whole step, format by format."""
    names = ("dtype", "loss", "norm", "first", "largest", "at")
    numeric = {"loss", "norm", "largest"}
    rows: list[list[Value | None]] = []
    for each in replay.passes.values():
        largest, first = each.trace.largest, each.first or each.trace.gradient
        rows.append(
            [
                Literal(each.dtype),
                _value(each.loss),
                _value(each.norm),
                Text("diag.replay.spot.none") if first is None else _spot(first),
                None if largest is None else _value(largest.peak),
                None if largest is None else _spot(largest),
            ]
        )
    table = Table(columns=_columns(names, numeric), rows=rows)
    title, intro = Text("diag.replay.formats.title"), Text("diag.replay.formats.intro")
    return Section(title=title, intro=intro, blocks=[table])


def _records(replay: Replay) -> Section:
    """The records side by side."""
    shown = replay.records[:SHOWN]
    names = ("row", "record", "origin", "labels", "loss", "norm", "first")
    rows: list[list[Value | None]] = [
        [
            one.row,
            Literal(one.conversation),
            None if one.origin is None else Literal(one.origin),
            one.labels,
            _value(one.passes[replay.dtype].loss),
            _value(one.passes[replay.dtype].norm),
            _first(one),
        ]
        for one in shown
    ]
    blocks: list[Block] = []
    norms = [one.passes[REFERENCE].norm for one in shown]
    if len(shown) > 1 and all(map(math.isfinite, norms)):
        blocks.append(
            charts.bars(
                [Literal(str(one.row)) for one in shown],
                [charts.Series(Text("diag.replay.column.norm"), norms)],
                caption=Text("diag.replay.records.chart"),
            )
        )
    table = Table(columns=_columns(names, {"row", "labels", "loss", "norm"}), rows=rows)
    blocks.append(table)
    if len(replay.records) > SHOWN:
        more = len(replay.records) - SHOWN
        blocks.append(Paragraph(Text("diag.replay.records.more", count=more)))
    title, intro = Text("diag.replay.records.title"), Text("diag.replay.records.intro")
    return Section(title=title, intro=intro, blocks=blocks)


def _tokens(replay: Replay) -> list[Section]:
    """The first record token by token, and the text around the worst of them."""
    if not replay.records or not replay.records[0].worst:
        return []
    record = replay.records[0]
    centre = record.start or record.worst[0]
    kind = "worst" if record.start is None else "around"
    table = Table(
        columns=_columns(("place", "text", "loss"), {"place", "loss"}),
        rows=[[t.place, Literal(t.text), _value(t.loss or 0.0)] for t in record.worst],
    )
    around = Text(f"diag.replay.tokens.{kind}", place=centre.place, text=Literal(centre.text))
    view = TokenView(_spans(record.excerpt), around)
    title = Text("diag.replay.tokens.title", row=record.row)
    return [Section(title=title, blocks=[view, table])]


def _spans(excerpt: str) -> list[TokenSpan]:
    """Text with trained stretches in brackets, taken apart."""
    spans: list[TokenSpan] = []
    for piece in excerpt.split(OPEN):
        trained, closed, rest = piece.partition(CLOSE)
        if closed:
            spans.append(TokenSpan(trained, "trained"))
        plain = rest if closed else piece
        if plain:
            spans.append(TokenSpan(plain, "context"))
    return spans


def _notes(replay: Replay) -> list[Section]:
    blocks = [Paragraph(note) for note in _noted(replay)]
    return [Section(title=Text("diag.replay.note.title"), blocks=blocks)] if blocks else []


def _noted(replay: Replay) -> list[Text]:
    """What is not as it was when the run went through."""
    notes = []
    if replay.missing:
        notes.append(Text("diag.replay.note.missing", missing=replay.missing))
    if replay.differs is not None:
        same = replay.differs < EXACT
        notes.append(
            Text("diag.replay.note.same")
            if same
            else Text("diag.replay.note.differs", share=replay.differs)
        )
    if replay.ranks > 1:
        notes.append(Text("diag.replay.note.ranks", ranks=replay.ranks))
    return notes


def _first(record: Record) -> Message:
    """Where a record first is no number, in any format."""
    for found in record.passes.values():
        spot = found.first or found.trace.gradient
        if spot is not None:
            return _spot(spot)
    return Text("diag.replay.spot.none")


def _spot(spot: Spot) -> Text:
    return Text(f"diag.replay.spot.{spot.side}", module=Literal(spot.module))


def _columns(names: Sequence[str], numeric: set[str]) -> list[Column]:
    return [Column(label=Text(f"diag.replay.column.{n}"), numeric=n in numeric) for n in names]


def _value(value: float) -> Literal:
    return Literal(f"{value:,.6g}" if abs(value) >= 1000 else f"{value:.4g}")

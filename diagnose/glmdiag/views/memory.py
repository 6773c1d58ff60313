"""What a run needs of a card, as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import Chart, Code, Column, Fact, Page, Section, Table, Value, Verdict
from glmreport.text import Literal, Text

from glmdiag.memory.changes import Change
from glmdiag.memory.prediction import CONTEXT, FRAGMENTATION, GIB, Need, Prediction

if TYPE_CHECKING:
    from rich.console import Console

PARTS = ("weights", "state", "activations", "meanwhile", "allowance")
DRAWN = 12
"""Buckets that are drawn, the largest; all are in the table."""


def page(
    prediction: Prediction, change: Change | None, findings: Sequence[Finding], command: str
) -> Page:
    """The whole report on a prediction."""
    return Page(
        kind="glmdiag memory",
        title=Text("memory.title"),
        subject=prediction.setup.shape.name,
        verdict=_verdict(prediction, change, findings),
        facts=_facts(prediction),
        sections=[_buckets(prediction), *_changed(change), _others(prediction)],
        findings=finding_views(findings),
        provenance=provenance(command, []),
    )


def summary(prediction: Prediction, change: Change | None, console: Console) -> None:
    """The prediction in a few lines."""
    setup, training = prediction.setup, prediction.setup.training
    lines = [
        f"{'model':<12}{setup.shape.name}, {setup.shape.parameters / 1e9:.2f}B, {training.method}",
        f"{'card':<12}{setup.card}, {_gib(setup.memory)}",
    ]
    for need in prediction.needs[-DRAWN:]:
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in need.parts().items())
        batch = f"{need.batch.rows} x {need.batch.length}"
        lines.append(f"{'bucket':<12}{need.bucket}: {batch} tokens, {_gib(need.total)} ({parts})")
    for name in ("evaluation", "generation", "resume"):
        lines.append(f"{name:<12}{_gib(prediction.with_allowance(getattr(prediction, name)))}")
    host = max(need.step.host for need in prediction.needs)
    if host:
        lines.append(f"{'main memory':<12}{_gib(host)} a process")
    if change is not None:
        total = _gib(change.prediction.largest.total)
        fits = "fits" if change.fits else "nearest, does not fit"
        lines.append(f"{'change':<12}{' '.join(change.options)}: {total} ({fits})")
    for line in lines:
        console.print(printable(line), soft_wrap=True)


def _verdict(prediction: Prediction, change: Change | None, findings: Sequence[Finding]) -> Verdict:
    if prediction.fits:
        headline = Text("memory.headline.fits")
    else:
        fits = change is not None and change.fits
        headline = Text("memory.headline.change" if fits else "memory.headline.nothing")
    largest = prediction.largest
    detail = Text(
        "memory.detail",
        rows=largest.batch.rows,
        length=largest.batch.length,
        need=largest.total,
        memory=prediction.setup.memory or 0,
        card=Literal(prediction.setup.card),
    )
    return Verdict(level=verdict_level(findings), headline=headline, detail=detail)


def _facts(prediction: Prediction) -> list[Fact]:
    setup, training = prediction.setup, prediction.setup.training
    parameters = Text("diag.many", count=setup.shape.parameters)
    return [
        Fact(label=Text("memory.fact.parameters"), value=parameters),
        Fact(label=Text("memory.fact.method"), value=training.method),
        Fact(
            label=Text("memory.fact.need"),
            value=_bytes(prediction.largest.total),
            note=Text("memory.fact.of", memory=setup.memory or 0),
        ),
        Fact(
            label=Text("memory.fact.loss"),
            value=_bytes(round(prediction.largest.step.loss)),
            note=Text(f"memory.fact.{setup.loss}"),
        ),
    ]


def _buckets(prediction: Prediction) -> Section:
    names = ("bucket", "rows", "length", *PARTS, "total", "moment")
    columns = [
        Column(label=Text(f"memory.column.{name}"), numeric=name in names[:3]) for name in names
    ]
    rows = [_row(need) for need in prediction.needs]
    return Section(
        title=Text("memory.buckets.title"),
        intro=Text("memory.buckets.intro", context=CONTEXT, share=FRAGMENTATION),
        blocks=[_chart(prediction), Table(columns=columns, rows=rows)],
    )


def _row(need: Need) -> list[Value | None]:
    sizes: list[Value | None] = [_bytes(size) for size in need.parts().values()]
    batch: list[Value | None] = [need.bucket, need.batch.rows, need.batch.length]
    return [*batch, *sizes, _bytes(need.total), Text(f"memory.moment.{need.step.moment}")]


def _chart(prediction: Prediction) -> Chart:
    """A bar a bucket, and one of the card below them."""
    needs = sorted(prediction.needs, key=lambda need: -need.total)[:DRAWN]
    needs = sorted(needs, key=lambda need: need.bucket)
    memory = prediction.setup.memory
    none = [] if memory is None else [0.0]
    labels = [Text("memory.bar", bucket=need.bucket, rows=need.batch.rows) for need in needs]
    series = [
        charts.Series(Text(f"memory.column.{part}"), [*(n.parts()[part] for n in needs), *none])
        for part in PARTS
    ]
    names: list[Text | Literal] = [*labels]
    if memory is not None:
        names.append(Literal(prediction.setup.card))
        series.append(charts.Series(Text("memory.card"), [*(0.0 for _ in needs), memory]))
    return charts.bars(names, series, caption=Text("memory.buckets.caption"), spec="bytes")


def _changed(change: Change | None) -> list[Section]:
    if change is None:
        return []
    key = "memory.change.fits" if change.fits else "memory.change.nearest"
    intro = Text(key, need=change.prediction.largest.total, cut=change.cut)
    title = Text("memory.change.title")
    return [Section(title=title, intro=intro, blocks=[Code(" ".join(change.options))])]


def _others(prediction: Prediction) -> Section:
    names = ("what", "held", "cache", "working", "total", "host")
    rows: list[list[Value | None]] = []
    for name in ("evaluation", "generation", "resume"):
        use = getattr(prediction, name)
        sizes = (use.held, use.cache, use.working, prediction.with_allowance(use), use.host)
        rows.append([Text(f"memory.use.{name}"), *(_bytes(round(size)) for size in sizes)])
    columns = [Column(label=Text(f"memory.column.{name}")) for name in names]
    intro = Text("memory.others.intro", answers=prediction.setup.answers)
    table = Table(columns=columns, rows=rows)
    return Section(title=Text("memory.others.title"), intro=intro, blocks=[table])


def _bytes(size: int) -> Text:
    return Text("diag.bytes", size=size)


def _gib(size: float | None) -> str:
    return "?" if size is None else f"{size / GIB:.1f} GiB"

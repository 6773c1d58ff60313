"""A training log as a page and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, TypeAlias
from typing import Literal as OneOf

from glmprep.console import printable
from glmprep.findings import Finding, Severity
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import Fact, Page, Paragraph, Section, Step, Verdict
from glmreport.text import Catalogue, Literal, Text

from glmdiag.logs import Log

if TYPE_CHECKING:
    from rich.console import Console

MarkerLevel: TypeAlias = OneOf["note", "warn", "bad"]
POINTS = 1500  # more than the pixels of a chart
MARKERS = 8
SMOOTHED_FROM = 60  # points; fewer are read one by one
LABEL_COMMAND = "glmdiag labels SHARDS"
COMMANDS = {
    "LG001": LABEL_COMMAND,
    "LG002": LABEL_COMMAND,
    "LG003": LABEL_COMMAND,
    "LG004": "glmprep show SHARDS",
    "LG005": LABEL_COMMAND,
    "LG007": LABEL_COMMAND,
}


def page(log: Log, findings: Sequence[Finding], command: str) -> Page:
    """The whole report on a training log."""
    return Page(
        kind="glmdiag log",
        title=Text("diag.log.title"),
        subject=str(log.path),
        verdict=_verdict(log, findings),
        steps=_steps(log, findings),
        facts=_facts(log),
        sections=[_loss(log, findings), *_others(log), *_unseen(log)],
        findings=finding_views(findings),
        provenance=provenance(command, [str(log.path)]),
    )


def summary(log: Log, console: Console) -> None:
    """The log in two lines, and what it does not show."""
    sums = log.as_json()
    losses = [sums["first_loss"], sums["last_loss"], sums["lowest_loss"]]
    first, last, lowest = ("-" if loss is None else f"{loss:.4g}" for loss in losses)
    console.print(
        f"{sums['logged_steps']} logged steps, {sums['first_step']} to {sums['last_step']}; "
        f"loss {first} to {last}, lowest {lowest}"
    )
    english = Catalogue.load("en")
    for note in log.notes:
        console.print(f"note: {printable(english.say(note))}", soft_wrap=True)


def _verdict(log: Log, findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    sums = log.as_json()
    detail = Text("diag.log.detail.no_loss", count=sums["logged_steps"])
    if sums["first_loss"] is not None:
        detail = Text(
            "diag.log.detail.loss",
            count=sums["logged_steps"],
            first=sums["first_loss"],
            last=sums["last_loss"],
        )
    if level == "good":
        return Verdict(level=level, headline=Text("diag.log.headline.good"), detail=detail)
    worst = min(findings, key=lambda finding: finding.severity.rank)
    headline = Text(f"diag.log.headline.{worst.rule}", step=worst.data["step"])
    return Verdict(level=level, headline=headline, detail=detail)


def _steps(log: Log, findings: Sequence[Finding]) -> list[Step]:
    """What to do about each rule that fired, or how to keep watch."""
    ordered = sorted(findings, key=lambda finding: (finding.severity.rank, finding.rule))
    rules = dict.fromkeys(finding.rule for finding in ordered)
    steps = [
        Step(
            text=Text(f"diag.log.step.{rule}"),
            command=COMMANDS.get(rule, f"glmdiag explain {rule}"),
        )
        for rule in rules
    ]
    again = f"glmdiag log {quote(str(log.path))} --fail-on warning"
    return steps or [Step(text=Text("diag.log.step.good"), command=again)]


def _facts(log: Log) -> list[Fact]:
    sums = log.as_json()
    rates = [step.learning_rate for step in log.steps if step.learning_rate is not None]
    values = {
        "steps": sums["last_step"],
        "first": sums["first_loss"],
        "last": sums["last_loss"],
        "lowest": sums["lowest_loss"],
        "rate": max(rates, default=None),
    }
    return [
        Fact(label=Text(f"diag.log.fact.{name}"), value=value)
        for name, value in values.items()
        if value is not None
    ]


def _loss(log: Log, findings: Sequence[Finding]) -> Section:
    """The loss curve with the findings marked."""
    levels: dict[Severity, MarkerLevel]
    levels = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.INFO: "note"}
    markers = [
        charts.Marker(
            at=float(finding.data["step"]),
            label=Literal(finding.rule),
            level=levels[finding.severity],
        )
        for finding in findings[:MARKERS]
    ]
    chart = charts.lines(
        [_line("loss", log.losses)],
        caption=Text("diag.log.loss.caption"),
        x_label=Text("diag.log.axis.step"),
        y_label=Text("diag.log.axis.loss"),
        from_zero=False,
        markers=markers,
    )
    return Section(title=Text("diag.log.loss.title"), blocks=[chart])


def _others(log: Log) -> list[Section]:
    """Gradient norm and learning rate, where they were logged."""
    sections = []
    for name in ("grad_norm", "learning_rate"):
        seen = [(s.step, v) for s in log.steps if (v := getattr(s, name)) is not None]
        if len(seen) < 2:
            continue
        chart = charts.lines(
            [_line(name, seen)],
            caption=Text(f"diag.log.{name}.caption"),
            x_label=Text("diag.log.axis.step"),
            y_label=Text(f"diag.log.axis.{name}"),
            y_spec=".1e" if name == "learning_rate" else "compact",
        )
        sections.append(Section(title=Text(f"diag.log.{name}.title"), blocks=[chart]))
    return sections


def _line(name: str, points: Sequence[tuple[int, float]]) -> charts.Line:
    """Points as a line. Of too many, the worst of each stretch is kept: nothing bad disappears."""
    ordered = sorted(points, key=lambda point: point[0])
    size = math.ceil(len(ordered) / POINTS)
    stretches = (ordered[i : i + size] for i in range(0, len(ordered), size))
    kept = [max(stretch, key=_badness) for stretch in stretches]
    smooth = name != "learning_rate" and len(kept) >= SMOOTHED_FROM
    steps, values = zip(*kept, strict=True)
    return charts.Line(Text(f"diag.log.axis.{name}"), steps, values, smooth)


def _badness(point: tuple[int, float]) -> float:
    return point[1] if math.isfinite(point[1]) else math.inf


def _unseen(log: Log) -> list[Section]:
    """What the log does not show."""
    if not log.notes:
        return []
    notes = [Paragraph(note) for note in log.notes]
    return [Section(title=Text("diag.log.unseen"), blocks=notes)]

"""A training log as a page and in the terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, TypeAlias
from typing import Literal as OneOf

from glmprep.console import printable
from glmprep.findings import RULES, Finding, Severity
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import Fact, Page, Paragraph, Section, Step, Verdict
from glmreport.text import Catalogue, Literal, RuleTitle, Text

from glmdiag.logs import Log

if TYPE_CHECKING:
    from rich.console import Console

MarkerLevel: TypeAlias = OneOf["note", "warn", "bad"]
POINTS = 1500  # more than the pixels of a chart
MARKERS = 8
SMOOTHED = ("loss", "grad_norm", "speed")
SPAN = 100.0  # times the median: then a logarithmic axis
SMOOTHED_FROM = 60  # points; fewer are read one by one
COMMANDS = {
    "labels": "glmdiag labels SHARDS",
    "memory": "glmdiag hw",
    "resume": "glmtrain run --resume",
}
THEMES = {
    "labels": ("LG009", "LG011", "LG012", "LG014", "LG026", "LG038", "LG039"),
    "precision": ("LG010", "LG024", "LG025"),
    "rate": ("LG013", "LG016", "LG017", "LG018", "LG019", "LG021", "LG022", "LG023"),
    "memory": ("LG027", "LG028", "LG029", "LG030", "LG031", "LG032", "LG033"),
    "passes": ("LG015", "LG035", "LG036"),
    "resume": ("LG020", "LG034", "LG037"),
}
OWN = ("LG001", "LG002", "LG003", "LG004", "LG005", "LG006", "LG007", "LG008")
"""Rules with a headline and a step of their own; the others share those of their theme."""
OWN_COMMANDS = dict.fromkeys(OWN, "glmdiag labels SHARDS") | {"LG004": "glmprep show SHARDS"}
ALONE = {"LG006", "LG008"}  # nothing to run but the training
SPEEDS = ("tokens_per_second", "samples_per_second", "seconds")
GIB = 1 << 30


def page(log: Log, findings: Sequence[Finding], command: str) -> Page:
    """The whole report on a training log."""
    return Page(
        kind="glmdiag log",
        title=Text("diag.log.title"),
        subject=str(log.path),
        verdict=_verdict(log, findings),
        steps=_steps(log, findings),
        facts=_facts(log),
        sections=[
            *([loss_section(log, findings)] if log.losses else []),
            *_others(log, findings),
            *_unseen(log),
        ],
        findings=finding_views(findings),
        provenance=provenance(command, [str(path) for path in log.pieces]),
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
    worst = min(findings, key=lambda finding: (finding.severity.rank, finding.rule))
    at = worst.data["step"]
    if worst.rule in OWN:
        headline = Text(f"diag.log.headline.{worst.rule}", step=at)
    else:
        title = RuleTitle(worst.rule, RULES[worst.rule].title.rstrip("."))
        headline = Text("diag.log.headline.found", title=title, step=at)
    return Verdict(level=level, headline=headline, detail=detail)


def _steps(log: Log, findings: Sequence[Finding]) -> list[Step]:
    """What to do about what was found, worst first, each advice once; or how to keep watch."""
    ordered = sorted(findings, key=lambda finding: (finding.severity.rank, finding.rule))
    made: dict[str, Step] = {}
    for rule in (finding.rule for finding in ordered if finding.severity is not Severity.INFO):
        theme = rule if rule in OWN else _theme(rule)
        command = COMMANDS.get(theme) or OWN_COMMANDS.get(rule)
        if command is None or rule in ALONE:
            command = f"glmdiag explain {rule}"
        made.setdefault(theme, Step(text=Text(f"diag.log.step.{theme}"), command=command))
    file = quote(str(log.path))
    good = Step(text=Text("diag.log.step.good"), command=f"glmdiag log {file} --fail-on warning")
    follow = Step(text=Text("diag.log.step.follow"), command=f"glmdiag log {file} --follow")
    return list(made.values()) or [good, follow]


def _theme(rule: str) -> str:
    return next((theme for theme, rules in THEMES.items() if rule in rules), "read")


def _facts(log: Log) -> list[Fact]:
    sums = log.as_json()
    rates = [rate for _, rate in log.points("learning_rate") if math.isfinite(rate)]
    values = {
        "steps": sums["last_step"],
        "planned": sums["planned_steps"],
        "first": sums["first_loss"],
        "last": sums["last_loss"],
        "lowest": sums["lowest_loss"],
        "eval": sums["lowest_eval_loss"],
        "rate": f"{max(rates):.3g}" if rates else None,
    }
    return [
        Fact(label=Text(f"diag.log.fact.{name}"), value=value)
        for name, value in values.items()
        if value is not None
    ]


def loss_section(log: Log, findings: Sequence[Finding]) -> Section:
    """The loss curve with the findings marked."""
    levels: dict[Severity, MarkerLevel]
    levels = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.INFO: "note"}
    markers = [
        charts.Marker(
            at=float(finding.data["step"]),
            label=Literal(finding.rule),
            level=levels[finding.severity],
        )
        for finding in sorted(findings, key=lambda each: each.severity.rank)[:MARKERS]
    ]
    drawn = [_line("loss", log.losses)]
    if evaluations := log.points("eval_loss"):
        drawn.append(_line("eval_loss", evaluations))
    chart = charts.lines(
        drawn,
        caption=Text("diag.log.loss.caption"),
        x_label=Text("diag.log.axis.step"),
        y_label=Text("diag.log.axis.loss"),
        from_zero=False,
        markers=markers,
    )
    return Section(title=Text("diag.log.loss.title"), blocks=[chart])


def _others(log: Log, findings: Sequence[Finding]) -> list[Section]:
    """What else was logged, each as a curve of its own."""
    speed = next((name for name in SPEEDS if len(log.points(name)) > 1), SPEEDS[0])
    speeds = log.points(speed)
    if speed == "seconds":
        speeds = [(step, 1 / value) for step, value in speeds if value > 0]
    seen = {name: log.points(name) for name in ("grad_norm", "learning_rate", "loss_scale")}
    seen["memory"] = [(step, size / GIB) for step, size in log.points("memory")]
    seen["speed"] = speeds
    return [_other(name, points, findings) for name, points in seen.items() if _drawable(points)]


def _drawable(points: Sequence[tuple[int, float]]) -> bool:
    return sum(math.isfinite(value) for _, value in points) > 1


def _other(name: str, points: Sequence[tuple[int, float]], findings: Sequence[Finding]) -> Section:
    caption = Text(f"diag.log.{name}.caption")
    found = [f.data["period"] for f in findings if f.rule in ("LG027", "LG029")]
    if name == "memory" and found:
        caption = Text("diag.log.memory.caption_period", period=found[0])
    chart = charts.lines(
        [_line(name, points)],
        caption=caption,
        x_label=Text("diag.log.axis.step"),
        y_label=Text(f"diag.log.axis.{name}"),
        y_spec=".1e" if name == "learning_rate" else "compact",
        log_y=name == "loss_scale" or (name == "grad_norm" and _spans(points)),
    )
    return Section(title=Text(f"diag.log.{name}.title"), blocks=[chart])


def _spans(points: Sequence[tuple[int, float]]) -> bool:
    """Whether values differ by so much that a linear axis shows the largest alone."""
    values = [value for _, value in points if 0 < value < math.inf]
    return max(values) > SPAN * statistics.median(values) if values else False


def _line(name: str, points: Sequence[tuple[int, float]]) -> charts.Line:
    """Points as a line. Of too many, the worst of each stretch is kept: nothing bad disappears."""
    ordered = sorted(points, key=lambda point: point[0])
    size = math.ceil(len(ordered) / POINTS)
    stretches = (ordered[i : i + size] for i in range(0, len(ordered), size))
    kept = [max(stretch, key=_badness) for stretch in stretches]
    smooth = name in SMOOTHED and len(kept) >= SMOOTHED_FROM
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

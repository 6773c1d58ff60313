"""A fix that was tried, as a section of a page and a line for the terminal."""

from __future__ import annotations

from glmreport import charts
from glmreport.page import Block, Column, Paragraph, Section, Table
from glmreport.text import Literal, Text

from glmdiag.replay.verify_fix import Attempt, Trial


def section(attempt: Attempt) -> Section:
    """The verdict, both loss curves, the changes, and what else came up."""
    settings = Table(
        columns=[Column(label=Text(f"diag.fix.column.{name}")) for name in ("setting", "value")],
        rows=[[Literal(name), Literal(value)] for name, value in attempt.changes.items()],
    )
    blocks: list[Block] = [Paragraph(verdict(attempt)), settings]
    lines = [_line(name, trial) for name, trial in _trials(attempt) if trial.losses]
    if lines:
        chart = charts.lines(
            lines,
            caption=Text("diag.fix.caption"),
            x_label=Text("diag.fix.axis.step"),
            y_label=Text("diag.fix.axis.loss"),
            from_zero=False,
        )
        blocks.append(chart)
    blocks += [Paragraph(note) for note in notes(attempt)]
    count = max(len(attempt.before.losses), len(attempt.after.losses))
    intro = Text("diag.fix.intro", since=attempt.since, steps=count)
    return Section(title=Text("diag.fix.title"), intro=intro, blocks=blocks)


def verdict(attempt: Attempt) -> Text:
    """What became of the fault, in a sentence."""
    return Text(f"diag.fix.verdict.{attempt.verdict.replace(' ', '_')}")


def notes(attempt: Attempt) -> list[Text]:
    """Where the trainer gave up, and what the change brought with it."""
    found = [
        Text("diag.fix.line.stopped", which=Text(f"diag.fix.line.{name}"), why=trial.stopped)
        for name, trial in _trials(attempt)
        if trial.stopped is not None
    ]
    if attempt.others:
        found.append(Text("diag.fix.line.others", rules=", ".join(sorted(attempt.others))))
    return found


def _trials(attempt: Attempt) -> list[tuple[str, Trial]]:
    return [("before", attempt.before), ("after", attempt.after)]


def _line(name: str, trial: Trial) -> charts.Line:
    steps, losses = zip(*trial.losses, strict=True)
    return charts.Line(Text(f"diag.fix.line.{name}"), steps, losses)

"""What `glmprep diff-labels` says: who trains which token, and what the differences are."""

from __future__ import annotations

from collections.abc import Sequence

from glmreport.numbers import show_number
from glmreport.page import Block, Column, Fact, Page, Paragraph, Section, Table, Value, Verdict
from glmreport.text import Literal, Text
from rich.text import Text as Line

from glmprep.console import printable
from glmprep.diff_labels import OURS, Result, Run, ShownRow, State, Sums
from glmprep.pages import finding_views, provenance
from glmprep.peers.differences import DIFFERENCES
from glmprep.views.head import fact, subject
from glmprep.views.peers import named
from glmprep.views.terminal import PERCENT, Summary, aligned, columns, number, printing

NAMES = {
    OURS: "glmprep",
    "official": "script",
    "official_combine": "combine",
    "llamafactory": "LLaMA-F.",
    "trl": "TRL",
    "trl_answers": "TRL ans.",
}
WIDTH = max(map(len, NAMES.values())) + 1
PRINTED_RUNS, PAGE_RUNS = 40, 150
PRINTED_TEXT, PAGE_TEXT = 56, 160
"""Runs of a row, and characters of a run, that are shown; the JSON has them all."""
MARKS = {"trained": "●", "context": "·", "absent": " "}
OTHER = "◆"
STYLES = {"trained": "green", "context": "dim", "absent": ""}


def summary(result: Result) -> Summary:
    """The rows run by run, and how often each difference is found in all rows."""
    lines = [line for row in result.shown for line in (*_row_lines(row), Line())]
    legend = f"{MARKS['trained']} trained  {OTHER} trained as another token  "
    legend += f"{MARKS['context']} read only  (blank) not there"
    names = [s.trainer for s in result.trainers]
    head = [f"at {number(result.max_length)} tokens", *(NAMES[name] for name in names)]
    differences = [
        [name.replace("_", " "), *(number(s.places[name]) for s in result.trainers)]
        for name in DIFFERENCES
        if any(s.places[name] for s in result.trainers)
    ]
    labels = ["labels", *(number(s.labels) for s in result.trainers)]
    same = ["as glmprep", *(number(s.targets / _all(result), PERCENT) for s in result.trainers)]
    table = columns(
        [head[0].ljust(16), *head[1:]], [_wide(r) for r in (labels, same, *differences)]
    )
    about = (
        f"{number(result.rows)} rows, {number(result.answers)} answers, "
        f"{number(result.targets)} trained tokens"
    )
    return printing(
        [*lines, Line(legend, style="dim"), *aligned([("all rows", about)]), *table],
        result.findings,
    )


def page(result: Result, command: str, data: Sequence[str]) -> Page:
    """The report of comparing the labels of `data`."""
    return Page(
        kind="glmprep diff-labels",
        title=Text("prep.diff.title"),
        subject=subject(data),
        verdict=_verdict(result),
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.diff.section.differences"),
                intro=Text("prep.diff.intro.differences", tokens=result.max_length),
                blocks=[_sums_table(result), *_differences_table(result)],
            ),
            *(_section(row) for row in result.shown),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    different = [s for s in result.trainers if any(s.places.values())]
    best = max(result.trainers, key=lambda sums: sums.targets)
    return Verdict(
        level="warn" if different else "good",
        headline=Text(
            f"prep.diff.verdict.{'differ' if different else 'same'}",
            trainers=len(different),
            all=len(result.trainers),
        ),
        detail=Text(
            "prep.diff.detail",
            trainer=named(best.trainer, "prep.diff.trainer"),
            share=best.targets / _all(result),
            tokens=result.max_length,
        ),
    )


def _facts(result: Result) -> list[Fact]:
    return [
        fact("conversations", result.rows),
        fact("answers", result.answers),
        fact("trained", show_number(result.targets, "compact")),
    ]


def _sums_table(result: Result) -> Table:
    names = ("input", "labels", "targets")
    rows: list[list[Value]] = [
        [named(OURS, "prep.diff.trainer"), result.tokens, result.targets, result.targets, 1.0],
        *(_sums_row(sums, result) for sums in result.trainers),
    ]
    return Table(
        columns=[
            Column(label=Text("prep.diff.column.trainer")),
            *(Column(label=Text(f"prep.diff.column.{name}"), numeric=True) for name in names),
            Column(label=Text("prep.diff.column.share"), numeric=True, spec=PERCENT),
        ],
        rows=rows,
        caption=Text("prep.diff.caption.sums"),
        highlight=0,
    )


def _sums_row(sums: Sums, result: Result) -> list[Value]:
    name = named(sums.trainer, "prep.diff.trainer")
    return [name, sums.tokens, sums.labels, sums.targets, sums.targets / _all(result)]


def _differences_table(result: Result) -> list[Block]:
    found = [n for n in DIFFERENCES if any(sums.places[n] for sums in result.trainers)]
    if not found:
        return []
    trainers = [
        Column(label=named(sums.trainer, "prep.diff.short"), numeric=True)
        for sums in result.trainers
    ]
    return [
        Table(
            columns=[Column(label=Text("prep.diff.column.difference")), *trainers],
            rows=[
                [Text(f"prep.diff.difference.{n}"), *(sums.places[n] for sums in result.trainers)]
                for n in found
            ],
            caption=Text("prep.diff.caption.differences"),
        )
    ]


def _section(row: ShownRow) -> Section:
    runs = list(row.runs[:PAGE_RUNS])
    left = sum(len(run.ids) for run in row.runs[PAGE_RUNS:])
    rest = [Paragraph(Text("prep.diff.more", tokens=left))] if left else []
    trainers = [Column(label=named(name, "prep.diff.short")) for name in NAMES]
    return Section(
        title=Text("prep.diff.row", row=row.row),
        intro=Text("prep.diff.intro.row", where=row.where, tokens=row.tokens),
        blocks=[
            Table(
                columns=[
                    Column(label=Text("prep.diff.column.tokens"), numeric=True),
                    Column(label=Text("prep.diff.column.text")),
                    *trainers,
                ],
                rows=[
                    [len(run.ids), Literal(_shortened(run, PAGE_TEXT)), *map(_cell, run.states)]
                    for run in runs
                ],
                caption=Text("prep.diff.caption.row"),
            ),
            *rest,
        ],
    )


def _cell(state: State) -> Text | Literal:
    if state.label:
        return Text("prep.diff.state.other", label=state.label)
    return Text(f"prep.diff.state.{state.kind}")


def _shortened(run: Run, most: int) -> str:
    """The text of a run on one line, without its middle where it is long."""
    text = run.text.replace("\n", "↵")
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def _row_lines(row: ShownRow) -> list[Line]:
    head = f"row {row.row}: {printable(row.where)}, {number(row.tokens)} tokens"
    names = Line("".join(f"{name:<{WIDTH}}" for name in NAMES.values()) + " tokens", style="dim")
    left = sum(len(run.ids) for run in row.runs[PRINTED_RUNS:])
    rest = [Line(f"… {number(left)} tokens more", style="dim")] if left else []
    shown = map(_run_line, row.runs[:PRINTED_RUNS])
    return [Line(head, style="bold"), names, *shown, *rest]


def _run_line(run: Run) -> Line:
    line = Line()
    for state in run.states:
        mark = OTHER if state.label else MARKS[state.kind]
        style = "magenta" if state.label else STYLES[state.kind]
        line.append(f"{mark:<{WIDTH}}", style=style)
    line.append(f"{number(len(run.ids)):>7}  ", style="dim")
    return line.append(printable(_shortened(run, PRINTED_TEXT)))


def _wide(cells: Sequence[str]) -> list[str]:
    return [f"{cells[0]:<16}", *cells[1:]]


def _all(result: Result) -> int:
    return max(1, result.targets)

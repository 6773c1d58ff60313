"""What `glmprep show` says: rows as the model gets them, with what is trained in colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmreport.page import Page, Section, Step, TokenSpan, TokenView, Verdict
from glmreport.text import Text
from rich.console import Console
from rich.text import Text as Line

from glmprep.console import printable
from glmprep.pages import provenance
from glmprep.show import MARKS, STYLES, Kind, ShownRow, as_text
from glmprep.views import followup
from glmprep.views.terminal import PERCENT, Summary, number, printing

NAMED = 3
LEGEND: dict[Kind, str] = {
    "trained": "trained",
    "stop": "trained stop token",
    "context": "context",
    "special": "control token",
}


def summary(rows: Sequence[ShownRow]) -> Summary:
    """The text of each row under a line with its sums."""

    def show(console: Console) -> None:
        colour = console.color_system is not None and not console.no_color
        lines = []
        for row in rows:
            head = Line(printable(_head(row)), style="bold")
            lines += [head, as_text(row, colour=colour), Line()]
        printing([*lines, _legend(colour)])(console)

    return show


def page(rows: Sequence[ShownRow], shards: Path, command: str) -> Page:
    """The report with these rows of the folder `shards`."""
    tokens, trained = sum(row.tokens for row in rows), sum(row.supervised for row in rows)
    bare = sum(row.supervised == 0 for row in rows)
    return Page(
        kind="glmprep show",
        title=Text("prep.show.title"),
        subject=str(shards),
        verdict=Verdict(
            level="warn" if bare else "good",
            headline=Text("prep.show.headline", trained=trained, tokens=tokens),
            detail=Text("prep.show.bare" if bare else "prep.show.detail", rows=bare),
        ),
        steps=[
            Step(
                text=Text("prep.next.labels"),
                command=followup.line("glmdiag", "labels", shards),
            )
        ],
        sections=[_section(row) for row in rows],
        provenance=provenance(command, [str(shards)]),
    )


def _section(row: ShownRow) -> Section:
    return Section(
        title=Text("prep.show.row", row=row.row),
        intro=Text(
            "prep.show.intro",
            tokens=row.tokens,
            trained=row.supervised,
            share=row.supervised / max(1, row.tokens),
            bucket=row.bucket,
            conversations=_names(row),
        ),
        blocks=[TokenView([TokenSpan(span.text, span.kind) for span in row.spans])],
    )


def _names(row: ShownRow) -> str:
    """The conversations of a row, the first few of many."""
    more = [f"… ({len(row.conversations)})"] if len(row.conversations) > NAMED else []
    return ", ".join([*row.conversations[:NAMED], *more])


def _head(row: ShownRow) -> str:
    share = number(row.supervised / max(1, row.tokens), PERCENT)
    return (
        f"row {row.row}: {number(row.tokens)} tokens in a bucket of {number(row.bucket)}, "
        f"{number(row.supervised)} trained ({share}); {_names(row)}"
    )


def _legend(colour: bool) -> Line:
    """What the colours mean, or the marks where there are none."""
    if colour:
        words = [Line(LEGEND[kind], style=style) for kind, style in STYLES.items()]
    else:
        words = [Line(LEGEND[kind].join(marks)) for kind, marks in MARKS.items()]
    return Line("  ").join([Line("legend:", style="dim"), *words])

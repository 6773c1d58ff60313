"""What `glmprep show SHARDS` says: rows as the model gets them, with what is trained in colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmreport.page import (
    Block,
    Chapter,
    Leaf,
    Leaves,
    Page,
    Section,
    Step,
    TokenSpan,
    TokenView,
    Turn,
    Verdict,
)
from glmreport.text import Text
from rich.console import Console
from rich.text import Text as Line

from glmprep.console import printable
from glmprep.pages import provenance
from glmprep.show import ShownRow
from glmprep.views import followup
from glmprep.views.terminal import PERCENT, Summary, number, printing
from glmprep.views.tokens import as_text, legend

NAMED = 3


def summary(rows: Sequence[ShownRow]) -> Summary:
    """The text of each row under a line with its sums."""

    def show(console: Console) -> None:
        colour = console.color_system is not None and not console.no_color
        lines = []
        for row in rows:
            head = Line(printable(_head(row)), style="bold")
            lines += [head, as_text(row.spans, colour=colour), Line()]
        kinds = {span.kind for row in rows for span in row.spans}
        printing([*lines, legend(kinds, colour=colour)])(console)

    return show


def page(rows: Sequence[ShownRow], shards: Path, command: str) -> Page:
    """The report with these rows of the folder `shards`; one leafs through several."""
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
        sections=[_leaves(rows) if len(rows) > 1 else _section(rows[0])],
        provenance=provenance(command, [str(shards)]),
    )


def _section(row: ShownRow) -> Section:
    view: Block = TokenView([TokenSpan(span.text, span.kind) for span in row.spans])
    return Section(title=Text("prep.show.row", row=row.row), intro=_sums(row), blocks=[view])


def _leaves(rows: Sequence[ShownRow]) -> Section:
    title = Text("show.rows_of_shards")
    chapter = Chapter(title=title, leaves=[_leaf(row) for row in rows])
    return Section(title=title, blocks=[Leaves([chapter])])


def _leaf(row: ShownRow) -> Leaf:
    parts = [TokenSpan(span.text, span.kind) for span in row.spans]
    label = Text("prep.show.row", row=row.row)
    return Leaf(title=_names(row), intro=_sums(row), turns=[Turn(label=label, parts=parts)])


def _sums(row: ShownRow) -> Text:
    return Text(
        "prep.show.intro",
        tokens=row.tokens,
        trained=row.supervised,
        share=row.supervised / max(1, row.tokens),
        bucket=row.bucket,
        conversations=_names(row),
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

"""Whether a run learned, as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.page import Column, Page, Section, Step, Table, Verdict
from glmreport.text import Catalogue, Text

from glmdiag.checkpoints.learning import Learning
from glmdiag.views.checkpoint import changes, unseen

if TYPE_CHECKING:
    from rich.console import Console

WORDS = {
    "learned": "it learned",
    "little": "it learned little",
    "nothing": "it learned nothing",
    "harmed": "it harmed the model",
    "unknown": "there is too little to tell whether it learned",
}


def page(learning: Learning, findings: Sequence[Finding], command: str) -> Page:
    """The whole report on what a run learned."""
    sections = [_witnesses(learning)]
    sections.append(changes(learning.checkpoint))
    sections.append(unseen(learning.unseen))
    run = quote(str(learning.folder))
    return Page(
        kind="glmdiag learned",
        title=Text("diag.learned.title"),
        subject=str(learning.folder),
        verdict=Verdict(
            level=verdict_level(findings),
            headline=Text(f"diag.learned.verdict.{learning.verdict}"),
            detail=Text("diag.learned.detail", count=len(learning.witnesses)),
        ),
        steps=[
            Step(text=Text("diag.learned.step.verify"), command=f"glmtrain verify {run}"),
            Step(text=Text("diag.learned.step.report"), command=f"glmdiag report {run}"),
        ],
        facts=[],
        sections=[section for section in sections if section is not None],
        findings=finding_views(findings),
        provenance=provenance(command, [str(learning.folder)]),
    )


def summary(learning: Learning, console: Console) -> None:
    """The verdict, and each witness in a line."""
    console.print(WORDS[learning.verdict])
    for each in learning.witnesses:
        values = " to ".join(f"{x:.3g}" for x in (each.before, each.after) if x is not None)
        console.print(f"  {each.source:<9} {each.says:<8} {values}".rstrip(), soft_wrap=True)
    for note in learning.unseen:
        console.print(f"not seen: {printable(Catalogue.load('en').say(note))}", soft_wrap=True)


def _witnesses(learning: Learning) -> Section | None:
    if not learning.witnesses:
        return None
    table = Table(
        columns=[
            Column(label=Text("diag.learned.column.source")),
            Column(label=Text("diag.learned.column.says")),
            Column(label=Text("diag.learned.column.before"), numeric=True, spec=".3g"),
            Column(label=Text("diag.learned.column.after"), numeric=True, spec=".3g"),
        ],
        rows=[
            [
                Text(f"diag.learned.source.{each.source}"),
                Text(f"diag.learned.says.{each.says}"),
                each.before,
                each.after,
            ]
            for each in learning.witnesses
        ],
    )
    title, intro = Text("diag.learned.witnesses.title"), Text("diag.learned.witnesses.intro")
    return Section(title=title, intro=intro, blocks=[table])

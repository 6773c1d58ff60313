"""What `glmprep convert` says: which forms were found, and what became of every row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmreport.page import Column, Fact, Page, Paragraph, Section, Step, Table, Value, Verdict
from glmreport.text import Text

from glmprep.convert import Result
from glmprep.mending import repairs_path
from glmprep.pages import finding_views, provenance
from glmprep.seen import by_rule
from glmprep.stream import rejects_path
from glmprep.views import followup
from glmprep.views.head import fact, level_of_output, subject
from glmprep.views.terminal import Summary, aligned, counted, number, printing


def summary(result: Result, target: Path) -> Summary:
    """What was written, from which forms, and where the rest is listed."""
    return printing(aligned(_lines(result, target)), result.findings)


def page(result: Result, target: Path, command: str, data: Sequence[str]) -> Page:
    """The report of converting `data` into `target`."""
    check = followup.line(
        "glmprep", "audit", target, *followup.repeated(command, followup.TOKENIZING)
    )
    return Page(
        kind="glmprep convert",
        title=Text("prep.convert.title"),
        subject=f"{subject(data)} → {target}",
        verdict=_verdict(result),
        steps=[
            *followup.mend(result.rejections),
            Step(text=Text("prep.convert.next.audit"), command=check),
        ],
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.convert.section.schemas"),
                intro=Text("prep.convert.intro.schemas"),
                blocks=[_schemas(result)],
            ),
            Section(
                title=Text("prep.convert.section.ledger"),
                intro=Text("prep.convert.intro.ledger"),
                blocks=[_ledger(result), *_lists(result, target)],
            ),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    left_out = len(result.rejections)
    return Verdict(
        level=level_of_output(result.reject_share, result.findings),
        headline=Text(
            f"prep.convert.verdict.{'partly' if left_out else 'all'}",
            rejected=left_out,
            rows=result.rows,
        ),
        detail=Text(
            "prep.convert.detail",
            conversations=result.conversations,
            messages=result.messages,
            forms=len(result.schemas),
        ),
    )


def _facts(result: Result) -> list[Fact]:
    messages = Text("prep.audit.note.messages", messages=result.messages)
    return [
        fact("rows", result.rows),
        fact("conversations", result.conversations, messages),
        fact("forms", len(result.schemas)),
        fact("rejected", len(result.rejections)),
    ]


def _schemas(result: Result) -> Table:
    """Conversations by the form in which their row came."""
    rows: list[list[Value]] = [
        [Text(f"prep.convert.schema.{name}"), name, count, count / result.conversations]
        for name, count in result.schemas.items()
    ]
    return Table(
        columns=[
            Column(label=Text("prep.convert.column.form")),
            Column(label=Text("prep.convert.column.name")),
            Column(label=Text("prep.convert.column.rows"), bar=True),
            Column(label=Text("prep.convert.column.share"), numeric=True, spec="percent"),
        ],
        rows=rows,
        caption=Text("prep.convert.caption.schemas"),
    )


def _ledger(result: Result) -> Table:
    """Rows: read = written + rejected."""
    rows: list[list[Value]] = [[Text("prep.ledger.read"), result.rows]]
    for rule, count in by_rule(result.rejections).items():
        rows.append([Text("prep.ledger.rejected", rule=rule), count])
    rows.append([Text("prep.ledger.written"), result.conversations])
    return Table(
        columns=[
            Column(label=Text("prep.ledger.column.what")),
            Column(label=Text("prep.convert.column.rows"), bar=True),
        ],
        rows=rows,
        caption=Text("prep.convert.caption.ledger"),
        highlight=len(rows) - 1,
    )


def _lists(result: Result, target: Path) -> list[Paragraph]:
    """Where what was left out, and what was mended, is listed."""
    lists = []
    if result.rejections:
        file = str(rejects_path(target))
        lists.append(Paragraph(Text("prep.rejects", rows=len(result.rejections), file=file)))
    if result.repaired:
        lists.append(Paragraph(Text("prep.convert.repairs", file=str(repairs_path(target)))))
    return lists


def _lines(result: Result, target: Path) -> list[tuple[str, str]]:
    conversations = counted(result.conversations, "conversation", "conversations")
    messages = counted(result.messages, "message", "messages")
    forms = ", ".join(f"{name} {number(count)}" for name, count in result.schemas.items())
    lines = [("wrote", f"{target}: {conversations}, {messages}"), ("forms", forms)]
    if result.repaired:
        rules = ", ".join(f"{rule} {number(count)}" for rule, count in result.repaired.items())
        lines.append(("mended", f"{rules}, listed in {repairs_path(target)}"))
    if result.rejections:
        rows = counted(len(result.rejections), "row", "rows")
        lines.append(("left out", f"{rows}, listed in {rejects_path(target)}"))
    lines.append(("next", followup.line("glmprep", "audit", target)))
    return lines

"""What `glmprep split` says: what each side got, and how large groups are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmreport.page import Column, Fact, Page, Paragraph, Section, Step, Table, Value, Verdict
from glmreport.text import Text

from glmprep.pages import finding_views, provenance
from glmprep.parting import Parting, Result, Side
from glmprep.stream import rejects_path
from glmprep.views import followup
from glmprep.views.head import fact, level_of_output, subject
from glmprep.views.terminal import PERCENT, Summary, aligned, counted, number, printing

HELD_OUT = "validation-shards"
FAR = 0.5
"""Less than this part of the share that was asked for is worth a warning."""


def summary(result: Result, parting: Parting) -> Summary:
    """What each side got, and the commands that make shards of them."""
    lines = [
        ("training", _told(result.training, parting.training)),
        ("validation", _told(result.validation, parting.validation)),
        ("share", f"{number(result.share, PERCENT)} of {number(result.conversations)}"),
        ("largest group", counted(result.largest, "conversation", "conversations")),
    ]
    if _is_far(result):
        asked = number(result.wanted, PERCENT)
        lines.append(("note", f"{asked} was asked for; larger groups are kept whole"))
    if result.rejections:
        rows = counted(len(result.rejections), "row", "rows")
        lines.append(("left out", f"{rows}, listed in {rejects_path(parting.training)}"))
    lines += [("next", command) for command in _bucket(parting)]
    return printing(aligned(lines), result.findings)


def page(result: Result, parting: Parting, command: str, data: Sequence[str]) -> Page:
    """The report of parting `data`."""
    training, validation = _bucket(parting)
    return Page(
        kind="glmprep split",
        title=Text("prep.split.title"),
        subject=f"{subject(data)} → {parting.training}, {parting.validation}",
        verdict=_verdict(result),
        steps=[
            *followup.mend(result.rejections),
            Step(text=Text("prep.split.next.training"), command=training),
            Step(text=Text("prep.split.next.validation"), command=validation),
        ],
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.split.section.sides"),
                intro=Text(f"prep.split.intro.{'segments' if result.segmented else 'rows'}"),
                blocks=[_sides(result, parting), *_left_out(result, parting)],
            ),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _told(side: Side, target: Path) -> str:
    rows = counted(side.rows, "conversation", "conversations")
    return f"{target}: {rows} in {counted(side.groups, 'group', 'groups')}"


def _is_far(result: Result) -> bool:
    """Whether groups are so large that much less than the share was taken."""
    return result.share < FAR * result.wanted


def _bucket(parting: Parting) -> list[str]:
    """The commands that make shards of the two files."""
    return [
        followup.line("glmprep", "bucket", target, "-o", shards)
        for target, shards in zip(parting.outputs, (followup.SHARDS, HELD_OUT), strict=True)
    ]


def _verdict(result: Result) -> Verdict:
    level = level_of_output(result.reject_share, result.findings)
    far = _is_far(result)
    return Verdict(
        level="warn" if far and level == "good" else level,
        headline=Text(
            f"prep.split.verdict.{'less' if far else 'parted'}",
            rows=result.validation.rows,
            conversations=result.conversations,
            share=result.share,
        ),
        detail=Text("prep.split.detail", wanted=result.wanted, rows=result.rows, seed=result.seed),
    )


def _facts(result: Result) -> list[Fact]:
    return [
        fact("rows", result.rows),
        fact("training_rows", result.training.rows),
        fact("validation_rows", result.validation.rows),
        fact("largest_group", result.largest),
        fact("rejected", len(result.rejections)),
    ]


def _sides(result: Result, parting: Parting) -> Table:
    sides = {"training": result.training, "validation": result.validation}
    rows: list[list[Value]] = [
        [
            Text(f"prep.split.side.{name}"),
            str(target),
            side.rows,
            side.groups,
            side.rows / result.conversations,
        ]
        for (name, side), target in zip(sides.items(), parting.outputs, strict=True)
    ]
    return Table(
        columns=[
            Column(label=Text("prep.split.column.side")),
            Column(label=Text("prep.split.column.file")),
            Column(label=Text("prep.fact.conversations"), numeric=True),
            Column(label=Text("prep.split.column.groups"), numeric=True),
            Column(label=Text("prep.split.column.share"), bar=True, spec="percent"),
        ],
        rows=rows,
        caption=Text("prep.split.caption.sides"),
    )


def _left_out(result: Result, parting: Parting) -> list[Paragraph]:
    if not result.rejections:
        return []
    where = str(rejects_path(parting.training))
    return [Paragraph(Text("prep.rejects", rows=len(result.rejections), file=where))]

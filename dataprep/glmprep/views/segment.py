"""What `glmprep segment` says: is every trained token in the output, and what did it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmreport.charts import Series, bars
from glmreport.numbers import show_number
from glmreport.page import (
    Chart,
    Column,
    Fact,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    Value,
    Verdict,
)
from glmreport.text import Text

from glmprep.coverage import Counts
from glmprep.pages import finding_views, provenance
from glmprep.segment import Result, ledger_path, rejects_path
from glmprep.sized import Limits
from glmprep.views import followup
from glmprep.views.head import fact, level_of_output, subject
from glmprep.views.terminal import Summary, aligned, counted, number, printing


def summary(result: Result, target: Path) -> Summary:
    """What was written, how the trained tokens balance, and what replay costs."""
    return printing(aligned(_lines(result, target)), result.findings)


def page(result: Result, limits: Limits, target: Path, command: str, data: Sequence[str]) -> Page:
    """The report of splitting `data` into `target`."""
    shards = followup.bucket_segments(target, command, limits.max_length)
    return Page(
        kind="glmprep segment",
        title=Text("prep.segment.title"),
        subject=f"{subject(data)} → {target}",
        verdict=_verdict(result, limits),
        steps=[
            *followup.mend(result.rejections),
            Step(text=Text("prep.next.bucket"), command=shards),
        ],
        facts=_facts(result.counts),
        sections=[
            Section(
                title=Text("prep.segment.section.ledger"),
                intro=Text("prep.segment.intro.ledger"),
                blocks=[
                    _ledger(result.counts),
                    _stages(result),
                    Paragraph(Text("prep.segment.lines", file=str(ledger_path(target)))),
                ],
            ),
            Section(
                title=Text("prep.segment.section.split"),
                blocks=[_trained_and_context(result.counts), *_how(result, limits, target)],
            ),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result, limits: Limits) -> Verdict:
    counts, left_out = result.counts, len(result.rejections)
    return Verdict(
        level=level_of_output(result.reject_share, result.findings),
        headline=Text(
            f"prep.segment.verdict.{'partly' if left_out else 'all'}",
            rejected=left_out,
            tokens=limits.max_length,
        ),
        detail=Text(
            "prep.segment.detail",
            share=counts.targets_out / max(1, counts.targets_in),
            targets=counts.targets_in,
            cut=counts.cut,
            segments=counts.segments,
        ),
    )


def _facts(counts: Counts) -> list[Fact]:
    rows = counts.whole + counts.segments
    written = Text("prep.segment.note.targets", targets=counts.targets_in)
    growth = Text("prep.segment.growth", share=_growth(counts))
    return [
        fact("rows", rows, Text("prep.segment.note.rows", conversations=counts.conversations)),
        fact("segments", counts.segments, Text("prep.segment.note.segments", cut=counts.cut)),
        fact("trained", show_number(counts.targets_out, "compact"), written),
        fact(
            "overhead",
            growth,
            Text("prep.segment.note.overhead", before=counts.tokens_in, after=counts.tokens_out),
        ),
    ]


def _ledger(counts: Counts) -> Table:
    """Trained tokens: in = out + set aside."""
    total = max(1, counts.targets_in)
    sums = {
        "in": counts.targets_in,
        "out": counts.targets_out,
        "set_aside": counts.targets_set_aside,
    }
    rows: list[list[Value]] = [
        [Text(f"prep.segment.ledger.{name}"), tokens, tokens / total]
        for name, tokens in sums.items()
    ]
    missing = counts.targets_in - counts.targets_out - counts.targets_set_aside
    proof = Text("prep.ledger.unbalanced" if missing else "prep.ledger.balanced")
    rows.append([Text("prep.segment.ledger.missing"), missing, proof])
    return Table(
        columns=[
            Column(label=Text("prep.segment.column.targets")),
            Column(label=Text("prep.segment.column.tokens"), bar=True),
            Column(label=Text("prep.segment.column.share"), numeric=True, spec="percent"),
        ],
        rows=rows,
        caption=Text("prep.segment.caption.ledger"),
        highlight=len(sums),
    )


def _stages(result: Result) -> Table:
    """Rows read = rejected + sound; turns = out + set aside + left out."""
    counts = result.counts
    rejected: list[list[Value | None]] = [
        [Text("prep.ledger.rejected", rule=rule), rows, None, None, None]
        for rule, rows in result.rejected.items()
    ]
    rows: list[list[Value | None]] = [
        [Text("prep.ledger.read"), counts.rows, None, None, None],
        *rejected,
        [
            Text("prep.segment.stage.tokenized"),
            *(counts.conversations, counts.turns_in, counts.tokens_in, counts.targets_in),
        ],
        [
            Text("prep.segment.stage.set_aside"),
            *(None, counts.turns_set_aside, None, counts.targets_set_aside),
        ],
        [Text("prep.segment.stage.left_out"), None, counts.turns_left_out, None, 0],
        [Text("prep.segment.stage.shortened"), None, None, counts.tokens_shortened, 0],
        [
            Text("prep.segment.stage.written"),
            counts.whole + counts.segments,
            *(counts.turns_out, counts.tokens_out, counts.targets_out),
        ],
        [Text("prep.segment.stage.replayed"), None, None, counts.tokens_replayed, 0],
    ]
    return Table(
        columns=[
            Column(label=Text("prep.ledger.column.what")),
            Column(label=Text("prep.fact.rows"), numeric=True),
            *(
                Column(label=Text(f"prep.ledger.column.{name}"), numeric=True)
                for name in ("turns", "tokens", "trained")
            ),
        ],
        rows=rows,
        caption=Text("prep.segment.caption.stages"),
        highlight=len(rows) - 2,
    )


def _trained_and_context(counts: Counts) -> Chart:
    """All tokens that came in and went out: what replay adds is context."""
    trained = [counts.targets_in, counts.targets_out]
    context = [counts.tokens_in - counts.targets_in, counts.tokens_out - counts.targets_out]
    return bars(
        [Text("prep.segment.bar.in"), Text("prep.segment.bar.out")],
        [
            Series(Text("prep.segment.bar.trained"), trained),
            Series(Text("prep.segment.bar.context"), context),
        ],
        caption=Text("prep.segment.caption.tokens"),
    )


def _how(result: Result, limits: Limits, target: Path) -> list[Paragraph]:
    context = Text(
        "prep.segment.how.replay" if limits.overlap else "prep.segment.how.no_replay",
        turns=limits.overlap,
        tokens=limits.context_tokens,
    )
    how = [Paragraph(Text("prep.segment.how.weight")), Paragraph(context)]
    if result.rejections:
        where = str(rejects_path(target))
        how.append(Paragraph(Text("prep.rejects", rows=len(result.rejections), file=where)))
    return how


def _growth(counts: Counts) -> float:
    return counts.tokens_out / max(1, counts.tokens_in) - 1


def _lines(result: Result, target: Path) -> list[tuple[str, str]]:
    counts = result.counts
    lines = [
        (
            "wrote",
            f"{target}: {counted(counts.whole + counts.segments, 'row', 'rows')} from "
            f"{counted(counts.conversations, 'conversation', 'conversations')}",
        ),
        (
            "split",
            f"{counted(counts.cut, 'conversation', 'conversations')} into "
            f"{counted(counts.segments, 'segment', 'segments')}",
        ),
        (
            "trained",
            f"{number(counts.targets_in)} tokens in = {number(counts.targets_out)} out "
            f"+ {number(counts.targets_set_aside)} set aside",
        ),
        (
            "all tokens",
            f"{number(counts.tokens_in)} in, {number(counts.tokens_out)} out "
            f"({_growth(counts):+.1%}), {number(counts.tokens_replayed)} replayed",
        ),
        (
            "turns",
            f"{number(counts.turns_in)} in = {number(counts.turns_out)} out + "
            f"{number(counts.turns_set_aside)} set aside + "
            f"{number(counts.turns_left_out)} left out, nothing in them is trained",
        ),
        ("ledger", str(ledger_path(target))),
    ]
    if result.rejections:
        left_out = counted(len(result.rejections), "row or part of one", "rows or parts of rows")
        lines.append(("left out", f"{left_out}, listed in {rejects_path(target)}"))
    return lines

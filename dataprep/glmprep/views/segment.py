"""What `glmprep segment` says: is every trained token in the output, and what did it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from glmreport.charts import Series, bars, edges, histogram
from glmreport.numbers import show_number
from glmreport.page import (
    Block,
    Chart,
    Code,
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
from glmprep.cutting import Cutting, cutting_path
from glmprep.leftout import shortened_path
from glmprep.pages import finding_views, provenance
from glmprep.seams import Seam
from glmprep.segment import Int32, Result, ledger_path
from glmprep.stream import rejects_path
from glmprep.views import followup
from glmprep.views.head import fact, level_of_output, subject
from glmprep.views.terminal import Summary, aligned, counted, number, printing

BINS = 32


def summary(result: Result, target: Path) -> Summary:
    """What was written, how the trained tokens balance, and what replay costs."""
    return printing(aligned(_lines(result, target)), result.findings)


def page(result: Result, cutting: Cutting, target: Path, command: str, data: Sequence[str]) -> Page:
    """The report of splitting `data` into `target`."""
    shards = followup.bucket_segments(target, command, cutting.max_length)
    return Page(
        kind="glmprep segment",
        title=Text("prep.segment.title"),
        subject=f"{subject(data)} → {target}",
        verdict=_verdict(result, cutting),
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
                blocks=[_trained_and_context(result.counts), *_how(result, cutting, target)],
            ),
            *([_where(result, cutting)] if result.counts.segments else []),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result, cutting: Cutting) -> Verdict:
    counts, left_out = result.counts, len(result.rejections)
    return Verdict(
        level=level_of_output(result.reject_share, result.findings),
        headline=Text(
            f"prep.segment.verdict.{'partly' if left_out else 'all'}",
            rejected=left_out,
            tokens=cutting.max_length,
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
        [Text("prep.segment.stage.noted"), None, None, counts.tokens_noted, 0],
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
        highlight=len(rows) - 3,
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


def _how(result: Result, cutting: Cutting, target: Path) -> list[Paragraph]:
    names = {"encoder": cutting.encoder, "file": str(cutting_path(target))}
    how = [
        Paragraph(Text("prep.segment.how.weight")),
        Paragraph(Text(f"prep.segment.segmenter.{cutting.segmenter}", **names)),
        Paragraph(
            Text(
                f"prep.segment.context.{cutting.context}",
                turns=cutting.overlap,
                tokens=cutting.context_tokens,
                **names,
            )
        ),
    ]
    if result.counts.tokens_shortened:
        listed = str(shortened_path(target))
        tokens = result.counts.tokens_shortened
        how.append(Paragraph(Text("prep.segment.how.shortened", tokens=tokens, file=listed)))
    if result.rejections:
        where = str(rejects_path(target))
        how.append(Paragraph(Text("prep.rejects", rows=len(result.rejections), file=where)))
    return how


def _where(result: Result, cutting: Cutting) -> Section:
    """How long the segments are, some places where it was cut, and a note if there is one."""
    blocks: list[Block] = [_lengths(result.lengths, cutting.max_length)]
    if result.seams:
        blocks.append(_seams(result.seams))
    note = next((seam for seam in result.seams if seam.note), None)
    if note:
        blocks += [Paragraph(Text("prep.segment.note_at", where=note.where)), Code(note.note)]
    return Section(title=Text("prep.segment.section.where"), blocks=blocks)


def _lengths(lengths: Int32, limit: int) -> Chart:
    bounds = edges(max(1, min(int(lengths.min()), limit // 2)), limit + 1, BINS)
    counts, _ = np.histogram(lengths, bounds)
    return histogram(
        [Series(Text("prep.fact.segments"), counts.tolist())],
        bounds,
        caption=Text("prep.segment.caption.lengths"),
        x_label=Text("prep.segment.axis.tokens"),
        y_label=Text("prep.fact.segments"),
    )


def _seams(seams: Sequence[Seam]) -> Table:
    columns = ("where", "before", "after")
    return Table(
        columns=[Column(label=Text(f"prep.segment.column.{name}")) for name in columns],
        rows=[[seam.where, seam.before, seam.after] for seam in seams],
        caption=Text("prep.segment.caption.seams"),
    )


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
            f"({_growth(counts):+.1%}), {number(counts.tokens_replayed)} replayed"
            + (f", {number(counts.tokens_noted)} in notes" if counts.tokens_noted else ""),
        ),
        (
            "turns",
            f"{number(counts.turns_in)} in = {number(counts.turns_out)} out + "
            f"{number(counts.turns_set_aside)} set aside + "
            f"{number(counts.turns_left_out)} left out, nothing in them is trained",
        ),
        ("ledger", str(ledger_path(target))),
    ]
    if counts.tokens_shortened:
        tokens = f"{number(counts.tokens_shortened)} tokens of prompts"
        lines.append(("shortened", f"{tokens}, listed in {shortened_path(target)}"))
    if result.rejections:
        left_out = counted(len(result.rejections), "row or part of one", "rows or parts of rows")
        lines.append(("left out", f"{left_out}, listed in {rejects_path(target)}"))
    return lines

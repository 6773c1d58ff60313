"""What `glmprep bucket` says: is it ready to train, and where did every row and token go."""

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

from glmprep.bucket import Result
from glmprep.ledger import Sums
from glmprep.pages import finding_views, provenance
from glmprep.read import REJECTS
from glmprep.rules.lengths import too_long
from glmprep.views import efficiency, followup
from glmprep.views.head import fact, level_of_output, subject, tokens_fact
from glmprep.views.terminal import PERCENT, Summary, aligned, counted, number, printing

MOST_NAMED = 8


def summary(result: Result, target: Path) -> Summary:
    """What was written, the buckets, and what was left out."""
    return printing(aligned(_lines(result, target)), result.findings)


def page(result: Result, target: Path, command: str, data: Sequence[str]) -> Page:
    """The report of turning `data` into the shard folder `target`."""
    return Page(
        kind="glmprep bucket",
        title=Text("prep.bucket.title"),
        subject=f"{subject(data)} → {target}",
        verdict=_verdict(result),
        steps=_steps(result, target, command, data),
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.bucket.section.layout"),
                intro=Text(f"prep.bucket.intro.{result.manifest.layout}"),
                blocks=[_buckets(result)],
            ),
            efficiency.section(result.efficiency),
            Section(
                title=Text("prep.bucket.section.ledger"),
                intro=Text("prep.bucket.intro.ledger"),
                blocks=[
                    _where_tokens_went(result),
                    _tokens(result),
                    _stages(result),
                    *_rejects(result, target),
                ],
            ),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    left_out, written = result.left_out, result.ledger.written
    level = level_of_output(result.reject_share, result.findings)
    kind = "much_missing" if level == "bad" else "partly" if left_out else "all"
    return Verdict(
        level=level,
        headline=Text(
            f"prep.bucket.verdict.{kind}",
            rejected=left_out,
            rows=result.ledger.read,
        ),
        detail=Text(
            "prep.bucket.detail",
            conversations=written.rows,
            tokens=written.tokens,
            trained=written.supervised,
            padding=result.efficiency.padding,
        ),
    )


def _steps(result: Result, target: Path, command: str, data: Sequence[str]) -> list[Step]:
    # What came through a pipe is gone.
    known = followup.repeated(command, ("--tokenizer", "--template"))
    verify = Step(
        text=Text("prep.next.verify"),
        command=followup.line("glmprep", "verify", target, *([] if "-" in data else data), *known),
    )
    mend, again = followup.mend(result.rejections), _again(result, target, command, data)
    return [*mend, *again, verify, *followup.after_shards(target)]


def _again(result: Result, target: Path, command: str, data: Sequence[str]) -> list[Step]:
    """To split what was too long, and write the shards again."""
    long = result.ledger.set_aside.get(too_long.id)
    if long is None:
        return []
    limit = result.manifest.max_length
    return [
        Step(
            text=Text("prep.next.segment", rows=long.rows, tokens=limit),
            command=followup.segment(data, command, limit),
        ),
        Step(
            text=Text("prep.bucket.next.again"),
            command=followup.bucket_again(command, target),
        ),
    ]


def _computed(result: Result) -> int:
    """Tokens that a pass over the shards computes, padding included."""
    return sum(entry["length"] * entry["rows"] for entry in result.manifest.buckets)


def _facts(result: Result) -> list[Fact]:
    written, manifest = result.ledger.written, result.manifest
    rows, files = sum(int(f["rows"]) for f in manifest.files), len(manifest.files)
    computed = _computed(result)
    padding = Text("prep.bucket.note.padding", tokens=computed - written.tokens)
    supervised = Text("prep.bucket.note.supervised", trained=written.supervised, computed=computed)
    return [
        fact("conversations", written.rows, Text("prep.bucket.note.read", rows=result.ledger.read)),
        fact("rows", rows, Text("prep.bucket.note.files", files=files)),
        tokens_fact(written.tokens),
        fact("padding", show_number(result.efficiency.padding, PERCENT), padding),
        fact("supervised", show_number(written.supervised / computed, PERCENT), supervised),
    ]


def _buckets(result: Result) -> Table:
    manifest = result.manifest
    columns = ("length", "rows", "batch", "computed", "padding", "share")
    rows: list[list[Value]] = []
    for entry in manifest.buckets:
        length, computed = entry["length"], entry["length"] * entry["rows"]
        padding = computed - entry["tokens"]
        batch = manifest.tokens_per_batch // length
        rows.append([length, entry["rows"], batch, computed, padding, padding / computed])
    return Table(
        columns=[
            Column(
                label=Text(f"prep.bucket.column.{name}"),
                numeric=True,
                bar=name in ("rows", "computed"),
                spec=PERCENT if name == "share" else "",
            )
            for name in columns
        ],
        rows=rows,
        caption=Text("prep.bucket.caption.buckets"),
    )


def _where_tokens_went(result: Result) -> Chart:
    written = result.ledger.written
    parts = [
        *((label, tokens) for label, tokens in _kinds(written) if tokens),
        (Text("prep.bucket.went.padding"), _computed(result) - written.tokens),
        *(
            (Text("prep.bucket.went.set_aside", rule=rule), sums.tokens)
            for rule, sums in sorted(result.ledger.set_aside.items())
        ),
    ]
    caption = Text("prep.bucket.caption.went")
    labels, tokens = zip(*parts, strict=True)
    return bars(labels, [Series(caption, tokens)], caption=caption)


def _kinds(sums: Sums) -> list[tuple[Text, int]]:
    """The tokens of rows by what they are there for, each in one of the kinds."""
    return [
        (Text("prep.bucket.went.trained"), sums.supervised),
        (Text("prep.bucket.went.context"), sums.read),
        *((Text(f"prep.tokens.{reason}"), tokens) for reason, tokens in sums.untrained.items()),
    ]


def _tokens(result: Result) -> Table:
    """All tokens: tokenized = written + set aside, each of one kind."""
    ledger = result.ledger
    aside = sum(ledger.set_aside.values(), Sums())
    all_kinds = (_kinds(sums) for sums in (ledger.written, aside, ledger.tokenized))
    rows: list[list[Value | None]] = [
        [written[0], written[1], set_aside[1], tokenized[1]]
        for written, set_aside, tokenized in zip(*all_kinds, strict=True)
        if tokenized[1]
    ]
    sums = (ledger.written.tokens, aside.tokens, ledger.tokenized.tokens)
    rows.append([Text("prep.tokens.all"), *sums])
    return Table(
        columns=[
            Column(label=Text("prep.tokens.column.what")),
            *(
                Column(label=Text(f"prep.tokens.column.{name}"), numeric=True)
                for name in ("written", "set_aside", "tokenized")
            ),
        ],
        rows=rows,
        caption=Text("prep.tokens.caption"),
        highlight=len(rows) - 1,
    )


def _stages(result: Result) -> Table:
    """Rows read = rejected + sound; tokenized = set aside + written."""
    ledger = result.ledger
    sound, tokenized = ledger.sound, ledger.tokenized
    columns = ("conversations", "turns", "tokens", "trained")
    turns = sound.turns + ledger.rejected_turns
    rows: list[list[Value | None]] = [[Text("prep.ledger.read"), ledger.read, turns, None, None]]
    for stage, by_rule in (("repaired", ledger.repaired), ("rejected", ledger.rejected)):
        for rule, count in by_rule.items():
            rows.append([Text(f"prep.ledger.{stage}", rule=rule), count, None, None, None])
    if tokenized.rows != sound.rows:
        rows.append([Text("prep.ledger.sound"), sound.rows, sound.turns, None, None])
    made = "tokenized" if tokenized.rows == sound.rows else "made"
    rows.append([Text(f"prep.ledger.{made}"), *_values(tokenized)])
    for rule, sums in sorted(ledger.set_aside.items()):
        rows.append([Text("prep.ledger.set_aside", rule=rule), *_values(sums)])
    rows.append([Text("prep.ledger.written"), *_values(ledger.written)])
    proof = "unbalanced" if ledger.differences() else "balanced"
    return Table(
        columns=[
            Column(label=Text("prep.ledger.column.what")),
            *(Column(label=Text(f"prep.ledger.column.{c}"), numeric=True) for c in columns),
        ],
        rows=rows,
        caption=Text("prep.ledger.caption", proof=Text(f"prep.ledger.{proof}")),
        highlight=len(rows) - 1,
    )


def _values(sums: Sums) -> list[int]:
    return [sums.rows, sums.turns, sums.tokens, sums.supervised]


def _rejects(result: Result, target: Path) -> list[Paragraph]:
    if not result.rejections:
        return []
    where, count = str(target / REJECTS), len(result.rejections)
    return [Paragraph(Text("prep.rejects", rows=count, file=where))]


def _conversations(result: Result) -> str:
    """What was written; a family may divide a conversation into one row for each that reasons."""
    written, ledger = result.ledger.written, result.ledger
    if ledger.tokenized.rows == ledger.sound.rows:
        return counted(written.rows, "conversation", "conversations")
    whole = counted(ledger.sound.rows, "conversation", "conversations")
    return f"{counted(written.rows, 'part', 'parts')} of {whole}"


def _lines(result: Result, target: Path) -> list[tuple[str, str]]:
    written, manifest, computed = result.ledger.written, result.manifest, _computed(result)
    rows = sum(int(entry["rows"]) for entry in manifest.files)
    lines = [
        (
            "wrote",
            f"{target}: {_conversations(result)} in "
            f"{counted(rows, 'row', 'rows')} ({manifest.layout}), "
            f"{counted(len(manifest.files), 'file', 'files')}",
        ),
        (
            "tokens",
            f"{number(written.tokens)}, {number(written.supervised)} of them trained "
            f"({number(written.supervised / written.tokens, PERCENT)})",
        ),
        (
            "computed",
            f"{number(computed)} with padding ({number(result.efficiency.padding, PERCENT)}); "
            f"{number(written.supervised / computed, PERCENT)} of them trained",
        ),
        ("row lengths", _bucket_line(result)),
        efficiency.line(result.efficiency),
    ]
    if manifest.added_tokens:
        lines.append(("added tokens", " ".join(manifest.added_tokens)))
    if result.rejections:
        left_out = f"{number(result.left_out)} of {counted(result.ledger.read, 'row', 'rows')}"
        lines.append(("left out", f"{left_out}, listed in {target / REJECTS}"))
    lines += [("note", note) for note in result.notes]
    return lines


def _bucket_line(result: Result) -> str:
    entries = result.manifest.buckets
    shown = [f"{e['length']} × {number(e['rows'])}" for e in entries[:MOST_NAMED]]
    return " · ".join([*shown, *(["…"] if len(entries) > MOST_NAMED else [])])

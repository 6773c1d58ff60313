"""What is trained in a set of tokens, as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np
from glmprep.console import printable
from glmprep.findings import RULES, Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport import charts
from glmreport.page import (
    Chart,
    Column,
    Fact,
    Page,
    Section,
    Step,
    Table,
    TokenKind,
    TokenSpan,
    TokenView,
    Value,
    Verdict,
)
from glmreport.text import Catalogue, Literal, RuleTitle, Text

from glmdiag.labels import Labels
from glmdiag.labels.turns import turns

if TYPE_CHECKING:
    from rich.console import Console

TOKENS_SHOWN = 240
COUNTS = ("rows", "tokens", "supervised", "bare")
HEADLINES = ("DL101", "DL102", "DL103", "DL104", "DL105", "DL106")
"""Rules whose headline says more than their title."""


def page(labels: Labels, findings: Sequence[Finding], shards: str, command: str) -> Page:
    """The whole report on the labels of a shard folder."""
    return Page(
        kind="glmdiag labels",
        title=Text("diag.labels.title"),
        subject=shards,
        verdict=_verdict(labels, findings),
        steps=_steps(labels, findings, shards),
        facts=_facts(labels),
        sections=[
            _coverage(labels),
            _turns(labels),
            _endings(labels),
            *_served(labels),
            _sample(labels),
            *_unseen(labels),
        ],
        findings=finding_views(findings),
        provenance=provenance(command, [shards]),
    )


def summary(labels: Labels, console: Console) -> None:
    """The coverage in one line a bucket."""
    total = labels.total
    for each in labels.coverage:
        padding = f"  {each.padding:6.1%} padding" if labels.from_shards else ""
        console.print(
            f"bucket {each.length:>6}  {each.rows:>8} rows  {each.tokens:>11} tokens  "
            f"{each.supervised_share:6.1%} trained{padding}",
            soft_wrap=True,
        )
    for turn in turns(labels):
        console.print(
            f"turns {turn.place:>7}  {turn.turns:>8} of the assistant  {turn.share:6.1%} trained",
            soft_wrap=True,
        )
    stopped = len(labels.run_ends) - len(labels.open_ends)
    console.print(
        f"{total.rows} rows, {total.tokens} tokens, {total.supervised_share:.1%} of them trained; "
        f"{stopped} of {len(labels.run_ends)} trained answers end in a stop token",
        soft_wrap=True,
    )
    if labels.made.left_out:
        console.print(f"{labels.made.left_out} rows are left out by {labels.made.by}")
    for note in labels.made.notes:
        console.print(printable(Catalogue.load("en").say(note)), soft_wrap=True)


def _verdict(labels: Labels, findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    headline: Text | RuleTitle = Text(f"diag.labels.headline.{level}")
    if level != "good":
        worst = min(findings, key=lambda finding: finding.severity.rank)
        headline = _headline(worst)
    runs, unstopped = len(labels.run_ends), len(labels.open_ends)
    # Without a finding the ledger accounts for each answer that has no stop token.
    explained = "pieces" if level == "good" and unstopped else "detail"
    detail = Text(f"diag.labels.{explained}", stopped=runs - unstopped, runs=runs, open=unstopped)
    return Verdict(level=level, headline=headline, detail=detail)


def _headline(finding: Finding) -> Text | RuleTitle:
    if finding.rule in HEADLINES:
        return Text(f"diag.labels.headline.{finding.rule}")
    return RuleTitle(finding.rule, RULES[finding.rule].title.rstrip("."))


def _steps(labels: Labels, findings: Sequence[Finding], shards: str) -> list[Step]:
    if not labels.from_shards:
        made = Step(text=Text("diag.labels.step.make"), command="glmprep bucket DATA -o SHARDS")
        return [made]
    look = Step(text=Text("diag.labels.step.show"), command=f"glmprep show {quote(shards)}")
    if verdict_level(findings) == "bad":
        again = Step(text=Text("diag.labels.step.again"), command="glmprep bucket DATA -o SHARDS")
        return [look, again]
    train = f"glmtrain run --shards {quote(shards)} --output RUN"
    return [Step(text=Text("diag.labels.step.train"), command=train), look]


def _facts(labels: Labels) -> list[Fact]:
    total = labels.total
    stopped = (len(labels.run_ends) - len(labels.open_ends)) / max(1, len(labels.run_ends))
    shares = {"trained": total.supervised_share, "stopped": stopped}
    if labels.from_shards:
        shares["padding"] = total.padding
    return [
        Fact(label=Text("diag.labels.fact.rows"), value=total.rows),
        Fact(label=Text("diag.labels.fact.tokens"), value=Text("diag.many", count=total.tokens)),
        *(
            Fact(label=Text(f"diag.labels.fact.{name}"), value=Text("diag.share", share=share))
            for name, share in shares.items()
        ),
        Fact(label=Text("diag.labels.fact.bare"), value=total.without_labels),
    ]


def _coverage(labels: Labels) -> Section:
    """Trained, read and padding tokens of each bucket."""
    columns = ["length", *COUNTS, "trained", *(["padding"] if labels.from_shards else [])]
    shares = {"trained", "padding"}
    table = Table(
        columns=[
            Column(
                label=Text(f"diag.labels.column.{name}"),
                numeric=True,
                bar=name in shares,
                spec="percent" if name in shares else "",
            )
            for name in columns
        ],
        rows=[
            [
                each.length,
                each.rows,
                each.tokens,
                each.supervised,
                each.without_labels,
                each.supervised_share,
                *([each.padding] if labels.from_shards else []),
            ]
            for each in labels.coverage
        ],
    )
    kind = "intro" if labels.from_shards else "foreign"
    title, intro = Text("diag.labels.coverage.title"), Text(f"diag.labels.coverage.{kind}")
    return Section(title=title, intro=intro, blocks=[_coverage_chart(labels), table])


def _coverage_chart(labels: Labels) -> Chart:
    buckets = labels.coverage
    computed = {
        "supervised": [each.supervised for each in buckets],
        "context": [each.tokens - each.supervised for each in buckets],
    }
    if labels.from_shards:
        computed["padding"] = [each.rows * each.length - each.tokens for each in buckets]
    return charts.bars(
        [Text("diag.labels.bucket", length=each.length) for each in buckets],
        [charts.Series(Text(f"diag.labels.kind.{name}"), v) for name, v in computed.items()],
        caption=Text("diag.labels.coverage.caption"),
        spec="compact",
    )


def _endings(labels: Labels) -> Section:
    """By which tokens trained answers end."""
    rows: list[list[Value | None]]
    rows = [[Literal(name), count] for name, count in labels.stop_counts().items()]
    rows.append([Text("diag.labels.no_stop"), len(labels.open_ends)])
    table = Table(
        columns=[
            Column(label=Text("diag.labels.column.stop")),
            Column(label=Text("diag.labels.column.count"), numeric=True, bar=True),
        ],
        rows=rows,
    )
    title, intro = Text("diag.labels.endings.title"), Text("diag.labels.endings.intro")
    return Section(title=title, intro=intro, blocks=[table])


def _turns(labels: Labels) -> Section:
    """Which of the assistant's turns have a label, by their place."""
    columns = (("place", ""), ("turns", "number"), ("labelled", "number"), ("share", "percent"))
    table = Table(
        columns=[
            Column(
                label=Text(f"diag.labels.column.{name}"),
                numeric=bool(kind),
                bar=kind == "percent",
                spec="percent" if kind == "percent" else "",
            )
            for name, kind in columns
        ],
        rows=[
            [Text(f"diag.labels.place.{each.place}"), each.turns, each.trained, each.share]
            for each in turns(labels)
        ],
    )
    title, intro = Text("diag.labels.turns.title"), Text("diag.labels.turns.intro")
    return Section(title=title, intro=intro, blocks=[table])


def _served(labels: Labels) -> list[Section]:
    """Which of the stops end generation; nothing where it is not known."""
    if labels.served is None:
        return []
    learned = labels.said[labels.run_ends]
    decode = labels.tokenizer.decode
    table = Table(
        columns=[
            Column(label=Text("diag.labels.column.stop")),
            Column(label=Text("diag.labels.column.ends"), numeric=True),
            Column(label=Text("diag.labels.column.served")),
        ],
        rows=[
            [
                Literal(decode([stop])),
                int((learned == stop).sum()),
                Text(f"diag.labels.{'served' if stop in labels.served.ids else 'unserved'}"),
            ]
            for stop in labels.closers
        ],
    )
    intro = Text("diag.labels.contract.intro", where=labels.served.where)
    return [Section(title=Text("diag.labels.contract.title"), intro=intro, blocks=[table])]


def _unseen(labels: Labels) -> list[Section]:
    """What was not read, or read otherwise than one might think."""
    notes = [[note] for note in labels.made.notes]
    if not notes:
        return []
    table = Table(columns=[Column(label=Text("diag.labels.column.note"))], rows=notes)
    return [Section(title=Text("diag.labels.unseen"), blocks=[table])]


def _sample(labels: Labels) -> Section:
    """The beginning of the first row, each token as it is treated."""
    rows = labels.rows
    end = min(int(rows.offsets[1]), TOKENS_SHOWN)
    special = np.fromiter(map(labels.tokenizer.is_added, rows.input_ids[:end].tolist()), bool, end)
    kinds = 2 * special + labels.trained[:end]
    bounds = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), end]
    names: list[TokenKind] = ["context", "trained", "special", "stop"]
    spans = [
        TokenSpan(labels.tokenizer.decode(rows.input_ids[a:b].tolist()), names[int(kinds[a])])
        for a, b in pairwise(bounds)
    ]
    view = TokenView(spans, Text("diag.labels.sample.caption", count=end))
    return Section(title=Text("diag.labels.sample.title"), blocks=[view])

"""The labels of a shard folder as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np
from glmprep.findings import Finding
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
from glmreport.text import Literal, Text

from glmdiag.labels import Labels

if TYPE_CHECKING:
    from rich.console import Console

TOKENS_SHOWN = 240
COUNTS = ("rows", "tokens", "supervised", "bare")


def page(labels: Labels, findings: Sequence[Finding], shards: str, command: str) -> Page:
    """The whole report on the labels of a shard folder."""
    return Page(
        kind="glmdiag labels",
        title=Text("diag.labels.title"),
        subject=shards,
        verdict=_verdict(labels, findings),
        steps=_steps(findings, shards),
        facts=_facts(labels),
        sections=[_coverage(labels), _endings(labels), _sample(labels)],
        findings=finding_views(findings),
        provenance=provenance(command, [shards]),
    )


def summary(labels: Labels, console: Console) -> None:
    """The coverage in one line a bucket."""
    total = labels.total
    for each in labels.coverage:
        console.print(
            f"bucket {each.length:>6}  {each.rows:>8} rows  {each.tokens:>11} tokens  "
            f"{each.supervised_share:6.1%} trained  {each.padding:6.1%} padding",
            soft_wrap=True,
        )
    stopped = len(labels.run_ends) - len(labels.open_ends)
    console.print(
        f"{total.rows} rows, {total.tokens} tokens, {total.supervised_share:.1%} of them trained; "
        f"{stopped} of {len(labels.run_ends)} trained answers end in a stop token",
        soft_wrap=True,
    )


def _verdict(labels: Labels, findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    headline = Text(f"diag.labels.headline.{level}")
    if level != "good":
        worst = min(findings, key=lambda finding: finding.severity.rank)
        headline = Text(f"diag.labels.headline.{worst.rule}")
    runs, unstopped = len(labels.run_ends), len(labels.open_ends)
    # Without a finding the ledger accounts for each answer that has no stop token.
    explained = "pieces" if level == "good" and unstopped else "detail"
    detail = Text(f"diag.labels.{explained}", stopped=runs - unstopped, runs=runs, open=unstopped)
    return Verdict(level=level, headline=headline, detail=detail)


def _steps(findings: Sequence[Finding], shards: str) -> list[Step]:
    look = Step(text=Text("diag.labels.step.show"), command=f"glmprep show {quote(shards)}")
    if verdict_level(findings) == "bad":
        again = Step(text=Text("diag.labels.step.again"), command="glmprep bucket DATA -o SHARDS")
        return [look, again]
    train = f"glmtrain run --shards {quote(shards)} --output RUN"
    return [Step(text=Text("diag.labels.step.train"), command=train), look]


def _facts(labels: Labels) -> list[Fact]:
    total = labels.total
    stopped = (len(labels.run_ends) - len(labels.open_ends)) / max(1, len(labels.run_ends))
    shares = {"trained": total.supervised_share, "stopped": stopped, "padding": total.padding}
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
    columns = ["length", *COUNTS, "trained", "padding"]
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
                each.padding,
            ]
            for each in labels.coverage
        ],
    )
    title, intro = Text("diag.labels.coverage.title"), Text("diag.labels.coverage.intro")
    return Section(title=title, intro=intro, blocks=[_coverage_chart(labels), table])


def _coverage_chart(labels: Labels) -> Chart:
    buckets = labels.coverage
    computed = {
        "supervised": [each.supervised for each in buckets],
        "context": [each.tokens - each.supervised for each in buckets],
        "padding": [each.rows * each.length - each.tokens for each in buckets],
    }
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

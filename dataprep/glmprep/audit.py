"""Look at chat data before anything is done with it: format, text, sets, lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from glmprep.collect import Collector, Hit
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.findings import Example, Finding, Rule
from glmprep.intake import EXAMPLES, Intake, by_rule
from glmprep.labels import TokenBatch, tokenize
from glmprep.lengths import Cut, Lengths, percentiles
from glmprep.records import Conversation, Rejection
from glmprep.rules.format import FORMAT_RULES
from glmprep.rules.lengths import no_labels, too_long
from glmprep.rules.text import TEXT_RULES
from glmprep.sets import set_collectors
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

LIMITS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
COVERED = 0.95
"""Share of the conversations that a recommended limit holds whole."""

SCHEMA = {
    "conversation": pl.String,
    "where": pl.String,
    "turns": pl.Int64,
    "tokens": pl.Int64,
    "supervised": pl.Int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an audit saw. `table` has one row per row that can be trained on (see SCHEMA).

    `flags` is there on demand: one row per message, sound or not (see `Intake.flags`).
    """

    rows: int
    messages: int
    table: pl.DataFrame
    lengths: Lengths
    max_length: int | None
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]
    flags: pl.DataFrame | None = None

    @property
    def recommended(self) -> int:
        """A limit that holds nearly all conversations whole."""
        return self.lengths.covering(COVERED)

    @property
    def at_limit(self) -> Cut | None:
        """What the limit that was asked about would cut."""
        return next((c for c in self.lengths.cuts() if c.max_length == self.max_length), None)

    def as_json(self) -> Mapping[str, Any]:
        """The sums as plain JSON values."""
        lengths = self.lengths
        return {
            "rows": self.rows,
            "conversations": self.table.height,
            "messages": self.messages,
            "rejected": by_rule(self.rejections),
            "tokens": int(lengths.conversations.sum()),
            "supervised_tokens": lengths.supervised,
            "percentiles": {
                "conversation": percentiles(lengths.conversations),
                "prompt": percentiles(lengths.prompts),
                "answer": percentiles(lengths.answers),
            },
            "recommended_max_length": self.recommended,
            "max_length": self.max_length,
            "cuts": [asdict(cut) for cut in lengths.cuts()],
        }


def audit(
    source: Source,
    *,
    family: Family,
    tokenizer: Tokenizer,
    max_length: int | None = None,
    keep_flags: bool = False,
) -> Result:
    """Check all rows of `source` and measure the sound ones in tokens.

    Raises InputError when no row can be measured, UsageError for a limit nothing fits in.
    """
    if max_length is not None:
        require_room(max_length, family)
    limits = sorted({*LIMITS, *([max_length] if max_length else [])})
    intake = Intake(
        source,
        family=family,
        special_tokens=list(tokenizer.added),
        rules=(*FORMAT_RULES, *TEXT_RULES),
        keep_flags=keep_flags,
    )
    lengths, rows = Lengths(limits), _Rows(max_length)
    collectors: list[Collector] = [rows, *set_collectors()]
    for batch in intake.batches():
        if not batch.rows:
            continue
        tokens = tokenize(batch.rows, family, tokenizer)
        lengths.add(batch.rows, tokens)
        for collector in collectors:
            collector.add(batch.rows, tokens)
    table = rows.table()
    if table.is_empty():
        raise InputError(intake.nothing_left())
    for collector in collectors:
        for hit in collector.hits():
            intake.hit(hit)
    return Result(
        rows=intake.rows,
        messages=intake.messages,
        table=table,
        lengths=lengths,
        max_length=max_length,
        rejections=intake.rejections,
        findings=intake.findings(max_length=max_length or 0),
        flags=pl.concat(intake.flags) if intake.flags else None,
    )


class _Rows:
    """Collects one line per row (see SCHEMA) and applies the rules on its length and labels."""

    def __init__(self, max_length: int | None) -> None:
        self._checks: dict[Rule[Any], pl.Expr] = {no_labels: no_labels()}
        if max_length is not None:
            self._checks[too_long] = too_long(max_length)
        self._tables = [pl.DataFrame(schema=SCHEMA)]

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        self._tables.append(
            pl.DataFrame(
                {
                    "conversation": [c.id for c in conversations],
                    "where": [str(c.origin) for c in conversations],
                    "turns": [len(c.messages) for c in conversations],
                    "tokens": tokens.lengths,
                    "supervised": tokens.supervised,
                },
                schema=SCHEMA,
            )
        )

    def table(self) -> pl.DataFrame:
        return pl.concat(self._tables)

    def hits(self) -> Iterator[Hit]:
        table = self.table()
        for rule, fires in self._checks.items():
            hits = table.filter(fires)
            if hits.is_empty():
                continue
            examples = [
                Example(where=where, excerpt=f"{tokens} tokens, {supervised} trained")
                for where, tokens, supervised in hits.head(EXAMPLES)
                .select("where", "tokens", "supervised")
                .rows()
            ]
            yield Hit(rule=rule, count=hits.height, rows=hits.height, examples=examples)

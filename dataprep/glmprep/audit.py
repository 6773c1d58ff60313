"""Look at chat data before anything is done with it: format, duplicates, lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.findings import Example, Finding, Rule
from glmprep.intake import EXAMPLES, Intake, by_rule
from glmprep.labels import tokenize
from glmprep.lengths import Cut, Lengths, percentiles
from glmprep.records import Rejection
from glmprep.rules.lengths import no_labels, too_long
from glmprep.rules.sets import exact_duplicate
from glmprep.sized import require_room
from glmprep.table import digests
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
    "digest": pl.UInt64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an audit saw. `table` has one row per sound conversation (see SCHEMA).

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
    paths: Sequence[str],
    *,
    family: Family,
    tokenizer: Tokenizer,
    max_length: int | None = None,
    roles: Mapping[str, str] | None = None,
    keep_flags: bool = False,
) -> Result:
    """Check all rows of `paths` and measure the sound ones in tokens.

    Raises InputError when no row can be measured, UsageError for a limit nothing fits in.
    """
    if max_length is not None:
        require_room(max_length, family)
    limits = sorted({*LIMITS, *([max_length] if max_length else [])})
    special = list(tokenizer.added)
    intake = Intake(paths, special_tokens=special, roles=roles, keep_flags=keep_flags)
    lengths, tables = Lengths(limits), [pl.DataFrame(schema=SCHEMA)]
    for batch in intake.batches():
        if not batch.conversations:
            continue
        tokens = tokenize(batch.conversations, family, tokenizer)
        lengths.add(batch.conversations, tokens)
        tables.append(
            pl.DataFrame(
                {
                    "conversation": [c.id for c in batch.conversations],
                    "where": [str(c.origin) for c in batch.conversations],
                    "turns": [len(c.messages) for c in batch.conversations],
                    "tokens": tokens.lengths,
                    "supervised": tokens.supervised,
                    "digest": digests(batch.conversations, batch.messages),
                },
                schema=SCHEMA,
            )
        )
    table = pl.concat(tables)
    if table.is_empty():
        raise InputError(intake.nothing_left())
    _check_table(table, intake, max_length)
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


def _check_table(table: pl.DataFrame, intake: Intake, max_length: int | None) -> None:
    """Apply the rules that look at whole conversations."""
    checks: dict[Rule[Any], pl.Expr] = {
        exact_duplicate: exact_duplicate(),
        no_labels: no_labels(),
    }
    if max_length is not None:
        checks[too_long] = too_long(max_length)
    for rule, fires in checks.items():
        hits = table.filter(fires)
        if hits.is_empty():
            continue
        examples = [
            Example(where=where, excerpt=f"{tokens} tokens, {supervised} trained")
            for where, tokens, supervised in hits.head(EXAMPLES)
            .select("where", "tokens", "supervised")
            .rows()
        ]
        intake.hit(rule, hits.height, hits.height, examples)

"""The rules on lengths and labels, over all rows together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example, Rule
from glmprep.labels import TokenBatch
from glmprep.records import Conversation
from glmprep.rules.lengths import (
    answer_cut,
    no_labels,
    outlier,
    prompt_dominates,
    short_answers,
    too_long,
)

SCHEMA = {
    "conversation": pl.String,
    "where": pl.String,
    "turns": pl.Int64,
    "tokens": pl.Int64,
    "supervised": pl.Int64,
    "longest_answer": pl.Int64,
    "answer_torn": pl.Boolean,
}
NO_LIMIT = 2**62


class RowChecks:
    """Collects one line per row (see SCHEMA), and applies the rules on lengths to them all."""

    def __init__(self, max_length: int | None) -> None:
        self._limit = NO_LIMIT if max_length is None else max_length
        self._checks: dict[Rule[Any], pl.Expr] = {
            check: check() for check in (no_labels, prompt_dominates, short_answers, outlier)
        }
        if max_length is not None:
            self._checks |= {check: check(max_length) for check in (too_long, answer_cut)}
        self._tables = [pl.DataFrame(schema=SCHEMA)]

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch."""
        longest, torn = _answers(tokens, self._limit)
        self._tables.append(
            pl.DataFrame(
                {
                    "conversation": [c.id for c in conversations],
                    "where": [str(c.origin) for c in conversations],
                    "turns": [len(c.messages) for c in conversations],
                    "tokens": tokens.lengths,
                    "supervised": tokens.supervised,
                    "longest_answer": longest,
                    "answer_torn": torn,
                },
                schema=SCHEMA,
            )
        )

    def table(self) -> pl.DataFrame:
        """One line per row."""
        return pl.concat(self._tables)

    def hits(self) -> Iterator[Hit]:
        """One hit for each rule that fired."""
        table = self.table()
        for rule, fires in self._checks.items():
            hits = table.filter(fires)
            if hits.is_empty():
                continue
            # The longest first: they are what a limit or a batch is decided by.
            shown = hits.sort("tokens", descending=True, maintain_order=True).head(EXAMPLES)
            examples = [
                Example(where=where, excerpt=f"{tokens} tokens, {supervised} trained")
                for where, tokens, supervised in shown[["where", "tokens", "supervised"]].rows()
            ]
            yield Hit(rule=rule, count=hits.height, rows=hits.height, examples=examples)


def _answers(tokens: TokenBatch, limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each row the targets of its longest piece, and whether the limit falls inside one."""
    rows = len(tokens.lengths)
    longest, torn = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    np.maximum.at(longest, tokens.row, tokens.targets)
    end = tokens.end - tokens.offsets[tokens.row] + tokens.stopped
    inside = (tokens.targets > 0) & (end - tokens.targets < limit) & (end > limit)
    torn[tokens.row[inside]] = True
    return longest, torn

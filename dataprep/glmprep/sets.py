"""Checks over all conversations together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from glmprep.collect import Collector, Hit
from glmprep.findings import Example
from glmprep.labels import TokenBatch
from glmprep.records import Conversation
from glmprep.rules.sets import exact_duplicate
from glmprep.table import digests, message_table

EXAMPLES = 5


def set_collectors() -> list[Collector]:
    """One collector for each check."""
    return [Copies()]


class Copies:
    """Finds exact copies by a 64-bit hash of each conversation."""

    def __init__(self) -> None:
        self._tables: list[pl.DataFrame] = []

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Hash a batch."""
        where = [str(c.origin) for c in conversations]
        digest = digests(conversations, message_table(conversations))
        self._tables.append(pl.DataFrame({"where": where, "digest": digest}))

    def hits(self) -> Iterator[Hit]:
        """All copies but the first of each."""
        table = pl.concat(self._tables)
        hits = table.filter(exact_duplicate())
        if not hits.is_empty():
            examples = [Example(where=where) for where in hits["where"].head(EXAMPLES)]
            yield Hit(rule=exact_duplicate, count=hits.height, rows=hits.height, examples=examples)

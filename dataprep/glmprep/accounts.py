"""One pass over the data that settles each row: rejected, set aside by a rule, or kept.

`glmprep bucket` writes what is kept; `glmprep verify` makes the same pass again to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from glmprep.entries import COMMON, DIGEST_BYTES, REJECTED, Entries, digests, places
from glmprep.families import Family
from glmprep.families.piece import NO_TURN
from glmprep.intake import Batch, Intake
from glmprep.labels import TokenBatch, open_ends, tokenize
from glmprep.ledger import NUMBERS, UNTRAINED, Ledger, Sums, Turns
from glmprep.records import Conversation, Rejection, Untrained
from glmprep.rules.lengths import no_labels, too_long
from glmprep.tokenizer import Tokenizer

WRITTEN, SET_ASIDE = "written", "set_aside"
REASONS: tuple[Untrained, ...] = get_args(Untrained)
COLUMNS = pa.schema(
    [*((name, pa.int32()) for name in NUMBERS), ("digest", pa.binary(DIGEST_BYTES))]
)
"""What a line tells of its row: the ledger's numbers, and the digest of its ids and mask."""
SCHEMA = pa.schema([*COMMON, *COLUMNS, ("shard_row", pa.int64()), ("segment", pa.int32())])
"""The lines in a shard folder, which also tell the row of the shards and the segment in it."""

Int64 = npt.NDArray[np.int64]
Numbers = dict[str, Int64]


class Accounts:
    """Tokenizes the rows of an intake and keeps the ledger of them, in lines and in sums.

    Rows longer than `max_length` tokens and rows without a target are set aside. `ledger` and
    `entries` are complete when `batches` has come to its end.
    """

    def __init__(
        self, intake: Intake, *, family: Family, tokenizer: Tokenizer, max_length: int
    ) -> None:
        self.ledger = Ledger()
        self.entries = Entries(intake.files, COLUMNS)
        self._intake = intake
        self._family = family
        self._tokenizer = tokenizer
        self._max_length = max_length

    def batches(self) -> Iterator[tuple[TokenBatch, Int64]]:
        """The tokens of each batch, and which of its rows are kept."""
        for batch in self._intake.batches():
            if batch.rows:
                yield self._settle(batch)
        self._close()

    def _settle(self, batch: Batch) -> tuple[TokenBatch, Int64]:
        tokens = tokenize(batch.rows, self._family, self._tokenizer)
        long, bare = tokens.lengths > self._max_length, tokens.supervised == 0
        kept = np.flatnonzero(~long & ~bare)
        rule = [
            too_long.id if is_long else no_labels.id if is_bare else None
            for is_long, is_bare in zip(long.tolist(), bare.tolist(), strict=True)
        ]
        numbers = measure(batch.rows, tokens)
        self.entries.add(
            batch.rows,
            place=places(batch.row_of),
            outcome=[SET_ASIDE if left_out else WRITTEN for left_out in rule],
            rule=rule,
            digest=digests(tokens.ids, tokens.mask, tokens.offsets),
            **numbers,
        )
        ledger = self.ledger
        ledger.sound += _turns(batch.conversations)
        ledger.tokenized += _sums(numbers, np.arange(len(rule)))
        ledger.written += _sums(numbers, kept)
        ends = open_ends(tokens.ids, tokens.mask, tokens.offsets, self._family.stops)
        ledger.open_ends += int(ends[kept].sum())
        for name, chosen in ((too_long.id, long), (no_labels.id, bare & ~long)):
            self._set_aside(name, np.flatnonzero(chosen), batch.rows, numbers)
        return tokens, kept

    def _set_aside(
        self, rule: str, chosen: Int64, rows: Sequence[Conversation], numbers: Numbers
    ) -> None:
        if not len(chosen):
            return
        before = self.ledger.set_aside.get(rule, Sums())
        self.ledger.set_aside[rule] = before + _sums(numbers, chosen)
        for row in chosen.tolist():
            tokens, supervised = numbers["tokens"][row], numbers["supervised"][row]
            self._intake.reject(
                Rejection(
                    rule=rule,
                    reason=f"{tokens} tokens, {supervised} of them trained",
                    origin=rows[row].origin,
                    conversation=rows[row].id,
                )
            )

    def _close(self) -> None:
        """Enter the rows that the intake itself rejected."""
        set_aside = self.ledger.set_aside
        rejected = [one for one in self._intake.rejections if one.rule not in set_aside]
        self.entries.reject(rejected)
        self.ledger.read = self._intake.rows
        self.ledger.repaired = dict(self._intake.mending.by_rule())
        self.ledger.rejected_turns = self._intake.messages - self.ledger.sound.turns
        for one in sorted(rejected, key=lambda one: one.rule):
            self.ledger.rejected[one.rule] = self.ledger.rejected.get(one.rule, 0) + 1
        unbalanced = self.ledger.differences()
        assert not unbalanced, f"the ledger does not balance: {unbalanced}"


def added_up(lines: pl.DataFrame) -> Ledger:
    """The sums of lines; what lines do not tell stays 0."""
    settled = lines.filter(pl.col("outcome") != REJECTED)
    rejected = lines.filter(pl.col("outcome") == REJECTED)["rule"].value_counts()
    set_aside = settled.filter(pl.col("outcome") == SET_ASIDE)
    tokenized = _added(settled)
    return Ledger(
        read=lines.select("file_index", "line").n_unique(),
        rejected={str(rule): rows for rule, rows in sorted(rejected.rows(), key=str)},
        sound=Turns(
            rows=settled.select("file_index", "line").n_unique(),
            trained_turns=tokenized.trained_turns,
        ),
        tokenized=tokenized,
        set_aside={str(rule): _added(part) for (rule,), part in set_aside.group_by("rule")},
        written=_added(settled.filter(pl.col("outcome") == WRITTEN)),
    )


def measure(rows: Sequence[Conversation], tokens: TokenBatch) -> Numbers:
    """For each row the ledger's numbers.

    The untrained tokens are those of the assistant's turns, headers included, that are no target.
    """
    counts = np.fromiter((len(row.messages) for row in rows), np.int64, len(rows))
    reason = np.fromiter(
        (
            _REASON[m.untrained] if m.role == "assistant" else -1
            for row in rows
            for m in row.messages
        ),
        np.int8,
        int(counts.sum()),
    )
    row_of = np.repeat(np.arange(len(rows)), counts)
    return {
        "turns": counts,
        "trained_turns": np.bincount(row_of, reason == 0, len(rows)).astype(np.int64),
        "tokens": tokens.lengths,
        "supervised": tokens.supervised,
        **_untrained(tokens, reason, np.cumsum(counts) - counts),
    }


_REASON: dict[Untrained | None, int] = {None: 0} | {name: n for n, name in enumerate(REASONS, 1)}


def _untrained(tokens: TokenBatch, reason: npt.NDArray[np.int8], first: Int64) -> Numbers:
    """For each row and reason the tokens of untrained turns; `first` is each row's first turn."""
    of_turn = np.flatnonzero(tokens.turn != NO_TURN)
    why = reason[first[tokens.row[of_turn]] + tokens.turn[of_turn]]
    before = np.concatenate(([0], np.cumsum(tokens.mask, dtype=np.int64)))
    start, end = tokens.start[of_turn], tokens.end[of_turn]
    amount = end - start - (before[end] - before[start])
    row, count = tokens.row[of_turn], len(tokens.lengths)
    return {
        f"{UNTRAINED}{name}": np.bincount(
            row[why == code], amount[why == code], minlength=count
        ).astype(np.int64)
        for code, name in enumerate(REASONS, 1)
    }


def _turns(conversations: Sequence[Conversation]) -> Turns:
    messages = [message for one in conversations for message in one.messages]
    trained = sum(m.role == "assistant" and m.untrained is None for m in messages)
    return Turns(rows=len(conversations), turns=len(messages), trained_turns=trained)


def _added(lines: pl.DataFrame) -> Sums:
    return Sums(rows=lines.height, **{name: int(lines[name].sum()) for name in NUMBERS})


def _sums(numbers: Numbers, chosen: Int64) -> Sums:
    sums = {name: int(column[chosen].sum()) for name, column in numbers.items()}
    return Sums(rows=len(chosen), **sums)

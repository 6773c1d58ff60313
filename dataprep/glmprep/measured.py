"""What the ledger counts of rows as they are tokenized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt

from glmprep.families.piece import NO_TURN
from glmprep.labels import TokenBatch
from glmprep.ledger import UNTRAINED, Turns
from glmprep.records import Conversation, Untrained

REASONS: tuple[Untrained, ...] = get_args(Untrained)
Int64 = npt.NDArray[np.int64]
Numbers = dict[str, Int64]


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


def turns(conversations: Sequence[Conversation]) -> Turns:
    """How many conversations, messages, and turns that are trained."""
    messages = [message for one in conversations for message in one.messages]
    trained = sum(m.role == "assistant" and m.untrained is None for m in messages)
    return Turns(rows=len(conversations), turns=len(messages), trained_turns=trained)

"""Where rows were cut: at a limit that was told, or at a length that too many rows have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmdiag.labels.apart import Int64, Labels

LEAST_PILE, TIMES = 3, 8
"""So many rows of exactly the greatest length, and so many times those of each length before it."""
NEIGHBOURS = 32
"""Lengths before the greatest one that are compared with it."""
DECODED = 500
"""Answers whose last words are looked at."""
TAIL = 8
"""Tokens of an answer's end that are decoded."""
LEFT_OVER = 0.2
"""Ends in the middle of a sentence, beyond the part that whole answers have, that tell of a cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """What ends at the `limit`: answers that are `open`, and those with a stop behind a cut.

    `limit` is None, and nothing else there, where no row was cut. `rows` have at least that length.
    `usual` is the part of all other answers that end in the middle of a sentence.
    """

    limit: int | None
    rows: int
    open: Int64
    stopped: Int64
    usual: float


def cuts(labels: Labels) -> Cuts:
    """The answers that end where a row was cut; positions are those of their last tokens."""
    nothing = np.zeros(0, np.int64)
    lengths = np.diff(np.append(labels.segments, len(labels.trained)))
    piled = _pile(lengths)
    limit = piled or labels.made.max_length
    if limit is None:
        return Cuts(limit=None, rows=0, open=nothing, stopped=nothing, usual=0.0)
    row_ends = labels.rows.offsets[1:][labels.rows.lengths >= limit] - 1
    ends = np.union1d(labels.segment_ends[lengths >= limit], row_ends)
    answers = ends[labels.trained[ends] & (labels.role_at(ends) == labels.roles.assistant)]
    closed = np.isin(labels.said[answers], labels.closers)
    stopped, usual = _broken_off(labels, answers[closed], piled is not None)
    return Cuts(
        limit=int(limit), rows=len(row_ends), open=answers[~closed], stopped=stopped, usual=usual
    )


def _pile(lengths: Int64) -> int | None:
    """The greatest length, where more have it than chance gives."""
    longest = int(lengths.max())
    counts = np.bincount(np.maximum(lengths - (longest - NEIGHBOURS), 0), minlength=NEIGHBOURS + 1)
    before = counts[1:NEIGHBOURS].mean() if NEIGHBOURS > 1 else 0
    pile = counts[NEIGHBOURS]
    return longest if pile >= LEAST_PILE and pile > TIMES * before else None


def _broken_off(labels: Labels, closed: Int64, piled: bool) -> tuple[Int64, float]:
    """Of the answers with a stop at the limit those that were cut, and what is usual elsewhere.

    Where whole answers end like that as well, as speech without punctuation does, words tell
    nothing, and only the pile of rows of one length does.
    """
    others = labels.run_ends[np.isin(labels.said[labels.run_ends], labels.closers)]
    others = others[~np.isin(others, closed)]
    step = max(1, len(others) // DECODED)
    usual = _unfinished(labels, others[::step][:DECODED])
    share = sum(usual) / max(1, len(usual))
    looked = closed[:DECODED]
    marks = _unfinished(labels, looked)
    broken = looked[np.array(marks, np.bool_)] if marks else looked
    if share > 0.5:
        return (closed if piled else closed[:0]), share
    enough = len(broken) >= LEAST_PILE and len(broken) > len(looked) * (share + LEFT_OVER)
    return (broken if enough else closed[:0]), share


def _unfinished(labels: Labels, ends: Int64) -> Sequence[bool]:
    """Whether the text before each of these stops breaks off: its last character is of a word."""
    ids, decode = labels.rows.input_ids, labels.tokenizer.decode
    return [_in_a_word(decode(ids[max(0, at - TAIL) : at].tolist())) for at in ends.tolist()]


def _in_a_word(text: str) -> bool:
    end = text.rstrip()[-1:]
    return end.isalnum() or end in ",，、�"

"""ms-swift: rows that are too long are left out, or cut on one side.

modelscope/ms-swift, swift/template/base.py (`_encode_truncated`, `_truncate`), version 4.4.3 at
commit 3602360a of 2026-08-22; `truncation_strategy` is "delete" and `max_length` the model's own.
"""

from __future__ import annotations

from glmprep.peers.fate import Kept, drop_long, keep_whole
from glmprep.peers.rows import Bool, Rows

keep_fitting = drop_long


def keep_left(rows: Rows, length: int) -> Kept:
    """`left`: the end of a row, without `[gMASK]<sop>` and the system message."""
    return _cut(rows, rows.place - rows.tokens.lengths[rows.row] >= -length)


def keep_right(rows: Rows, length: int) -> Kept:
    """`right`: the beginning of a row."""
    return _cut(rows, rows.place < length)


def _cut(rows: Rows, present: Bool) -> Kept:
    """What is left; the first token has no label, whatever it is."""
    kept = keep_whole(rows, present)
    first = present.copy()
    first[1:] &= ~present[:-1] | (rows.row[1:] != rows.row[:-1])
    return Kept(
        present=present,
        trained=kept.trained & ~first,
        dropped=kept.dropped,
        stops_after_cut=kept.stops_after_cut,
    )

"""The fine-tuning script of GLM-4: a cut on the right, and a mask that is moved by one place.

zai-org/GLM-4 (formerly THUDM/GLM-4), finetune/finetune.py, `process_batch`, at commit 3f79b543 of
2025-07-04; its configs set `combine: true` and 512 tokens each for input and output.
"""

from __future__ import annotations

import numpy as np

from glmprep.families.piece import NO_TOKEN
from glmprep.peers.fate import IGNORED, Kept, Labelled, keep_whole, label
from glmprep.peers.rows import HEADER, USER, Bool, Int64, Rows

EXTRA = 1
"""The script keeps so many tokens more than input and output may have together."""


def keep(rows: Rows, length: int) -> Kept:
    """`combine: false`: all answers, as far as they stand within the limit."""
    return keep_whole(rows, rows.place < length + EXTRA)


def keep_last(rows: Rows, length: int) -> Kept:
    """`combine: true`, the default: of the last answer all but the first token."""
    kept = keep(rows, length)
    return Kept(
        present=kept.present,
        trained=kept.trained & (np.arange(len(rows.row)) > _last_header(rows)[rows.row] + HEADER),
        dropped=kept.dropped,
        stops_after_cut=kept.stops_after_cut,
    )


def label_each(rows: Rows, length: int) -> Labelled:
    """`combine: false`: each message of the assistant, its header left out and the next one in."""
    said = np.zeros(len(rows.row), np.bool_)
    spoken = np.repeat(rows.spoken, rows.tokens.end - rows.tokens.start)
    said[_piece_tokens(rows)] = spoken
    return _label(rows, length, said)


def label_last(rows: Rows, length: int) -> Labelled:
    """`combine: true`: all that stands behind the last `<|assistant|>`, but for one token."""
    header = _last_header(rows)
    refused = header == NO_TOKEN
    said = rows.body & (np.arange(len(rows.row)) > header[rows.row]) & ~refused[rows.row]
    return _label(rows, length, said, refused)


def _label(rows: Rows, length: int, said: Bool, refused: Bool | None = None) -> Labelled:
    """Labels where the token before one is `said`; `<|user|>` is put behind every row."""
    moved = np.zeros(len(said), np.bool_)
    moved[1:] = said[:-1]
    moved[rows.tokens.offsets[:-1]] = False
    present = rows.body & (rows.place < length + EXTRA)
    bodies = rows.tokens.lengths - rows.closed
    fits = bodies < length + EXTRA
    user = rows.special[USER]
    ends_said = said[rows.tokens.offsets[:-1] + bodies - 1]
    return label(
        rows,
        present,
        np.where(moved, rows.tokens.ids, IGNORED),
        tail=np.where(fits, user, NO_TOKEN).astype(np.int32),
        tail_label=np.where(fits & ends_said, user, IGNORED).astype(np.int32),
        refused=refused,
    )


def _last_header(rows: Rows) -> Int64:
    """Where the last `<|assistant|>` of each row stands, NO_TOKEN where there is none."""
    starts = rows.tokens.start[rows.opens]
    last = np.full(len(rows), NO_TOKEN, np.int64)
    np.maximum.at(last, rows.row[starts], starts)
    return last


def _piece_tokens(rows: Rows) -> Bool:
    """The tokens that are part of a piece: not the prefix, nor the closing stop."""
    first = np.full(len(rows), len(rows.row), np.int64)
    np.minimum.at(first, rows.tokens.row, rows.tokens.start)
    return rows.body & (np.arange(len(rows.row)) >= first[rows.row])

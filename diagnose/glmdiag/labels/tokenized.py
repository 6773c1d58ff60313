"""Rows of a tokenized dataset: padding off, labels on their places, segments found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from glmprep.errors import InputError
from glmprep.labels import ranges
from glmprep.shards import Rows
from glmreport.text import Text

from glmdiag.labels.apart import Bool, Int32, Int64
from glmdiag.labels.tables import BESIDE, IDS, LABELS, MASKS, Columns, read_columns

IGNORED = -100
SHIFTS = (-1, 0, 1)
SURE = 0.9
"""A shift explains the labels when so many of them equal the input there, and few do in place."""
IN_PLACE = 0.5
MOST_ID = 2**31 - 1
SHORTEST = 64
"""Buckets of foreign rows are powers of two from here on."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Rows of tokens with what is learned at each; the other fields are as in `Made`."""

    rows: Rows
    targets: Int32
    shares: dict[int, float]
    shift: int
    padded: int
    marked: bool
    notes: Sequence[Text]


def read_tokens(path: Path, *, pad: int, prefix: Sequence[int]) -> Tokens:
    """Read a dataset; raises InputError where its columns do not fit together."""
    columns = read_columns(path)
    ids, lengths = columns.values[IDS], columns.lengths[IDS]
    if len(ids) and not (ids.min() >= 0 and ids.max() <= MOST_ID):
        raise InputError(f"{path}: {IDS} holds numbers that are no ids, as {ids.min()}")
    labels, notes = _labels(columns, path)
    return make(
        ids,
        labels,
        lengths,
        held=_held(columns, ids, labels, lengths, pad),
        starts=_starts(columns, lengths),
        prefix=prefix,
        notes=[*columns.notes, *notes],
    )


def make(
    ids: Int64,
    labels: Int64,
    lengths: Int64,
    *,
    held: Bool,
    starts: Bool | None,
    prefix: Sequence[int],
    notes: Sequence[Text] = (),
) -> Tokens:
    """Rows of ids and labels; `held` are the tokens that are no padding, `starts` of segments."""
    padded = int((labels[~held] != IGNORED).sum())
    row = np.repeat(np.arange(len(lengths)), lengths)
    kept = np.bincount(row[held], minlength=len(lengths))
    tokens, labels = ids[held].astype(np.int32), labels[held]
    full = np.flatnonzero(kept)
    if not len(full):
        raise InputError("a dataset without tokens that are no padding")
    lengths = kept[full]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    shares = _shares(tokens, labels, offsets)
    shift = _shift(shares)
    labels = _moved(tokens, labels, offsets, shift)
    began = _begins(tokens, prefix) if starts is None else starts[held]
    segments = _segments(began, offsets)
    bounds = 2 ** np.ceil(np.log2(np.maximum(lengths, SHORTEST))).astype(np.int32)
    rows = Rows(
        input_ids=tokens,
        loss_mask=(labels != IGNORED).astype(np.uint8),
        position_ids=(np.arange(len(tokens)) - np.repeat(offsets[:-1], lengths)).astype(np.int32),
        segment_ids=segments,
        offsets=offsets,
        bucket=bounds.astype(np.int32),
        conversation_ids=[[]] * len(full),
    )
    return Tokens(
        rows=rows,
        targets=labels.astype(np.int32),
        shares=shares,
        shift=shift,
        padded=padded,
        marked=starts is not None,
        notes=notes,
    )


def _labels(columns: Columns, path: Path) -> tuple[Int64, list[Text]]:
    """The labels of all tokens, from the column of that name or from a mask of the trained ones."""
    ids, lengths = columns.values[IDS], columns.lengths[IDS]
    for name in (LABELS, *MASKS):
        if name not in columns.values:
            continue
        if not np.array_equal(columns.lengths[name], lengths):
            raise InputError(f"{path}: {name} and {IDS} differ in length in some rows")
        values = columns.values[name]
        if name == LABELS:
            return values, []
        return np.where(values != 0, ids, IGNORED), [Text("diag.labels.note.mask", column=name)]
    return ids.copy(), [Text("diag.labels.note.bare", column=LABELS)]


def _held(columns: Columns, ids: Int64, labels: Int64, lengths: Int64, pad: int) -> Bool:
    """The tokens that are no padding: by the attention mask, else all but pads at a row's end.

    One end of the text that has a label is an end, and not padding.
    """
    mask = columns.values.get("attention_mask")
    if mask is not None and np.array_equal(columns.lengths["attention_mask"], lengths):
        return np.asarray(mask != 0)
    ends = np.cumsum(lengths)
    is_text = ids != pad
    last = np.maximum.accumulate(np.where(is_text, np.arange(len(ids)), -1))
    last_of_row = np.where(lengths > 0, np.append(last, -1)[ends - 1], -1)
    starts = ends - lengths
    kept = np.maximum(last_of_row + 1, starts)
    room = kept < ends
    first_pad = np.minimum(kept, len(ids) - 1)
    kept = kept + (room & (labels[first_pad] != IGNORED))
    held = np.zeros(len(ids), np.bool_)
    held[ranges(starts, kept - starts)] = True
    return held


def _starts(columns: Columns, lengths: Int64) -> Bool | None:
    """Where segments begin by what the set says of it, None where it says nothing."""
    tokens = int(lengths.sum())
    for name in BESIDE[1:]:
        if name not in columns.values:
            continue
        values = columns.values[name]
        if name == "position_ids" and np.array_equal(columns.lengths[name], lengths):
            return np.asarray(values == 0)
        if name != "position_ids" and int(values.sum()) == tokens:
            starts = np.zeros(tokens, np.bool_)
            starts[(np.cumsum(values) - values)[values > 0]] = True
            return starts
    return None


def _shares(ids: Int32, labels: Int64, offsets: Int64) -> dict[int, float]:
    """For each shift the part of the labels that equal the token so many places on."""
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    at = np.flatnonzero(labels != IGNORED)
    found = {}
    for shift in SHIFTS:
        there = at + shift
        inside = (there >= 0) & (there < len(ids))
        places = at[inside]
        places = places[row[places] == row[places + shift]]
        equal = int((labels[places] == ids[places + shift]).sum())
        found[shift] = equal / max(1, len(places))
    return found


def _shift(shares: dict[int, float]) -> int:
    best = max(SHIFTS, key=lambda shift: shares[shift])
    return best if shares[best] > SURE and shares[0] < IN_PLACE else 0


def _moved(ids: Int32, labels: Int64, offsets: Int64, shift: int) -> Int64:
    """Labels on the places of the tokens that they name.

    The last one of a row may have been moved out of it: it is taken to be as the one before it.
    """
    if not shift:
        return labels
    moved = np.full(len(labels), IGNORED, np.int64)
    if shift > 0:
        moved[1:] = labels[:-1]
        moved[offsets[:-1]] = IGNORED
    else:
        moved[:-1] = labels[1:]
        last = offsets[1:] - 1
        moved[last] = np.where(moved[np.maximum(last - 1, 0)] != IGNORED, ids[last], IGNORED)
    return moved


def _begins(ids: Int32, prefix: Sequence[int]) -> Bool:
    """Where the template's prefix begins; nowhere for a template that has none."""
    found = np.full(len(ids), bool(prefix), np.bool_)
    for place, token in enumerate(prefix):
        found &= np.append(ids, np.full(len(prefix), -1))[place : place + len(ids)] == token
    return found


def _segments(begins: Bool, offsets: Int64) -> Int32:
    """The number of each token's segment in its row, from 0."""
    begins = begins.copy()
    begins[offsets[:-1]] = True
    counts = np.cumsum(begins)
    first = np.repeat(counts[offsets[:-1]], np.diff(offsets))
    return np.asarray((counts - first).astype(np.int32))

"""A trainer's input and labels laid over this suite's tokens of the same rows.

Most trainers render the model's own template, so theirs are the same tokens. Where one writes a
piece in other words, the piece is matched by its turn: as many of our tokens count as there, and as
trained, as there are of its own, from the first on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glmprep.families import Family
from glmprep.families.piece import NO_TOKEN
from glmprep.labels import TokenBatch, tokenize
from glmprep.peers.fate import IGNORED, Labelled, Trainer
from glmprep.peers.rows import Bool, Int32, Int64, Rows
from glmprep.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Own:
    """Tokens that are in a trainer's input only, each with its row and our token before which."""

    row: Int64
    before: Int64
    ids: Int32
    labels: Int32


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """What a trainer makes of our tokens, and what it adds.

    `present` and `labels` (IGNORED for none) are over our tokens; `tail_label` is the label of the
    token that is put behind each row, `last` the last of our tokens there, NO_TOKEN for none.
    """

    present: Bool
    labels: Int32
    reworded: Bool
    last: Int64
    tail_label: Int32
    own: Own
    refused: Bool

    @property
    def labelled(self) -> Bool:
        """Our tokens that have a label."""
        return np.asarray(self.labels != IGNORED)


def lay_over(
    trainer: Trainer, rows: Rows, length: int, family: Family, tokenizer: Tokenizer
) -> Overlay:
    """A trainer's labels of a batch at a maximum length, over the tokens of `rows`."""
    theirs, turns = _read(trainer, rows, family, tokenizer)
    made = trainer.label(theirs, length)
    if theirs is rows:
        nothing = np.zeros(len(rows.row), np.bool_)
        return _finish(rows, made, made.present.copy(), made.labels.copy(), nothing, [])
    present = np.zeros(len(rows.row), np.bool_)
    labels = np.full(len(rows.row), IGNORED, np.int32)
    reworded = np.zeros(len(rows.row), np.bool_)
    own: list[_Inserted] = []
    ours = rows.tokens
    for row in range(len(rows)):
        _lay_prefix(ours, theirs.tokens, made, row, present)
    for piece, host in _matches(rows, theirs, turns):
        here = slice(int(ours.start[piece]), int(ours.end[piece]))
        there = slice(int(theirs.tokens.start[host]), int(theirs.tokens.end[host]))
        if np.array_equal(ours.ids[here], theirs.tokens.ids[there]):
            present[here], labels[here] = made.present[there], made.labels[there]
            continue
        _reword(ours.ids[here], made, there, present[here], labels[here])
        reworded[here] = True
        own.append(_Inserted(int(ours.row[piece]), here.stop, there, host))
    return _finish(rows, made, present, labels, reworded, _unique(own), theirs.tokens.ids)


@dataclass(frozen=True, slots=True)
class _Inserted:
    """A piece in a trainer's own words, and where it stands among our tokens."""

    row: int
    before: int
    tokens: slice
    host: int


def _read(
    trainer: Trainer, rows: Rows, family: Family, tokenizer: Tokenizer
) -> tuple[Rows, list[list[int]]]:
    """The rows as a trainer renders them, and the turns of ours that its messages come from."""
    if trainer.read is None:
        return rows, []
    readings = [trainer.read(conversation, family) for conversation in rows.conversations]
    conversations = [reading.conversation for reading in readings]
    if conversations == list(rows.conversations):
        return rows, []
    tokens = tokenize(conversations, family, tokenizer)
    turns = [list(reading.turns) for reading in readings]
    return Rows.of(conversations, tokens, family, tokenizer), turns


def _matches(rows: Rows, theirs: Rows, turns: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Our pieces, each with the piece of theirs that holds what it says.

    Pieces are matched by turn and place in it; the list of tools may have gone to the first piece.
    """
    batch = theirs.tokens
    sources = [
        turns[row][turn] if turn >= 0 else turn
        for row, turn in zip(batch.row.tolist(), batch.turn.tolist(), strict=True)
    ]
    known = dict(zip(_keys(batch.row.tolist(), sources), range(len(sources)), strict=True))
    first = np.searchsorted(batch.row, np.arange(len(rows))).tolist()
    ours = rows.tokens
    for piece, key in enumerate(_keys(ours.row.tolist(), ours.turn.tolist())):
        yield piece, known.get(key, first[key[0]])


def _keys(rows: list[int], turns: list[int]) -> Iterator[tuple[int, int, int]]:
    """For each piece its row, its turn, and its place in the turn."""
    place, before = 0, (-1, -1)
    for row, turn in zip(rows, turns, strict=True):
        place = place + 1 if (row, turn) == before else 0
        before = (row, turn)
        yield row, turn, place


def _lay_prefix(
    ours: TokenBatch, theirs: TokenBatch, made: Labelled, row: int, present: Bool
) -> None:
    """The tokens before the first piece, which are the same everywhere."""
    begin, there = int(ours.offsets[row]), int(theirs.offsets[row])
    width = int(ours.start[np.searchsorted(ours.row, row)]) - begin
    present[begin : begin + width] = made.present[there : there + width]


def _reword(ids: Int32, made: Labelled, there: slice, present: Bool, labels: Int32) -> None:
    """Count as many of our tokens as there, and as trained, as there are of a piece's own."""
    held, said = made.present[there], made.labels[there] != IGNORED
    count = len(ids) if held.all() else min(int(held.sum()), len(ids) - 1)
    present[:count] = True
    if said.any():
        first = int(np.argmax(said))
        labels[first:count] = ids[first:count]


def _unique(own: list[_Inserted]) -> list[_Inserted]:
    """Each piece of theirs once, behind the last of ours that it stands for."""
    return list({inserted.host: inserted for inserted in own}.values())


def _finish(
    rows: Rows,
    made: Labelled,
    present: Bool,
    labels: Int32,
    reworded: Bool,
    own: list[_Inserted],
    ids: Int32 | None = None,
) -> Overlay:
    """The overlay, with the tokens behind the rows on their places."""
    ends = rows.tokens.offsets[1:]
    whole = np.zeros(len(rows), np.bool_)
    whole[rows.closed] = present[ends[rows.closed] - 2]
    closes = whole & (made.tail == rows.tokens.ids[ends - 1])
    closing = ends[closes] - 1
    present[closing], labels[closing] = True, made.tail_label[closes]
    last = np.full(len(rows), NO_TOKEN, np.int64)
    np.maximum.at(last, rows.row[present], np.flatnonzero(present))
    inserted = [_own(part, made, ids) for part in own] if ids is not None else []
    added = np.flatnonzero((made.tail != NO_TOKEN) & ~closes)
    tails = Own(
        row=added, before=last[added] + 1, ids=made.tail[added], labels=made.tail_label[added]
    )
    return Overlay(
        present=present,
        labels=labels,
        reworded=reworded,
        last=last,
        tail_label=made.tail_label,
        own=_joined([*inserted, tails]),
        refused=made.refused,
    )


def _own(part: _Inserted, made: Labelled, ids: Int32) -> Own:
    there = np.flatnonzero(made.present[part.tokens]) + part.tokens.start
    return Own(
        row=np.full(len(there), part.row),
        before=np.full(len(there), part.before),
        ids=ids[there],
        labels=made.labels[there],
    )


def _joined(parts: list[Own]) -> Own:
    return Own(
        row=np.concatenate([part.row for part in parts]),
        before=np.concatenate([part.before for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )

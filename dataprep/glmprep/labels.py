"""Conversations to ids and loss mask, a batch at a time and both in one place.

What is trained is exactly what the model would generate: the text of a trained turn, and the token
that ends it. All arrays are columns over the batch; no Python object is made per token.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from glmprep.families.piece import NO_TOKEN, Family, Piece
from glmprep.records import Conversation
from glmprep.tokenizer import Tokenizer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Numbers = TypeVar("Numbers", Int32, Int64)


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Tokens of a batch of conversations, and of the pieces that they are made of.

    Conversation c is `ids[offsets[c]:offsets[c + 1]]` (int32) with `mask` (uint8, 1 = trained).
    Piece p belongs to conversation `row[p]` and its turn `turn[p]`, and takes the tokens
    `[start[p]:end[p]]` of the batch, header included. `stopped[p]` says that a trained stop token
    follows it, `targets[p]` how many tokens it trains, that stop included.
    """

    ids: Int32
    mask: UInt8
    offsets: Int64
    row: Int64
    turn: Int64
    start: Int64
    end: Int64
    trained: Bool
    stopped: Bool
    targets: Int64

    @property
    def lengths(self) -> Int64:
        """Tokens of each conversation, prefix and closing stop included."""
        return np.diff(self.offsets)

    @cached_property
    def supervised(self) -> Int64:
        """Training targets of each conversation."""
        sums = np.concatenate(([0], np.cumsum(self.mask, dtype=np.int64)))
        return np.asarray(sums[self.offsets[1:]] - sums[self.offsets[:-1]])


def tokenize(
    conversations: Sequence[Conversation], family: Family, tokenizer: Tokenizer
) -> TokenBatch:
    """Ids and mask of a batch of conversations.

    Header tokens and closing stops are trained where they follow a trained piece that ends its
    turn: that is how the model learns to stop. Tokens inside a turn are trained with it. Anything
    else but a trained turn's text is context.
    """
    pieces = [family.pieces(conversation) for conversation in conversations]
    flat = list(chain.from_iterable(pieces))
    text_ids, text_lengths = tokenizer.encode_batch([piece.text for piece in flat])
    columns = _Columns.of(flat)
    counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
    row = np.repeat(np.arange(len(pieces)), counts)
    closing = np.fromiter(map(family.closing, conversations), np.int64, len(pieces))

    widths = columns.has_header + text_lengths
    prefix = len(family.prefix)
    lengths = np.bincount(row, widths, len(pieces)).astype(np.int64)
    lengths += prefix + (closing != NO_TOKEN)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    before = np.cumsum(widths) - widths
    # Tokens before piece p: all pieces before it, and each row's prefix and earlier closings.
    extra = (
        np.cumsum(closing != NO_TOKEN)
        - (closing != NO_TOKEN)
        + prefix * np.arange(1, len(pieces) + 1)
    )
    start = before + extra[row]
    end = start + widths

    ids = np.empty(int(offsets[-1]), np.int32)
    mask = np.zeros(len(ids), np.uint8)
    headed, closed = columns.has_header, closing != NO_TOKEN
    is_text = np.ones(len(ids), np.bool_)
    for place, token in enumerate(family.prefix):
        ids[offsets[:-1] + place] = token
        is_text[offsets[:-1] + place] = False
    is_text[start[headed]] = is_text[offsets[1:][closed] - 1] = False
    ids[is_text] = text_ids
    mask[is_text] = np.repeat(columns.trained, text_lengths)
    teaches = columns.trained & columns.ends
    ids[start[headed]] = columns.header[headed]
    inner = columns.inner & columns.trained
    stops = _after(teaches, row) & np.isin(columns.header, list(family.stops))
    mask[start[headed]] = (stops | inner)[headed]
    ids[offsets[1:][closed] - 1] = closing[closed]
    last = np.cumsum(counts)[closed] - 1
    mask[offsets[1:][closed] - 1] = teaches[last]
    stopped = teaches & (end < offsets[row + 1]) & (np.append(mask, 0)[end] == 1)
    return TokenBatch(
        ids=ids,
        mask=mask,
        offsets=offsets,
        row=row,
        turn=columns.turn,
        start=start,
        end=end,
        trained=columns.trained,
        stopped=stopped,
        targets=columns.trained * text_lengths + inner + stopped,
    )


def open_ends(ids: Int32, mask: UInt8, offsets: Int64, stops: Collection[int]) -> Int64:
    """For each row, the trained runs that no stop token ends.

    These are the inner pieces of turns that were cut, and answers before a system message.
    """
    trained = mask == 1
    last = trained.copy()
    last[:-1] &= ~trained[1:]
    ends = offsets[1:][np.diff(offsets) > 0] - 1
    last[ends] = trained[ends]
    at = np.flatnonzero(last)
    at = at[~np.isin(ids[at], list(stops))]
    return np.bincount(np.searchsorted(offsets, at, "right") - 1, minlength=len(offsets) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Pieces in columns."""

    header: Int64
    turn: Int64
    trained: Bool
    ends: Bool
    inner: Bool

    @property
    def has_header(self) -> Bool:
        return np.not_equal(self.header, NO_TOKEN)

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> _Columns:
        header, _, trained, ends, turn, inner = zip(*pieces, strict=True) if pieces else [()] * 6
        return cls(
            header=np.fromiter(header, np.int64, len(header)),
            turn=np.fromiter(turn, np.int64, len(turn)),
            trained=np.fromiter(trained, np.bool_, len(trained)),
            ends=np.fromiter(ends, np.bool_, len(ends)),
            inner=np.fromiter(inner, np.bool_, len(inner)),
        )


def _after(flag: Bool, row: Int64) -> Bool:
    """For each piece, `flag` of the piece before it in the same conversation."""
    same = np.zeros(len(flag), np.bool_)
    same[1:] = flag[:-1] & (row[1:] == row[:-1])
    return same


def ranges(starts: Numbers, lengths: Numbers) -> Numbers:
    """The numbers starts[i], …, starts[i] + lengths[i] - 1 for each i, one after the other.

    They are of the kind that `starts` are, which must have room for as many as there are.
    """
    ends = np.cumsum(lengths, dtype=starts.dtype)
    made = np.repeat(starts - (ends - lengths.astype(starts.dtype)), lengths)
    made += np.arange(len(made), dtype=starts.dtype)
    return made

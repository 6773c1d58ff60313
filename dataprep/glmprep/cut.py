"""Cut one long text in pieces that encode to exactly the ids of the whole.

Byte-pair encoding depends on what stands around a place: a text cut after a space encodes
differently, nearly always in English. So a cut is taken only where both sides, encoded apart, give
the ids of the whole; among those places, ends of paragraphs and of fenced code come first, then
ends of sentences, then ends of lines, which are all that there are inside a fence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glmprep.semantics.sentences import SENTENCE, breaks
from glmprep.tokenizer import Tokenizer

Int64 = npt.NDArray[np.int64]
MAX_TRIES = 48
"""So many places of each kind are tried."""
AROUND = 32
"""Tokens on each side of a place that are encoded to see whether it may be cut."""
NEAR = 0.5
"""A place is looked for first in this share of what fits, at its far end."""
CHARACTERS = 5.0
"""Characters of a token: a first guess at how much text to encode."""
SLACK, GROWTH = 1.1, 1.5


@dataclass(frozen=True, slots=True)
class _Breaks:
    """Where a text may be parted, in characters and in order, and the rank of each place."""

    places: Int64
    ranks: Int64

    @classmethod
    def of(cls, text: str) -> _Breaks:
        found = np.array(breaks(text), np.int64).reshape(-1, 2)
        return cls(found[:, 0], found[:, 1])

    def within(self, begin: int, end: int) -> _Breaks:
        """Those between two characters, counted from the first of them."""
        low, high = np.searchsorted(self.places, (begin + 1, end))
        return _Breaks(self.places[low:high] - begin, self.ranks[low:high])


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of a text and its ids.

    `places` are the characters that begin a token, and the end; before each of them stand so many
    tokens as `counts` tells. A character that is spelt in several tokens has one place.
    """

    text: str
    ids: list[int]
    places: Int64
    counts: Int64

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer) -> _Window:
        ids, offsets = tokenizer.encode_with_offsets(text)
        bounds = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(ids)).reshape(-1, 2)
        starts = np.append(bounds[:, 0], len(text))
        begins = np.append(True, bounds[:, 1] <= starts[1:])
        places, first = np.unique(starts[begins], return_index=True)
        return cls(text, ids, places, np.flatnonzero(begins)[first])

    def between(self, least: int, most: int) -> slice:
        """The places with at least and at most so many tokens before them."""
        return slice(
            int(np.searchsorted(self.counts, least)),
            int(np.searchsorted(self.counts, most, "right")),
        )


class Cut(NamedTuple):
    """A piece of a text, and its tokens."""

    text: str
    tokens: int


def cut(text: str, first: int, rest: int, tokenizer: Tokenizer, lead: str = "") -> list[Cut] | None:
    """`text` in pieces: the first of at most `first` tokens, the others of at most `rest`.

    The first piece is measured with `lead` (the header's line break) before it, as it is encoded;
    it holds more than that. The encodings of the pieces, joined, are that of `lead + text`. None
    where no such cut is found.
    """
    whole = lead + text
    ends = _Breaks.of(whole)
    pieces: list[str] = []
    begin, room, rate = 0, first, CHARACTERS
    while True:
        window = _window(whole, begin, room, rate, tokenizer)
        if len(window.ids) <= room:
            break
        behind = 0 if pieces else len(lead)
        near = ends.within(begin, begin + len(window.text))
        place = next(
            (one for one in _candidates(window, near, room, behind)
             if _separates(window, one, tokenizer)),
            None,
        )  # fmt: skip
        if place is None:
            return None
        pieces.append(window.text[:place])
        begin, room, rate = begin + place, rest, len(window.text) / len(window.ids)
    pieces.append(window.text)
    ids, lengths = tokenizer.encode_batch([whole, *pieces])
    count, *counts = lengths.tolist()
    if (
        not np.array_equal(ids[:count], ids[count:])
        or counts[0] > first
        or max(counts[1:], default=0) > rest
    ):
        return None
    return list(map(Cut, [pieces[0][len(lead) :], *pieces[1:]], counts))


def head(text: str, room: int, tokenizer: Tokenizer) -> str:
    """The start of `text` in at most `room` tokens, up to the end of a sentence if there is one.

    For context only: its ids need not be those of the whole.
    """
    window = _window(text, 0, room, CHARACTERS, tokenizer)
    if len(window.ids) <= room:
        return text
    found = _Breaks.of(window.text)
    near = _at(found, window.places[window.between(int(room * (1 - NEAR)), room)])
    best = near.places[np.lexsort((near.places, near.ranks))[::-1]]
    for place in (*best.tolist(), *window.places[window.between(1, room)][::-1].tolist()):
        if len(tokenizer.encode(text[:place])) <= room:
            return text[:place]
    return ""


def tail(text: str, room: int, tokenizer: Tokenizer) -> str:
    """The end of `text` in at most `room` tokens, from the start of a sentence if there is one.

    For context only: its ids need not be those of the whole.
    """
    window = _window(text, None, room, CHARACTERS, tokenizer)
    least = len(window.ids) - room
    if least <= 0:
        return text
    found = _Breaks.of(window.text)
    near = _at(found, window.places[window.between(least, least + int(room * NEAR))])
    best = near.places[np.lexsort((near.places, -near.ranks))]
    every = window.places[window.between(least, len(window.ids) - 1)]
    for place in (*best.tolist(), *every.tolist()):
        if len(tokenizer.encode(window.text[place:])) <= room:
            return window.text[place:]
    return ""


def _window(text: str, begin: int | None, room: int, rate: float, tokenizer: Tokenizer) -> _Window:
    """The text from `begin` on, or its end for None, as far as is looked at for `room` tokens.

    It has no more than `room` tokens only where it is all that there is. `rate` are the characters
    of a token.
    """
    left = len(text) - (begin or 0)
    width = int(SLACK * rate * (room + AROUND)) + AROUND
    while True:
        part = text[-width:] if begin is None else text[begin : begin + width]
        window = _Window.of(part, tokenizer)
        if width >= left or len(window.ids) >= room + AROUND:
            return window
        width = int(width * GROWTH)


def _candidates(window: _Window, ends: _Breaks, room: int, behind: int) -> Iterator[int]:
    """Places behind the character `behind` and at most `room` tokens, the best first.

    Ends of paragraphs, then of sentences, in the last share of what fits; then earlier ones, so
    that fenced code which fits in the next piece stays whole; then ends of lines; then any place.
    """
    allowed = window.between(1, room)
    places = window.places[allowed]
    counts = window.counts[allowed][places > behind]
    places = places[places > behind]
    found = _at(ends, places)
    late = counts[np.searchsorted(places, found.places)] >= room * (1 - NEAR)
    good = found.ranks >= SENTENCE
    order = np.lexsort((found.places, found.ranks))
    for kind in (
        found.places[order][(late & good)[order]],
        found.places[~late & good],
        found.places[~good],
        places,
    ):
        yield from kind[: -MAX_TRIES - 1 : -1].tolist()


def _at(ends: _Breaks, places: Int64) -> _Breaks:
    """The breaks that are among some places."""
    there = np.isin(ends.places, places)
    return _Breaks(ends.places[there], ends.ranks[there])


def _separates(window: _Window, place: int, tokenizer: Tokenizer) -> bool:
    """Whether the ids on both sides of a place stay the same when they are encoded apart.

    Looks at some tokens around the place only: what is further away does not change, which `cut`
    checks of the finished pieces.
    """
    here = int(np.searchsorted(window.places, place))
    middle = int(window.counts[here])
    low = max(0, int(np.searchsorted(window.counts, middle - AROUND, "right")) - 1)
    high = min(int(np.searchsorted(window.counts, middle + AROUND)), len(window.places) - 1)
    left = tokenizer.encode(window.text[window.places[low] : place])
    right = tokenizer.encode(window.text[place : window.places[high]])
    near = AROUND // 2
    before = window.ids[window.counts[low] : middle]
    after = window.ids[middle : window.counts[high]]
    return left[-near:] == before[-near:] and right[:near] == after[:near]

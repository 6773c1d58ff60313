"""Cut one long text in pieces that encode to exactly the ids of the whole.

Byte-pair encoding depends on what stands around a place: a text cut after a space encodes
differently, nearly always in English. So a cut is taken only where both sides, encoded apart, give
the ids of the whole; among those places, ends of paragraphs come first, then ends of sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from glmprep.tokenizer import Tokenizer

SENTENCE_ENDS = tuple("。！？；…!?;")
CLOSERS = "”’」』）)\"'"
MAX_TRIES = 48
AROUND = 32
"""Tokens on each side of a place that are encoded to see whether it may be cut."""
WINDOW = 0.5
"""A cut is looked for in this last share of what fits."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]

    def start(self, token: int) -> int | None:
        """Character at which a token begins, None inside a character."""
        if token == len(self.ids):
            return len(self.text)
        begin = self.offsets[token][0]
        return begin if token == 0 or self.offsets[token - 1][1] <= begin else None


def cut(text: str, first: int, rest: int, tokenizer: Tokenizer, lead: str = "") -> list[str] | None:
    """`text` in pieces: the first of at most `first` tokens, the others of at most `rest`.

    The first piece is measured with `lead` (the header's line break) before it, as it is encoded;
    it holds more than that. The encodings of the pieces, joined, are that of `lead + text`. None
    where no such cut is found.
    """
    whole = _Encoded(lead + text, *tokenizer.encode_with_offsets(lead + text))
    pieces: list[str] = []
    begin, room = 0, first
    while len(whole.ids) - begin > room:
        end = _last_cut(whole, begin, room, tokenizer, 0 if pieces else len(lead))
        if end is None:
            return None
        pieces.append(_slice(whole, begin, end))
        begin, room = end, rest
    pieces.append(_slice(whole, begin, len(whole.ids)))
    if [token for piece in pieces for token in tokenizer.encode(piece)] != whole.ids:
        return None
    return [pieces[0][len(lead) :], *pieces[1:]]


def tail(text: str, room: int, tokenizer: Tokenizer) -> str:
    """The end of `text` in at most `room` tokens, from the start of a sentence where there is one.

    For context only: its ids need not be those of the whole.
    """
    whole = _Encoded(text, *tokenizer.encode_with_offsets(text))
    if len(whole.ids) <= room:
        return text
    least = len(whole.ids) - room
    starts = [t for t in range(least, len(whole.ids)) if whole.start(t) is not None]
    early = starts[: max(1, int(len(starts) * WINDOW))]
    for token in sorted(early, key=lambda t: (-_rank(whole, t), t)) + starts:
        part = text[whole.start(token) :]
        if len(tokenizer.encode(part)) <= room:
            return part
    return ""


def _last_cut(
    whole: _Encoded, begin: int, room: int, tokenizer: Tokenizer, behind: int
) -> int | None:
    """The best token, at most `room` after `begin`, at which the text may be cut.

    Only places behind the character `behind` count.
    """
    for end in _candidates(whole, begin, begin + room, behind):
        if _separates(whole, begin, end, tokenizer):
            return end
    return None


def _separates(whole: _Encoded, begin: int, end: int, tokenizer: Tokenizer) -> bool:
    """Whether the ids on both sides of a place stay the same when they are encoded apart.

    Looks at some tokens around the place only: what is further away does not change, which `cut`
    checks of the finished pieces.
    """
    first = next(t for t in range(max(begin, end - AROUND), -1, -1) if whole.start(t) is not None)
    last = next(
        t
        for t in range(min(end + AROUND, len(whole.ids)), len(whole.ids) + 1)
        if whole.start(t) is not None
    )
    left = tokenizer.encode(_slice(whole, first, end))
    right = tokenizer.encode(_slice(whole, end, last))
    near = AROUND // 2
    return (
        left[-near:] == whole.ids[first:end][-near:] and right[:near] == whole.ids[end:last][:near]
    )


def _candidates(whole: _Encoded, begin: int, end: int, behind: int) -> Iterator[int]:
    """Places in the last share of what fits, the best first; a bounded number of them."""
    least = begin + max(1, int((end - begin) * (1 - WINDOW)))
    places = [token for token in range(least, end + 1) if (whole.start(token) or 0) > behind]
    places.sort(key=lambda token: (_rank(whole, token), token), reverse=True)
    yield from places[:MAX_TRIES]


def _rank(whole: _Encoded, token: int) -> int:
    """3 at the end of a paragraph, 2 at the end of a sentence, 1 at the end of a line, else 0."""
    place = whole.start(token)
    assert place is not None
    before = whole.text[max(0, place - 4) : place]
    if before.endswith("\n"):
        return 3 if before.endswith("\n\n") else 1
    before = before.rstrip(CLOSERS)
    if before.endswith(SENTENCE_ENDS):
        return 2
    return 2 if before.endswith(".") and whole.text[place : place + 1].isspace() else 0


def _slice(whole: _Encoded, begin: int, end: int) -> str:
    return whole.text[whole.start(begin) : whole.start(end)]

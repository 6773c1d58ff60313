"""Which pieces a note holds: the best, none that repeats another, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glmprep.contexts.earlier import Earlier, Int64
from glmprep.contexts.notes import Kind, Notes, Who, Wording
from glmprep.contexts.relevance import scaled
from glmprep.semantics.bm25 import Float64
from glmprep.semantics.lexical import Lexical
from glmprep.tokenizer import Tokenizer

PLENTY = 4
"""Times the budget that the pieces take among which a choice is made."""
NOVELTY = 0.3
"""Weight of being unlike what was chosen before, beside being good."""
COMPARED = 512
"""Pieces that are compared with each other; more are taken as they come."""


def best(scores: Float64, tokens: Int64, budget: int) -> Int64:
    """The pieces with the highest scores above 0, in falling order, some times more than fit."""
    order = np.argsort(-scores, kind="stable")[: np.count_nonzero(scores > 0)]
    order = order[tokens[order] <= budget]
    taken = np.cumsum(tokens[order])
    return order[: int(np.searchsorted(taken, PLENTY * budget)) + 1]


def varied(texts: Sequence[str], scores: Float64) -> list[int]:
    """The places of texts, the best first, each held back for what it repeats of those before.

    Maximal marginal relevance (Carbonell and Goldstein 1998). What repeats a text has its words,
    so words are compared, whatever encoder found the texts.
    """
    ranked = np.argsort(-scores, kind="stable")
    first = ranked[:COMPARED]
    vectors = Lexical().comparable([texts[place] for place in first])
    gain = (1 - NOVELTY) * scaled(scores[first])
    repeated = np.zeros(len(first))
    order: list[int] = []
    for _ in first:
        chosen = int(np.argmax(gain - NOVELTY * repeated))
        order.append(int(first[chosen]))
        gain[chosen] = -np.inf
        repeated = np.maximum(repeated, vectors @ vectors[chosen])
    return [*order, *ranked[COMPARED:].tolist()]


class Page:
    """Puts pieces in a note of at most so many tokens, in the order of the conversation."""

    def __init__(self, tokenizer: Tokenizer, notes: Notes, kind: Kind) -> None:
        self._tokenizer = tokenizer
        self._notes = notes
        self._kind = kind

    def write(self, earlier: Earlier, order: Sequence[int], budget: int) -> str:
        """The note with the first pieces of `order` that fit, empty where none does."""
        wording = self._notes.wording(earlier.language)
        chosen = self._fitting(earlier, order, budget, wording)
        while chosen:
            note = self._text(earlier, sorted(chosen), wording)
            over = len(self._tokenizer.encode(note)) - budget
            if over <= 0:
                return note
            # The sum of the parts was too small: leave out what matters least.
            while chosen and over > 0:
                over -= int(earlier.tokens[chosen.pop()])
        return ""

    def _fitting(
        self, earlier: Earlier, order: Sequence[int], budget: int, wording: Wording
    ) -> list[int]:
        """The pieces that fit by the sum of their tokens, the best first."""
        around = self._around(wording)
        left = budget - len(self._tokenizer.encode(wording.heading(self._kind)))
        chosen: list[int] = []
        held: set[int] = set()
        for piece in order:
            lines = 1 - sum(
                neighbour in held and _same_line(earlier, neighbour, piece)
                for neighbour in (piece - 1, piece + 1)
            )
            cost = int(earlier.tokens[piece]) + lines * around[earlier.who[piece]]
            if cost <= left:
                left -= cost
                chosen.append(piece)
                held.add(piece)
        return chosen

    def _around(self, wording: Wording) -> dict[Who, int]:
        """Tokens of a line beside what was said, its line break among them."""
        speakers: tuple[Who, ...] = ("user", "assistant", "tool", "call")
        return {who: len(self._tokenizer.encode("\n" + wording.item(who, ""))) for who in speakers}

    def _text(self, earlier: Earlier, chosen: Sequence[int], wording: Wording) -> str:
        """The note: what follows on each other is one line."""
        lines: list[tuple[Who, str]] = []
        last: int | None = None
        for piece in chosen:
            text = earlier.texts[piece]
            if last == piece - 1 and _same_line(earlier, last, piece):
                _, before = lines.pop()
                text = before + ("" if earlier.joined[piece] else " ") + text
            lines.append((earlier.who[piece], text))
            last = piece
        items = [wording.item(who, text) for who, text in lines]
        return "\n".join([wording.heading(self._kind), *items])


def _same_line(earlier: Earlier, one: int, other: int) -> bool:
    return bool(earlier.saying[one] == earlier.saying[other])

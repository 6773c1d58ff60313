"""Outline: key sentences of each passage, and of these an outline of the whole conversation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glmprep.contexts.choosing import Page, varied
from glmprep.contexts.earlier import Earlier, Int64
from glmprep.contexts.notes import Notes
from glmprep.contexts.salience import salience
from glmprep.records import Message
from glmprep.semantics.bm25 import Float64
from glmprep.semantics.embedder import Embedder, Float32, unit
from glmprep.tokenizer import Tokenizer

KEYS = 3
"""Key sentences of a passage."""
BLOCK = 64
"""Tokens of the note for a block of the conversation: one or two sentences."""
CHOICE = 16
"""Key sentences of a block among which a choice is made: what an encoder has to read."""
RECENT = 1.5
"""How much more room the last block has than the first."""


class Outline:
    """Tells the course of the whole conversation, a little more of what was said last.

    First each passage gives its key sentences, then each block, a stretch of some passages, those
    of them that are closest to what they are about together, as the encoder sees it. Keeps what it
    read of one conversation, for its next segment.
    """

    def __init__(self, tokenizer: Tokenizer, notes: Notes, embedder: Embedder) -> None:
        self._earlier = Earlier(tokenizer)
        self._embedder = embedder
        self._page = Page(tokenizer, notes, "outline")

    def note(self, earlier: Sequence[Message], coming: Sequence[Message], budget: int) -> str:
        """The note (see `Recall`); nothing of what is coming is looked at."""
        said = self._earlier
        said.read(earlier)
        if not len(said) or budget < 1:
            return ""
        block = blocks(said.tokens, max(1, budget // BLOCK))
        scores = salience(said)
        keys = leading(scores, said.passage, KEYS)
        keys = keys[leading(scores[keys], block[keys], CHOICE)]
        texts = [said.texts[piece] for piece in keys]
        closeness = typical(self._embedder.comparable(texts), block[keys])
        ranked = keys[varied(texts, scores[keys] * closeness)]
        turns = in_turn(block[ranked], said.tokens[ranked])
        return self._page.write(said, ranked[turns].tolist(), budget)


def leading(scores: Float64, group: Int64, count: int) -> Int64:
    """The `count` pieces with the highest scores of each group, in order; none that scores 0."""
    order = np.lexsort((-scores, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return np.sort(order[(rank < count) & (scores[order] > 0)])


def blocks(tokens: Int64, count: int) -> Int64:
    """The block of each piece, where `count` blocks have about as many tokens each."""
    middle = np.cumsum(tokens) - tokens / 2
    return np.asarray(middle * count // max(1, tokens.sum()), np.int64)


def typical(vectors: Float32, group: Int64) -> Float64:
    """How close each vector is to the mean of its group, not below 0."""
    means = np.zeros((int(group.max(initial=0)) + 1, vectors.shape[1]))
    np.add.at(means, group, vectors)
    return np.asarray((vectors * unit(means.astype(np.float32))[group]).sum(axis=1).clip(0), float)


def in_turn(block: Int64, tokens: Int64) -> Int64:
    """Places of pieces, the best of each block first, so that blocks get even shares of tokens.

    The next is always of the block that has had least so far, for its weight (weighted fair
    queueing, Demers and others 1989); later blocks weigh up to `RECENT` times as much.
    """
    had = np.zeros(len(block))
    for number in np.unique(block):
        here = np.flatnonzero(block == number)
        had[here] = np.cumsum(tokens[here])
    weight = 1 + (RECENT - 1) * block / max(1, block.max(initial=0))
    return np.argsort(had / weight, kind="stable")

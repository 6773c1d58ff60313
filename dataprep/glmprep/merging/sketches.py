"""What is kept of each conversation to tell later which of them are alike: signatures or vectors.

Both are of bounded size, however long the conversation is; no text is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.families.piece import NO_TURN
from glmprep.labels import Int64, TokenBatch
from glmprep.merging.cells import near_pairs
from glmprep.records import Conversation
from glmprep.semantics.embedder import Embedder, Float32, centred
from glmprep.sets.neighbours import SIZE, UInt16, signatures, similar

Similarity = npt.NDArray[np.floating[Any]]
Float16 = npt.NDArray[np.float16]


class Sketches(Protocol):
    """Takes in batches; after the last one, tells how alike two conversations are.

    Conversations are numbered from 0 as they come in.
    """

    def add(self, rows: Sequence[Conversation], tokens: TokenBatch, chosen: Sequence[int]) -> None:
        """Take in the chosen rows of a batch."""

    def links(self, least: float) -> Int64:
        """Pairs (n x 2, the earlier first) with a similarity of `least` or more.

        Not all of them: enough to join those that belong together, a few for each conversation.
        """

    def likeness(self, one: int, others: Int64) -> Similarity:
        """How alike a conversation and each of some others are as a whole."""

    def answers(self, one: int, others: Int64) -> Similarity:
        """How alike their answers are."""


class Signatures:
    """The share of runs of three tokens that two have in common, by MinHash: 512 bytes each."""

    def __init__(self) -> None:
        self._wholes = [np.zeros((0, SIZE), np.uint16)]
        self._answers = [np.zeros((0, SIZE), np.uint16)]

    def add(self, rows: Sequence[Conversation], tokens: TokenBatch, chosen: Sequence[int]) -> None:
        """Sign the chosen rows, and what is answered in them."""
        self._wholes.append(signatures(rows, tokens, chosen))
        self._answers.append(signatures(rows, _answered(rows, tokens), chosen))

    @cached_property
    def _whole_table(self) -> UInt16:
        return np.concatenate(self._wholes)

    @cached_property
    def _answer_table(self) -> UInt16:
        return np.concatenate(self._answers)

    def links(self, least: float) -> Int64:
        """Those that agree in a band of their signatures (see `glmprep.sets.neighbours`)."""
        found = similar(self._whole_table).filter(pl.col("similarity") >= least)
        return found.select("first", "second").to_numpy()

    def likeness(self, one: int, others: Int64) -> Similarity:
        """The estimated Jaccard similarity of all that is said."""
        return _agreeing(self._whole_table, one, others)

    def answers(self, one: int, others: Int64) -> Similarity:
        """The estimated Jaccard similarity of the answers; 1 for two of a word or two."""
        return _agreeing(self._answer_table, one, others)


class Vectors:
    """The cosine of two vectors, of what is asked and of what is answered: 4 x `dims` bytes."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._asked = [np.zeros((0, embedder.dims), np.float16)]
        self._answered = [np.zeros((0, embedder.dims), np.float16)]

    def add(self, rows: Sequence[Conversation], tokens: TokenBatch, chosen: Sequence[int]) -> None:
        """Embed what is asked and what is answered in the chosen rows."""
        for kept, roles in ((self._asked, ("user", "tool")), (self._answered, ("assistant",))):
            texts = [_said(rows[row], roles) for row in chosen]
            kept.append(self._embedder.embed(texts).astype(np.float16))

    @cached_property
    def _asked_table(self) -> Float16:
        return _centred(self._asked)

    @cached_property
    def _answered_table(self) -> Float16:
        return _centred(self._answered)

    def links(self, least: float) -> Int64:
        """Those that ask alike (see `glmprep.merging.cells`)."""
        return near_pairs(self._asked_table, least)

    def likeness(self, one: int, others: Int64) -> Similarity:
        """The centred cosines of what is asked."""
        return _cosines(self._asked_table, one, others)

    def answers(self, one: int, others: Int64) -> Similarity:
        """The centred cosines of what is answered."""
        return _cosines(self._answered_table, one, others)


def _answered(rows: Sequence[Conversation], tokens: TokenBatch) -> TokenBatch:
    """The batch with the pieces of the assistant alone; its ids are the same."""
    kept = np.fromiter(
        (
            turn != NO_TURN and rows[row].messages[turn].role == "assistant"
            for row, turn in zip(tokens.row.tolist(), tokens.turn.tolist(), strict=True)
        ),
        np.bool_,
        len(tokens.row),
    )
    columns = ("row", "turn", "start", "end", "trained", "stopped", "targets")
    return replace(tokens, **{name: getattr(tokens, name)[kept] for name in columns})


def _said(row: Conversation, roles: Sequence[str]) -> str:
    """All that these roles say, with the calls that they make."""
    said = [message for message in row.messages if message.role in roles]
    return "\n".join(
        text
        for message in said
        for text in (message.content, *(call.arguments for call in message.tool_calls))
    )


def _centred(parts: Sequence[Float16]) -> Float16:
    """All vectors less their mean."""
    table = np.concatenate(parts)
    return centred(table.astype(np.float32)).astype(np.float16)


def _agreeing(table: UInt16, one: int, others: Int64) -> Similarity:
    return np.asarray((table[others] == table[one]).mean(axis=1))


def _cosines(table: Float16, one: int, others: Int64) -> Float32:
    return np.asarray(table[others].astype(np.float32) @ table[one].astype(np.float32))

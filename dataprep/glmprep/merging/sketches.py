"""What is kept of each conversation to tell later which of them are alike: signatures or vectors.

Both are of bounded size, however long the conversation is; no text is kept. Blocks are sketched
apart from one another, and compared when all sketches are there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.families.piece import NO_TURN
from glmprep.labels import Int64, TokenBatch
from glmprep.merging.cells import near_pairs
from glmprep.merging.meaning import key_chains
from glmprep.merging.quality import quality
from glmprep.records import Conversation
from glmprep.semantics.embedder import Embedder, Float32, centred
from glmprep.sets.neighbours import SIZE, UInt16, signatures, similar
from glmprep.sets.wholes import fullest, goes_on, runs
from glmprep.text.hashing import UInt64

Similarity = npt.NDArray[np.floating[Any]]
Float16 = npt.NDArray[np.float16]
Rows = npt.NDArray[Any]
"""A signature (SIZE numbers) or a vector (`dims` numbers) a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketches:
    """Columns over n conversations that begin in some rows (see `wholes.goes_on`).

    `row` is which of the rows each is, `line` its line in the file that was read, `quality` (n x 3)
    sorts the best first, `keys` are the key chains of all, `answers` how many of them each has, and
    `said` and `answered` tell how alike all that is said, and what is answered, is to that of
    others; with vectors `said` is what is asked.
    """

    row: Int64
    line: Int64
    quality: Int64
    keys: UInt64
    answers: Int64
    said: Rows
    answered: Rows

    def as_bytes(self, **more: npt.NDArray[Any]) -> bytes:
        """The columns, and more arrays, as a file of numpy."""
        file = io.BytesIO()
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        np.savez(file, allow_pickle=False, **columns, **more)
        return file.getvalue()


def read(data: bytes) -> tuple[Sketches, dict[str, npt.NDArray[Any]]]:
    """What `Sketches.as_bytes` wrote: the columns, and the other arrays."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    columns = {each.name: found.pop(each.name) for each in fields(Sketches)}
    return Sketches(**columns), found


def joined(parts: Sequence[Sketches]) -> Sketches:
    """The columns of all parts (at least one), one after the other."""
    names = [each.name for each in fields(Sketches)]
    return Sketches(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def nothing(embedder: Embedder | None) -> Sketches:
    """Of no conversations, by signatures, or by the vectors of an `embedder`."""
    none = np.zeros(0, np.int64)
    kind: Any = np.uint16 if embedder is None else np.float16
    rows = np.zeros((0, SIZE if embedder is None else embedder.dims), kind)
    return Sketches(
        row=none,
        line=none,
        quality=np.zeros((0, 3), np.int64),
        keys=np.zeros(0, np.uint64),
        answers=none,
        said=rows,
        answered=rows,
    )


def sketched(
    rows: Sequence[Conversation], tokens: TokenBatch, embedder: Embedder | None = None
) -> Sketches:
    """Of the conversations that begin in a batch, with its tokens (see `labels.tokenize`)."""
    chosen = [fullest(rows, run) for run in runs(rows) if not goes_on(rows[run.start])]
    if not chosen:
        return nothing(embedder)
    wholes = [rows[row] for row in chosen]
    keys, offsets = key_chains(wholes)
    if embedder is None:
        said: Rows = signatures(rows, tokens, chosen)
        answered: Rows = signatures(rows, _answered(rows, tokens), chosen)
    else:
        said = _embedded(wholes, ("user", "tool"), embedder)
        answered = _embedded(wholes, ("assistant",), embedder)
    return Sketches(
        row=np.array(chosen, np.int64),
        line=np.array([whole.origin.line for whole in wholes], np.int64),
        quality=np.array([quality(whole) for whole in wholes], np.int64),
        keys=keys,
        answers=np.diff(offsets),
        said=said,
        answered=answered,
    )


class Likeness(Protocol):
    """How alike conversations are, which are numbered from 0."""

    def links(self, least: float) -> Int64:
        """Pairs (n x 2, the earlier first) with a similarity of `least` or more.

        Not all of them: enough to join those that belong together, a few for each conversation.
        """

    def whole(self, one: int, others: Int64) -> Similarity:
        """How alike a conversation and each of some others are as a whole."""

    def answers(self, one: int, others: Int64) -> Similarity:
        """How alike their answers are."""


def likeness(sketches: Sketches) -> Likeness:
    """How alike the conversations of some sketches are."""
    if sketches.said.dtype == np.uint16:
        return Signatures(sketches.said, sketches.answered)
    return Vectors(_centred(sketches.said), _centred(sketches.answered))


@dataclass(frozen=True, slots=True)
class Signatures:
    """The share of runs of three tokens that two have in common, by MinHash: 512 bytes each."""

    said: UInt16
    answered: UInt16

    def links(self, least: float) -> Int64:
        """Those that agree in a band of their signatures (see `glmprep.sets.neighbours`)."""
        found = similar(self.said).filter(pl.col("similarity") >= least)
        return found.select("first", "second").to_numpy()

    def whole(self, one: int, others: Int64) -> Similarity:
        """The estimated Jaccard similarity of all that is said."""
        return _agreeing(self.said, one, others)

    def answers(self, one: int, others: Int64) -> Similarity:
        """The estimated Jaccard similarity of the answers; 1 for two of a word or two."""
        return _agreeing(self.answered, one, others)


@dataclass(frozen=True, slots=True)
class Vectors:
    """The cosine of two vectors, of what is asked and of what is answered: 4 x `dims` bytes."""

    asked: Float16
    answered: Float16

    def links(self, least: float) -> Int64:
        """Those that ask alike (see `glmprep.merging.cells`)."""
        return near_pairs(self.asked, least)

    def whole(self, one: int, others: Int64) -> Similarity:
        """The centred cosines of what is asked."""
        return _cosines(self.asked, one, others)

    def answers(self, one: int, others: Int64) -> Similarity:
        """The centred cosines of what is answered."""
        return _cosines(self.answered, one, others)


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


def _embedded(rows: Sequence[Conversation], roles: Sequence[str], embedder: Embedder) -> Float16:
    """The vectors of what these roles say."""
    return embedder.embed([_said(row, roles) for row in rows]).astype(np.float16)


def _said(row: Conversation, roles: Sequence[str]) -> str:
    """All that these roles say, with the calls that they make."""
    said = [message for message in row.messages if message.role in roles]
    return "\n".join(
        text
        for message in said
        for text in (message.content, *(call.arguments for call in message.tool_calls))
    )


def _centred(table: Rows) -> Float16:
    """All vectors less their mean."""
    return centred(table.astype(np.float32)).astype(np.float16)


def _agreeing(table: UInt16, one: int, others: Int64) -> Similarity:
    return np.asarray((table[others] == table[one]).mean(axis=1))


def _cosines(table: Float16, one: int, others: Int64) -> Float32:
    return np.asarray(table[others].astype(np.float32) @ table[one].astype(np.float32))

"""A batch of rows as other trainers' rules see it: prompts and answers, in columns of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from glmprep.families import Family
from glmprep.families.piece import NO_TOKEN
from glmprep.labels import TokenBatch, ranges
from glmprep.records import Conversation
from glmprep.tokenizer import Tokenizer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
HEADER = 1
USER, ASSISTANT, END_OF_TEXT = "<|user|>", "<|assistant|>", "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The trained turns of a batch, and the places of their tokens in it.

    Answer a stands in conversation `row[a]` and piece `piece[a]` is its last one. Its prompt, all
    since the answer before it, is `[prompt[a]:begin[a]]`; what it says ends before `end[a]`, and
    `stop[a]` is the stop token that is trained after it, NO_TOKEN where none is. Target t of the
    batch is token `targets[t]` and belongs to answer `of[t]`.
    """

    row: Int64
    piece: Int64
    prompt: Int64
    begin: Int64
    end: Int64
    stop: Int64
    targets: Int64
    of: Int64

    def count(self, marked: Bool) -> Int64:
        """How many targets of each answer are marked; `marked` is over the tokens of the batch."""
        return np.bincount(self.of[marked[self.targets]], minlength=len(self.row))


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What the assistant says, trained or not, with all that stands before it since it last spoke.

    Pair p is the `number[p]`-th (from 0) of conversation `row[p]`; its prompt, `<|assistant|>`
    included, is `[prompt[p]:answer[p]]` and its answer `[answer[p]:end[p]]`.
    """

    row: Int64
    number: Int64
    prompt: Int64
    answer: Int64
    end: Int64


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Conversations and their tokens. `special` are the ids of the added tokens."""

    conversations: Sequence[Conversation]
    tokens: TokenBatch
    special: Mapping[str, int]
    end_of_text: int

    @classmethod
    def of(
        cls,
        conversations: Sequence[Conversation],
        tokens: TokenBatch,
        family: Family,
        tokenizer: Tokenizer,
    ) -> Rows:
        """The rows of a batch that `labels.tokenize` made."""
        end_of_text = tokenizer.added.get(END_OF_TEXT, family.pad_id)
        return cls(
            conversations=conversations,
            tokens=tokens,
            special=tokenizer.added,
            end_of_text=end_of_text,
        )

    def __len__(self) -> int:
        return len(self.conversations)

    @cached_property
    def trained(self) -> Bool:
        """The tokens that this suite trains."""
        return np.asarray(self.tokens.mask == 1)

    @cached_property
    def row(self) -> Int64:
        """The conversation of each token."""
        return np.repeat(np.arange(len(self)), self.tokens.lengths)

    @cached_property
    def place(self) -> Int64:
        """The place of each token in its conversation, from 0."""
        return np.arange(len(self.tokens.ids)) - self.tokens.offsets[self.row]

    @cached_property
    def spoken(self) -> Bool:
        """The pieces that are the assistant's, trained or not."""
        roles = [[m.role == "assistant" for m in c.messages] + [False] for c in self.conversations]
        starts = np.cumsum([0, *map(len, roles)])[:-1]
        flat = np.array([said for row in roles for said in row], np.bool_)
        # NO_TURN, the list of tools, is -1: the entry that stands behind each row's turns.
        lengths = np.fromiter(map(len, roles), np.int64, len(roles))
        turn = self.tokens.turn % lengths[self.tokens.row]
        return np.asarray(flat[starts[self.tokens.row] + turn])

    @cached_property
    def opens(self) -> Bool:
        """The pieces that begin with `<|assistant|>`."""
        batch = self.tokens
        opens = batch.end > batch.start
        opens[opens] = batch.ids[batch.start[opens]] == self.special[ASSISTANT]
        return opens

    @cached_property
    def closed(self) -> Bool:
        """The conversations that end in a closing stop."""
        ends = np.zeros(len(self), np.int64)
        np.maximum.at(ends, self.tokens.row, self.tokens.end)
        return np.asarray(ends < self.tokens.offsets[1:])

    @cached_property
    def body(self) -> Bool:
        """All tokens but the closing stops, which no chat template writes."""
        body = np.ones(len(self.tokens.ids), np.bool_)
        body[self.tokens.offsets[1:][self.closed] - 1] = False
        return body

    @cached_property
    def answers(self) -> Answers:
        """The trained turns."""
        batch = self.tokens
        targets = np.flatnonzero(batch.mask)
        piece = np.searchsorted(batch.start, targets, "right") - 1
        before = np.maximum(piece - 1, 0)
        # A header that ends the piece before it is that piece's stop, so its target.
        ends_before = (piece > 0) & batch.stopped[before] & (batch.end[before] == targets)
        piece = np.where(ends_before, before, piece)
        stop = targets >= batch.end[piece]
        turns = int(batch.turn.max(initial=0)) + 1
        _, first, of = np.unique(
            batch.row[piece] * turns + batch.turn[piece], return_index=True, return_inverse=True
        )
        last = np.append(first[1:], len(targets))[: len(first)] - 1
        end = np.zeros(len(first), np.int64)
        np.maximum.at(end, of[~stop], targets[~stop] + 1)
        return Answers(
            row=batch.row[piece[first]],
            piece=piece[last],
            prompt=self._prompts()[piece[first]],
            begin=targets[first],
            end=end,
            stop=np.where(stop[last], targets[last], NO_TOKEN),
            targets=targets,
            of=of,
        )

    @cached_property
    def pairs(self) -> Pairs:
        """What the assistant says, with what stands before it."""
        batch, spoken = self.tokens, self.spoken
        goes_on = np.zeros(len(spoken), np.bool_)
        goes_on[1:] = spoken[:-1] & (batch.row[1:] == batch.row[:-1])
        first = np.flatnonzero(spoken & ~goes_on)
        last = np.flatnonzero(spoken & ~np.append(goes_on[1:] & spoken[1:], False))
        row = batch.row[first]
        number = np.arange(len(first)) - np.searchsorted(row, row)
        return Pairs(
            row=row,
            number=number,
            prompt=self._prompts()[first],
            answer=batch.start[first] + HEADER,
            end=batch.end[last],
        )

    def _prompts(self) -> Int64:
        """For each piece, where the prompt before it begins: after the assistant last spoke."""
        batch, spoken = self.tokens, self.spoken
        numbers = np.arange(len(spoken))
        turn_before = np.concatenate(([True], self._turns()[1:] != self._turns()[:-1]))
        begin = np.maximum.accumulate(np.where(turn_before, numbers, 0))
        last = np.maximum.accumulate(np.where(spoken, numbers, -1))
        before = np.where(begin > 0, last[begin - 1], -1)
        same = (before >= 0) & (batch.row[before] == batch.row)
        return np.where(same, batch.end[before], batch.offsets[batch.row])

    def _turns(self) -> Int64:
        """A number for each turn of the batch, per piece."""
        turns = int(self.tokens.turn.max(initial=0)) + 2
        return np.asarray(self.tokens.row * turns + self.tokens.turn + 1)


def spans(begin: Int64, length: Int64, size: int) -> Bool:
    """Marks of `size` tokens: those of the ranges that begin at `begin` and have these lengths."""
    marks = np.zeros(size, np.bool_)
    marks[ranges(begin, length)] = True
    return marks

"""A conversation as it is trained on: turns of text in which what is trained is told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from glmprep import canonical
from glmprep.errors import SuiteError
from glmprep.families import Family
from glmprep.families.piece import NO_TURN
from glmprep.labels import TokenBatch, tokenize
from glmprep.records import Conversation, Role
from glmprep.tokenizer import Tokenizer

Kind = Literal["trained", "stop", "context", "special", "cut"]
Speaker = Role | Literal["tools", "raw"]
"""Who a turn is of; `tools` are the definitions that stand before the conversation, and `raw` is a
row as it was read."""
Marks = Mapping[int, Sequence[str]]
"""The rules that fired in a message, by its number (from 1)."""


@dataclass(frozen=True, slots=True)
class Span:
    """Text whose tokens are all treated alike; `stop` is a control token that is trained."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message, or the tools.

    A trained stop token stands at the end of the turn that it ends. `cut` counts the tokens past
    the limit, `torn` says that the limit falls inside an answer; `rules` fired here.
    """

    speaker: Speaker
    message: int | None
    tokens: int
    cut: int
    torn: bool
    rules: Sequence[str]
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A conversation in turns, and its sums.

    `cut` counts the tokens past the limit, `lost` those of them that would be trained. `row` is
    which of the `rows` that train the conversation this is (from 1). `rejected` says by which rule
    and why the row is not trained on; one that cannot be rendered is one turn of raw text, without
    tokens, or no turn at all.
    """

    where: str
    conversation: str | None
    tokens: int = 0
    supervised: int = 0
    cut: int = 0
    lost: int = 0
    row: int = 1
    rows: int = 1
    rejected: str | None = None
    turns: Sequence[Turn]

    def as_json(self) -> dict[str, Any]:
        """The transcript as plain JSON values, with all of its text."""
        return asdict(self)


def kinds_of(
    ids: Sequence[int], mask: Sequence[int], tokenizer: Tokenizer, limit: int | None = None
) -> list[Kind]:
    """How each token is treated; those from `limit` on are cut."""
    kinds = [_kind(token, trained, tokenizer) for token, trained in zip(ids, mask, strict=True)]
    if limit is not None:
        kinds[limit:] = ["cut"] * len(kinds[limit:])
    return kinds


def spans_of(ids: Sequence[int], kinds: Sequence[Kind], tokenizer: Tokenizer) -> list[Span]:
    """Tokens as text, in runs that are treated alike."""
    spans: list[Span] = []
    begin = 0
    for kind, run in groupby(kinds):
        end = begin + sum(1 for _ in run)
        spans.append(Span(tokenizer.decode(ids[begin:end]), kind))
        begin = end
    return spans


def transcript(
    conversation: Conversation,
    family: Family,
    tokenizer: Tokenizer,
    *,
    max_length: int | None = None,
    marks: Marks | None = None,
    rejected: str | None = None,
) -> Transcript:
    """The row that trains the first marked message of a conversation, or else its last row."""
    marks = marks or {}
    try:
        rows = family.rows(conversation)
        place = _chosen(rows, marks)
        batch = tokenize([rows[place]], family, tokenizer)
    except SuiteError as error:  # a template that does not take this conversation
        text = canonical.line(conversation).decode("utf-8", "replace")
        return raw(str(conversation.origin), text, str(error), conversation.id)
    length = len(batch.ids)
    limit = length if max_length is None else min(max_length, length)
    return Transcript(
        where=str(conversation.origin),
        conversation=conversation.id,
        tokens=length,
        supervised=int(batch.supervised[0]),
        cut=length - limit,
        lost=int(np.count_nonzero(batch.mask[limit:])),
        row=place + 1,
        rows=len(rows),
        rejected=rejected,
        turns=_turns(rows[place], batch, tokenizer, limit, marks),
    )


def raw(where: str, text: str, reason: str, conversation: str | None = None) -> Transcript:
    """A row that cannot be rendered: its text as it was read, and why."""
    turn = Turn(
        speaker="raw",
        message=None,
        tokens=0,
        cut=0,
        torn=False,
        rules=(),
        spans=[Span(text, "context")] if text else [],
    )
    return Transcript(
        where=where, conversation=conversation, rejected=reason, turns=[turn] if text else []
    )


def _kind(token: int, trained: int, tokenizer: Tokenizer) -> Kind:
    if tokenizer.is_added(token):
        return "stop" if trained else "special"
    return "trained" if trained else "context"


def _chosen(rows: Sequence[Conversation], marks: Marks) -> int:
    for message in sorted(marks):
        for place, row in enumerate(rows):
            if message <= len(row.messages) and row.messages[message - 1].trained:
                return place
    return len(rows) - 1


def _turns(
    row: Conversation, batch: TokenBatch, tokenizer: Tokenizer, limit: int, marks: Marks
) -> list[Turn]:
    ids, mask = batch.ids.tolist(), batch.mask.tolist()
    kinds = kinds_of(ids, mask, tokenizer, limit)
    owners = _owners(batch)
    starts = np.flatnonzero(np.diff(owners, prepend=NO_TURN - 1))
    turns: list[Turn] = []
    for begin, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        owner = int(owners[begin])
        turns += _silent(row, turns, max(owner, 0), marks)
        turns.append(
            Turn(
                speaker="tools" if owner == NO_TURN else row.messages[owner].role,
                message=None if owner == NO_TURN else owner + 1,
                tokens=int(end - begin),
                cut=max(0, int(end) - max(limit, int(begin))),
                torn=begin < limit < end and 1 in mask[begin:limit] and 1 in mask[limit:end],
                rules=tuple(marks.get(owner + 1, ())) if owner != NO_TURN else (),
                spans=spans_of(ids[begin:end], kinds[begin:end], tokenizer),
            )
        )
    return [*turns, *_silent(row, turns, len(row.messages), marks)]


def _silent(row: Conversation, turns: Sequence[Turn], before: int, marks: Marks) -> list[Turn]:
    """The messages between the last turn and the one `before`: nothing of them is rendered."""
    said = max((turn.message or 0 for turn in turns), default=0)
    return [
        Turn(
            speaker=message.role,
            message=number,
            tokens=0,
            cut=0,
            torn=False,
            rules=tuple(marks.get(number, ())),
            spans=(),
        )
        for number, message in enumerate(row.messages[said:before], said + 1)
    ]


def _owners(batch: TokenBatch) -> npt.NDArray[np.int64]:
    """The turn that each token of a single row belongs to.

    A stop token belongs to the turn that it ends, the prefix to the first turn, and a closing token
    to the last.
    """
    if not len(batch.turn):
        return np.full(len(batch.ids), NO_TURN, np.int64)
    owners = np.repeat(
        [batch.turn[0], *batch.turn],
        [batch.start[0], *np.diff([*batch.start, len(batch.ids)])],
    )
    ends = batch.end[batch.stopped]
    owners[ends] = batch.turn[batch.stopped]
    return np.asarray(owners, np.int64)

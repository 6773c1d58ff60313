"""What became of a conversation's turns, tokens and targets in its segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import pyarrow as pa

from glmprep.entries import COMMON
from glmprep.plan import Segment
from glmprep.records import Message
from glmprep.shorten import Shortened
from glmprep.sized import Sized

Outcome = Literal["whole", "cut", "partly", "set_aside"]
NUMBERS = (
    "segments",
    "turns_in",
    "turns_out",
    "turns_set_aside",
    "turns_left_out",
    "tokens_in",
    "tokens_out",
    "tokens_replayed",
    "tokens_noted",
    "tokens_shortened",
    "targets_in",
    "targets_out",
    "targets_set_aside",
)
"""The counts that each line of the ledger tells of its row."""
COLUMNS = pa.schema([(name, pa.int32()) for name in NUMBERS])
SCHEMA = pa.schema([*COMMON, *COLUMNS])


@dataclass(slots=True, kw_only=True)
class Counts:
    """What went in and came out, of one conversation or of all.

    `targets` are tokens that are trained; what comes in goes out once or is set aside. A turn that
    is in no segment and not set aside either is left out, since nothing in it is trained; `out` it
    counts once, however often it is replayed. Among the tokens that go out, `tokens_replayed` are
    those of repeated turns and `tokens_noted` those of notes; `tokens_shortened` are those that
    prompts were shortened by (DL005).
    """

    rows: int = 0
    conversations: int = 0
    whole: int = 0
    cut: int = 0
    segments: int = 0
    exchanges_set_aside: int = 0
    turns_in: int = 0
    turns_out: int = 0
    turns_set_aside: int = 0
    turns_left_out: int = 0
    targets_in: int = 0
    targets_out: int = 0
    targets_set_aside: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_replayed: int = 0
    tokens_noted: int = 0
    tokens_shortened: int = 0

    def add(self, other: Counts) -> None:
        """Add the counts of another conversation."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def balances(self) -> bool:
        """Whether every target and turn that came in went out once, or is told to be missing."""
        turns = self.turns_out + self.turns_set_aside + self.turns_left_out
        targets = self.targets_out + self.targets_set_aside
        return (self.targets_in, self.turns_in) == (targets, turns)

    @property
    def outcome(self) -> Outcome:
        """What became of one conversation."""
        if self.whole:
            return "whole"
        if not self.segments:
            return "set_aside"
        return "partly" if self.exchanges_set_aside else "cut"


def entering(sized: Sized) -> Counts:
    """The counts of a conversation of which nothing went out yet."""
    return Counts(
        conversations=1,
        turns_in=len(sized.conversation.messages),
        tokens_in=sized.total,
        targets_in=sum(sized.turn_targets),
    )


def context_tokens(part: Segment, measured: Sized) -> tuple[int, int]:
    """Tokens of the turns that a segment repeats as context, and of its note."""
    turns = list(zip(measured.conversation.messages, measured.turn_tokens, strict=True))
    context = sum(tokens for message, tokens in turns if message.untrained == "context")
    noted = sum(tokens for message, tokens in turns if message is part.note)
    return context - noted, noted


def held(sized: Sized, segments: Sequence[Segment], shortened: Sequence[Shortened]) -> set[int]:
    """The turns of which at least a part stands in one of the segments."""
    if not segments:
        return set()
    messages = sized.conversation.messages
    told = segments[-1].first
    turns = {turn for turn in range(told) if messages[turn].role == "system"}
    turns.update(range(sized.head_turns))
    turns |= {one.message - 1 for one in shortened if one.text != messages[one.message - 1].content}
    for (first, last), parts in groupby(segments, lambda part: (part.first, part.last)):
        own = _Turns(messages, first, last)
        for part in parts:
            turns.update(own.of(part))
            turns.update(_replayed(part, messages))
    return turns


class _Turns:
    """The turns `first` … `last - 1`, by what they say."""

    def __init__(self, messages: Sequence[Message], first: int, last: int) -> None:
        self._messages = messages
        self._range = range(first, last)
        self._saying: dict[tuple[object, ...], list[int]] = {}
        for turn in self._range:
            self._saying.setdefault(_said(messages[turn]), []).append(turn)

    def of(self, part: Segment) -> Iterator[int]:
        """Those of which a message of the segment is a part, or all."""
        for message in part.messages:
            yield from self._saying.get(_said(message), ())
            if message.part is not None:
                rest = (turn for turn in self._range if _is_part(message, self._messages[turn]))
                yield from rest


def _replayed(part: Segment, messages: Sequence[Message]) -> list[int]:
    """The turns that are repeated directly before a segment's own, which end it where whole."""
    place, turn = len(part.messages) - (part.last - part.first), part.first
    own = messages[part.first : part.last]
    if place < 0 or any(a is not b for a, b in zip(part.messages[place:], own, strict=True)):
        return []  # pieces of one exchange: nothing that was said before it is repeated
    turns = []
    while place and turn and _said(part.messages[place - 1]) == _said(messages[turn - 1]):
        place, turn = place - 1, turn - 1
        turns.append(turn)
    return turns


def _said(message: Message) -> tuple[object, ...]:
    return message.role, message.content, message.tool_calls


def _is_part(message: Message, turn: Message) -> bool:
    """Whether a message is a piece of a turn; the calls of a turn stand in its last piece."""
    if message.role != turn.role or len(message.content) >= len(turn.content):
        return False
    return message.content in turn.content

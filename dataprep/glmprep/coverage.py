"""What became of a conversation's turns, tokens and targets in its segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from glmprep.entries import COMMON
from glmprep.greedy import Segment
from glmprep.records import Message
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
    counts once, however often it is replayed. `tokens_replayed` are those of repeated turns, among
    the tokens that go out; `tokens_shortened` those that prompts were shortened by (DL005).
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


def replayed(part: Sized) -> int:
    """Tokens of the turns that a segment repeats as context."""
    turns = zip(part.conversation.messages, part.turn_tokens, strict=True)
    return sum(tokens for message, tokens in turns if message.untrained == "context")


def held(sized: Sized, segments: Sequence[Segment]) -> set[int]:
    """The turns of which at least a part stands in one of the segments."""
    messages = sized.conversation.messages
    turns = set(range(sized.head_turns)) if segments else set()
    for part in segments:
        turns.update(t for t in range(part.first) if messages[t].role == "system")
        turns.update(
            t
            for t in range(part.first, part.last)
            if any(_stands_for(message, messages[t]) for message in part.messages)
        )
        turns.update(_replayed(part, messages))
    return turns


def _replayed(part: Segment, messages: Sequence[Message]) -> list[int]:
    """The turns that are repeated directly before a segment's own, which end it where whole."""
    place, turn = len(part.messages) - (part.last - part.first), part.first
    own = messages[part.first : part.last]
    if place < 0 or any(a is not b for a, b in zip(part.messages[place:], own, strict=True)):
        return []  # pieces of one exchange: nothing that was said before it is repeated
    turns = []
    while place and turn and _stands_for(part.messages[place - 1], messages[turn - 1]):
        place, turn = place - 1, turn - 1
        turns.append(turn)
    return turns


def _stands_for(message: Message, turn: Message) -> bool:
    """Whether a message is a turn, a piece of it, or either of them as context."""
    if message is turn:
        return True
    same = message.role == turn.role and message.tool_calls == turn.tool_calls
    return (
        same
        and (message.content == turn.content or message.part is not None)
        and (message.content in turn.content)
    )

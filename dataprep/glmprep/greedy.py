"""Where to cut a conversation: greedily, each segment takes as many exchanges as fit.

An exchange is a question with all that answers it, so no cut parts a question from its answer or a
tool call from its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from glmprep.records import Conversation, Message
from glmprep.sized import CLOSING, Limits, Sized, context


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The turns `first` … `last - 1`, their tokens, and how many of those are trained."""

    first: int
    last: int
    tokens: int
    targets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a conversation: its messages, context among them untrained.

    It trains the turns `first` … `last - 1`, or pieces of them.
    """

    whole: Conversation
    index: int
    messages: tuple[Message, ...]
    first: int
    last: int

    def conversation(self) -> Conversation:
        """The segment as a conversation of its own; its id tells the whole and the place in it."""
        name = f"{self.whole.id}#{self.index}"
        return replace(self.whole, id=name, messages=self.messages)


Splitter = Callable[[Sized, Exchange], "list[tuple[Message, ...]] | None"]
"""Splits an exchange into the messages of several segments, head left out; None: no way."""


def greedy(sized: Sized, limits: Limits, split: Splitter | None) -> Iterator[Segment | Exchange]:
    """The segments of a conversation, each of at most `limits.max_length` tokens, in order.

    Each repeats the tools and all system messages so far, and replays what came before it (see
    `Limits`). An exchange that alone does not fit goes to `split`, and comes out as it is where
    that is None or finds no way. Turns in which nothing is trained make no segment.
    """
    messages = sized.conversation.messages
    exchanges = exchanges_of(sized)
    index = place = 0
    while place < len(exchanges):
        standing = _standing(sized, exchanges[place].first)
        repeated = sized.head + sum(sized.turn_tokens[turn] for turn in standing)
        room = limits.max_length - repeated - CLOSING
        begin, end = _window(exchanges, place, room, limits)
        first, last = exchanges[place].first, exchanges[end - 1].last
        parts: list[tuple[Message, ...]] | None
        if not any(exchange.targets for exchange in exchanges[place:end]):
            parts = []
        elif exchanges[place].tokens > room:
            parts = split(replace(sized, head=repeated), exchanges[place]) if split else None
        else:
            parts = [context(messages[exchanges[begin].first : first]) + messages[first:last]]
        if parts is None:
            yield exchanges[place]
        for part in parts or ():
            head = messages[: sized.head_turns]
            said = [messages[turn] for turn in standing if turn < exchanges[begin].first]
            head = (head if index == 0 else context(head)) + context(said)
            yield Segment(
                whole=sized.conversation, index=index, messages=head + part, first=first, last=last
            )
            index += 1
        place = end


def exchanges_of(sized: Sized) -> list[Exchange]:
    """The exchanges after the head: each from a question up to the next one."""
    messages = sized.conversation.messages
    starts = [sized.head_turns]
    for turn in range(sized.head_turns + 1, len(messages)):
        if messages[turn].role == "user" and messages[turn - 1].role != "user":
            starts.append(turn)
    return [
        Exchange(
            first=first,
            last=last,
            tokens=sum(sized.turn_tokens[first:last]),
            targets=sum(sized.turn_targets[first:last]),
        )
        for first, last in zip(starts, [*starts[1:], len(messages)], strict=True)
    ]


def _standing(sized: Sized, turn: int) -> list[int]:
    """The system messages after the head and before `turn`: they hold for what follows them."""
    messages = sized.conversation.messages
    return [t for t in range(sized.head_turns, turn) if messages[t].role == "system"]


def _window(exchanges: list[Exchange], place: int, room: int, limits: Limits) -> tuple[int, int]:
    """The segment that begins at exchange `place`: from which one it replays, and where it ends."""
    used = exchanges[place].tokens
    begin, end = place, place + 1
    replayed = turns = 0
    while begin > 0 and turns < limits.overlap:
        before = exchanges[begin - 1]
        if replayed + before.tokens > min(limits.context_tokens, room - used):
            break
        begin, replayed, turns = (
            begin - 1,
            replayed + before.tokens,
            turns + before.last - before.first,
        )
    used += replayed
    while end < len(exchanges) and used + exchanges[end].tokens <= room:
        used, end = used + exchanges[end].tokens, end + 1
    return begin, end

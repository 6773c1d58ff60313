"""From a conversation to segments: where it is cut, and what each of them repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from glmprep.contexts.before import Before
from glmprep.exchanges import Course, Exchange, course
from glmprep.overflow import OverflowSplitter
from glmprep.records import Conversation, Message
from glmprep.segmenters.stretch import Segmenter, Stretch
from glmprep.sized import CLOSING, Sized, context


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a conversation: its messages, context among them untrained.

    It trains the turns `first` … `last - 1`, or pieces of them. `note` is the message that tells of
    what came before, if there is one.
    """

    whole: Conversation
    index: int
    messages: tuple[Message, ...]
    first: int
    last: int
    note: Message | None

    def conversation(self) -> Conversation:
        """The segment as a conversation of its own; its id tells the whole and the place in it."""
        name = f"{self.whole.id}#{self.index}"
        return replace(self.whole, id=name, messages=self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Cuts conversations in segments of at most `max_length` tokens.

    Each repeats the tools and all system messages so far, and what `before` puts there. An exchange
    that alone does not fit goes to `split`.
    """

    max_length: int
    segmenter: Segmenter
    before: Before
    split: OverflowSplitter | None

    def __call__(self, sized: Sized) -> Iterator[Segment | Exchange]:
        """The segments of a conversation, in order.

        An exchange comes out as it is where it does not fit and `split` is None or finds no way.
        Exchanges in which nothing is trained make no segment.
        """
        whole = course(sized)
        repeated = whole.repeated()
        rooms = [self.max_length - tokens - CLOSING for tokens in repeated]
        starts = self.segmenter(self._stretch(whole, rooms))
        index = 0
        for place, end in pairwise([*starts, len(whole)]):
            exchanges = whole.exchanges[place:end]
            if not any(exchange.targets for exchange in exchanges):
                continue
            parts = self._parts(whole, place, end, rooms[place])
            if parts is None:
                yield exchanges[0]
            for part in parts or ():
                head = sized.conversation.messages[: sized.head_turns]
                yield Segment(
                    whole=sized.conversation,
                    index=index,
                    messages=(head if index == 0 else context(head)) + part,
                    first=exchanges[0].first,
                    last=exchanges[-1].last,
                    note=next((m for m in part if _is_note(m, whole)), None),
                )
                index += 1

    def _stretch(self, whole: Course, rooms: Sequence[int]) -> Stretch:
        before = [
            self.max_length - room + self.before.reserve(whole, place, room)
            for place, room in enumerate(rooms)
        ]
        return Stretch(
            tokens=np.array([exchange.tokens for exchange in whole.exchanges], np.int64),
            before=np.array(before, np.int64),
            limit=self.max_length,
            texts=[_said(whole.own(place, place + 1)) for place in range(len(whole))],
        )

    def _parts(
        self, whole: Course, place: int, end: int, room: int
    ) -> list[tuple[Message, ...]] | None:
        """What the segments of some exchanges hold behind the head."""
        exchange = whole.exchanges[place]
        if exchange.tokens <= room:
            own = tuple(whole.own(place, end))
            return [self.before.messages(whole, place, room, own) + own]
        if self.split is None:
            return None
        reserved = self.before.reserve(whole, place, room)
        parts, left_out = self._split(whole, exchange, room - reserved)
        if reserved and not left_out and not whole.earlier(place):
            parts, _ = self._split(whole, exchange, room)  # there is nothing to tell
        told: dict[tuple[str, ...], tuple[Message, ...]] = {}
        for part in parts or ():
            asked = _asked(part)
            if asked not in told:
                told[asked] = self.before.messages(whole, place, room, part, left_out)
        return parts and [told[_asked(part)] + part for part in parts]

    def _split(
        self, whole: Course, exchange: Exchange, room: int
    ) -> tuple[list[tuple[Message, ...]] | None, list[Message]]:
        """An exchange in parts of at most `room` tokens, and what was left out of its prompt."""
        assert self.split is not None
        known = len(self.split.shortened)
        parts = self.split(replace(whole.sized, head=self.max_length - room - CLOSING), exchange)
        return parts, [one.left_out for one in self.split.shortened[known:]]


def _is_note(message: Message, whole: Course) -> bool:
    if message.role != "system":
        return False
    return all(message.content != whole.messages[turn].content for turn in whole.orders)


def _asked(messages: Sequence[Message]) -> tuple[str, ...]:
    return tuple(message.content for message in messages if message.role == "user")


def _said(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)

"""What stands between the head of a segment and its own turns: a replay, or a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glmprep.contexts.place import placed
from glmprep.contexts.recall import Recall
from glmprep.exchanges import Course
from glmprep.families import Family
from glmprep.framing import Framing
from glmprep.records import Message
from glmprep.sized import Limits, context
from glmprep.tokenizer import Tokenizer

Messages = tuple[Message, ...]
SHARE_OF_ROOM = 0.25
"""A note before an exchange that is too long to stand in one segment takes this share at most."""


class Before(Protocol):
    """Context of a segment, beside the system messages that it repeats."""

    def reserve(self, course: Course, place: int, room: int) -> int:
        """The most tokens of context before exchange `place`, where `room` are left for both."""

    def messages(
        self,
        course: Course,
        place: int,
        room: int,
        coming: Sequence[Message],
        left_out: Sequence[Message] = (),
    ) -> Messages:
        """What stands between the head and a segment that begins at exchange `place`.

        All of it is context, and takes at most what `reserve` says for the same room. `coming` are
        the segment's own messages, `left_out` what had to be left out of these.
        """


@dataclass(frozen=True, slots=True)
class Replay:
    """The last turns before the segment, in whole exchanges (see `Limits`)."""

    limits: Limits

    def reserve(self, course: Course, place: int, room: int) -> int:
        """The tokens of the exchanges that are replayed."""
        begin = self._begin(course, place, room)
        return sum(exchange.tokens for exchange in course.exchanges[begin:place])

    def messages(
        self,
        course: Course,
        place: int,
        room: int,
        coming: Sequence[Message],
        left_out: Sequence[Message] = (),
    ) -> Messages:
        """The system messages before the replay, and the replay."""
        begin = self._begin(course, place, room)
        replayed = course.own(begin, place) if begin < place else ()
        return context([*course.standing(begin), *replayed])

    def _begin(self, course: Course, place: int, room: int) -> int:
        """The first exchange that is replayed before exchange `place`."""
        exchanges = course.exchanges
        left = min(self.limits.context_tokens, room - exchanges[place].tokens)
        begin, turns = place, 0
        while begin > 0 and turns < self.limits.overlap and exchanges[begin - 1].tokens <= left:
            begin -= 1
            left -= exchanges[begin].tokens
            turns += exchanges[begin].last - exchanges[begin].first
        return begin


class Note:
    """One system message that tells what was said before (see `Recall`)."""

    def __init__(
        self, recall: Recall, limits: Limits, family: Family, tokenizer: Tokenizer
    ) -> None:
        self._recall = recall
        self._limits = limits
        self._framing = Framing(family, tokenizer)
        self._around = self._framing.around(Message(role="system"), "")

    def reserve(self, course: Course, place: int, room: int) -> int:
        """The tokens that a note may take, its header among them."""
        left = room - course.exchanges[place].tokens
        if left < 0:  # the exchange is cut, and its prompt perhaps shortened
            return min(self._limits.context_tokens, int(room * SHARE_OF_ROOM))
        return min(self._limits.context_tokens, left) if place else 0

    def messages(
        self,
        course: Course,
        place: int,
        room: int,
        coming: Sequence[Message],
        left_out: Sequence[Message] = (),
    ) -> Messages:
        """The note, where there is one, and the system messages.

        It is on what was said before, and on what is left out of a prompt that is too long.
        """
        earlier = [*course.earlier(place), *left_out]
        note = self._note(earlier, coming, self.reserve(course, place, room))
        return placed((), note, context(course.standing(place)))

    def _note(self, earlier: Sequence[Message], coming: Sequence[Message], most: int) -> str:
        """A note that takes at most `most` tokens, as it stands in the template."""
        budget = most - self._around
        while budget > 0:
            note = self._recall.note(earlier, coming, budget)
            over = self._framing.tokens(Message(role="system", content=note)) - most if note else 0
            if over <= 0:
                return note
            budget -= over  # its beginning is encoded as one with the header's line break
        return ""

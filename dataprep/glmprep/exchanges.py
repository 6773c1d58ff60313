"""The legal boundaries of a conversation: it is cut between exchanges only.

An exchange is a question with all that answers it, so no cut parts a question from its answer or a
tool call from its result.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from glmprep.records import Message
from glmprep.sized import Sized


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The turns `first` … `last - 1`, their tokens, and how many of those are trained."""

    first: int
    last: int
    tokens: int
    targets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A conversation as exchanges after its head.

    `orders` are the turns of system messages among them: these hold for all that follows them.
    """

    sized: Sized
    exchanges: Sequence[Exchange]
    orders: Sequence[int]

    def __len__(self) -> int:
        return len(self.exchanges)

    @property
    def messages(self) -> Sequence[Message]:
        """All messages of the conversation."""
        return self.sized.conversation.messages

    def standing(self, place: int) -> Sequence[Message]:
        """The system messages that were given between the head and an exchange."""
        held = bisect_left(self.orders, self.exchanges[place].first)
        return [self.messages[turn] for turn in self.orders[:held]]

    def earlier(self, place: int) -> Sequence[Message]:
        """All that was said between the head and an exchange."""
        return self.messages[self.sized.head_turns : self.exchanges[place].first]

    def own(self, place: int, end: int) -> Sequence[Message]:
        """The messages of the exchanges `place` … `end - 1`."""
        return self.messages[self.exchanges[place].first : self.exchanges[end - 1].last]

    def repeated(self) -> list[int]:
        """For each exchange the tokens of head and system messages that stand before it."""
        costs, held, tokens = [], 0, self.sized.head
        for exchange in self.exchanges:
            while held < len(self.orders) and self.orders[held] < exchange.first:
                tokens += self.sized.turn_tokens[self.orders[held]]
                held += 1
            costs.append(tokens)
        return costs


def course(sized: Sized) -> Course:
    """A conversation in exchanges, each from a question up to the next one."""
    messages = sized.conversation.messages
    starts = [sized.head_turns]
    for turn in range(sized.head_turns + 1, len(messages)):
        if messages[turn].role == "user" and messages[turn - 1].role != "user":
            starts.append(turn)
    exchanges = [
        Exchange(
            first=first,
            last=last,
            tokens=sum(sized.turn_tokens[first:last]),
            targets=sum(sized.turn_targets[first:last]),
        )
        for first, last in zip(starts, [*starts[1:], len(messages)], strict=True)
    ]
    rest = range(sized.head_turns, len(messages))
    orders = [turn for turn in rest if messages[turn].role == "system"]
    return Course(sized=sized, exchanges=exchanges, orders=orders)

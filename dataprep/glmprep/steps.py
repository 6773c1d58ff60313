"""An exchange in steps: turns that stay together when it is split."""

from __future__ import annotations

from dataclasses import dataclass, replace

from glmprep.exchanges import Exchange
from glmprep.families.roles import goes_on
from glmprep.records import Message
from glmprep.sized import Sized, context


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A message, which of its conversation's messages it is (from 0), and its tokens."""

    number: int
    message: Message
    tokens: int


Step = tuple[Turn, ...]
"""Turns that stay together."""


def steps_of(sized: Sized, exchange: Exchange) -> list[Step]:
    """The steps of an exchange, in order.

    A call stays with its results, and an answer with a system message behind it: that would not be
    its stop token, so none may be trained at a cut there either. A piece of a turn stays with the
    context that it goes on from.
    """
    steps: list[list[Turn]] = []
    for number in range(exchange.first, exchange.last):
        message = sized.conversation.messages[number]
        turn = Turn(number=number, message=message, tokens=sized.turn_tokens[number])
        before = steps[-1][-1].message if steps else None
        told = before is not None and not before.trained and goes_on(before, message)
        if steps and (told or message.role in ("tool", "system")):
            steps[-1].append(turn)
        else:
            steps.append([turn])
    return list(map(tuple, steps))


def tokens_of(step: Step) -> int:
    """The tokens of all turns."""
    return sum(turn.tokens for turn in step)


def messages_of(step: Step) -> tuple[Message, ...]:
    """The messages alone."""
    return tuple(turn.message for turn in step)


def said(step: Step) -> Step:
    """The turns of the assistant."""
    return tuple(turn for turn in step if turn.message.role == "assistant")


def heard(step: Step) -> Step:
    """The turns of all others."""
    return tuple(turn for turn in step if turn.message.role != "assistant")


def as_context(step: Step) -> Step:
    """The same turns, none of them trained."""
    messages = context(messages_of(step))
    return tuple(
        replace(turn, message=message) for turn, message in zip(step, messages, strict=True)
    )

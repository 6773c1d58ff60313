"""Reasoning: where it stands in an answer, and the rows that train it.

Templates show a model less of what it thought than it thought: from GLM-4.5 on nothing of what came
before the last question, in GLM-Z1 nothing at all. An answer can be trained with its reasoning only
where the template would have the model produce it: at the end of a row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace

from glmprep.records import Conversation, Message

START, END = "<think>", "</think>"
Messages = Sequence[Message]


def parted(content: str) -> tuple[str, str]:
    """Reasoning and answer of a text that holds both, as the templates from GLM-4.5 on read it.

    Of several `</think>` the first ends the reasoning and the last begins the answer.
    """
    reasoning = content.split(END)[0].rstrip("\n").split(START)[-1].lstrip("\n")
    return reasoning, content.split(END)[-1].lstrip("\n")


def trimmed(message: Message, content: str) -> str:
    """Content without white space where its turn begins and ends; the pieces of a cut turn keep
    theirs at the cut.
    """
    if message.begins:
        content = content.lstrip()
    return content.rstrip() if message.ends else content


def written(conversation: Conversation, normal: Callable[[Message], Message]) -> Conversation:
    """The conversation with the text that a template writes of each message."""
    messages = tuple(map(normal, conversation.messages))
    if all(map(operator.is_, messages, conversation.messages)):
        return conversation
    return replace(conversation, messages=messages)


def rows_of(
    conversation: Conversation,
    ends: Sequence[int],
    thinks_from: Callable[[Messages], int],
    *,
    apart: bool = False,
) -> Sequence[Conversation]:
    """The rows that train a conversation, each answer in one of them.

    A row ends at each of `ends` (counts of messages); it keeps the reasoning of the turns from
    `thinks_from(its messages)` on and trains what no row before it does. What is said after the
    last end makes one more row, if something of it is trained. With `apart` a row trains only the
    round that it ends with, and all other rounds go in that one more row, without reasoning.
    """
    messages = conversation.messages
    if not any(message.reasoning for message in messages):
        return (conversation,)
    rest = len(ends)
    owner = [rest] * len(messages)
    for place in reversed(range(rest)):
        end = ends[place]
        first = max(0, thinks_from(messages[:end]) - 1) if apart else 0
        owner[first:end] = [place] * (end - first)
    rows = [_row(messages[:end], owner, row, thinks_from) for row, end in enumerate(ends)]
    end = _rest_end(messages, owner, rest)
    if end:
        rows.append(_row(messages[:end], owner, rest, len if apart else thinks_from))
    if len(rows) == 1:
        return (replace(conversation, messages=rows[0]),)
    return tuple(
        replace(conversation, id=f"{conversation.id}@{number}", messages=row)
        for number, row in enumerate(rows, 1)
    )


def _rest_end(messages: Messages, owner: Sequence[int], rest: int) -> int:
    """Where the row ends that trains what no other does, 0 where nothing is left to train.

    It goes on to the first turn of another row, or to the conversation's end.
    """
    left = [t for t, row in enumerate(owner) if row == rest and _is_trained(messages[t])]
    if not left:
        return 0 if rest else len(messages)
    return next((t for t in range(left[-1], len(messages)) if owner[t] != rest), len(messages))


def _row(
    messages: Messages, owner: Sequence[int], row: int, thinks_from: Callable[[Messages], int]
) -> tuple[Message, ...]:
    thinks = thinks_from(messages)
    return tuple(
        _shown(message, elsewhere=owner[turn] != row, reasons=turn >= thinks)
        for turn, message in enumerate(messages)
    )


def _shown(message: Message, *, elsewhere: bool, reasons: bool) -> Message:
    """A message as it stands in a row."""
    if elsewhere and _is_trained(message):
        message = replace(message, untrained="elsewhere")
    if reasons or not message.reasoning:
        return message
    content = message.content
    if END in content:  # without reasoning of its own, it is its text that the template takes apart
        content = trimmed(message, parted(content)[1])
    return replace(message, content=content, reasoning="")


def _is_trained(message: Message) -> bool:
    return message.role == "assistant" and message.trained


def reasoned_ends(messages: Messages) -> list[int]:
    """Behind each round that holds reasoning and in which an answer is trained.

    Whichever of them comes first: a round that is cut in two keeps its mode in both parts.
    """
    starts = [turn for turn, message in enumerate(messages) if message.role == "user"]
    rounds = zip([0, *starts], [*starts, len(messages)], strict=True)
    return [last for first, last in rounds if _reasons(messages[first:last])]


def last_round(messages: Messages) -> int:
    """The first turn behind the last question."""
    turns = range(len(messages) - 1, -1, -1)
    return next((turn + 1 for turn in turns if messages[turn].role == "user"), 0)


def _reasons(turns: Messages) -> bool:
    return any(message.reasoning for message in turns) and any(map(_is_trained, turns))

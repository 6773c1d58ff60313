"""Cut one long answer in parts, each but the first behind the end of the part before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from glmprep.cut import Cut, cut, tail
from glmprep.framing import Framing
from glmprep.records import Message
from glmprep.sized import context
from glmprep.steps import Step, Turn, tokens_of
from glmprep.tokenizer import Tokenizer


class AnswerCutter:
    """Cuts answers; at most `context_tokens` of one part are repeated before the next."""

    def __init__(self, framing: Framing, tokenizer: Tokenizer, context_tokens: int) -> None:
        self._framing = framing
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens

    def __call__(self, step: Step, replay: Step, room: int) -> list[Step] | None:
        """The step in several of at most `room` tokens; None where there is no way.

        `replay` stands before the first, unless the answer is a piece that has context of its own.
        Reasoning stays whole, in the first.
        """
        place = max(n for n, turn in enumerate(step) if turn.message.role == "assistant")
        turn, behind = step[place], step[place + 1 :]
        lead = None if turn.message.tool_calls else self._framing.lead(turn.message)
        if lead is None:
            return None
        before = step[:place] if tokens_of(step[:place]) <= room // 2 else ()
        before = before or replay
        room -= tokens_of(behind)
        repeated = min(self._context_tokens, room // 2)
        around = self._framing.around(turn.message, lead), self._framing.rest("assistant")
        first = room - tokens_of(before) - around[0]
        rest = room - repeated - around[1]
        if first < 1 or rest < 1:
            return None
        pieces = cut(turn.message.content, first, rest, self._tokenizer, lead)
        if pieces is None:
            return None
        parts = [
            replace(turn, message=message, tokens=piece.tokens + around[place > 0])
            for place, (message, piece) in enumerate(
                zip(_parts(turn.message, pieces), pieces, strict=True)
            )
        ]
        opening = (*_renumbered(before, turn.message, len(parts) - 1), parts[0])
        steps = [opening, *((*self._end(one, repeated), two) for one, two in pairwise(parts))]
        return [*steps[:-1], steps[-1] + behind]

    def _end(self, part: Turn, room: int) -> Step:
        """The end of a part as context, of at most `room` tokens."""
        end = tail(part.message.content, room, self._tokenizer) if room else ""
        told = context([replace(part.message, content=end, reasoning="")]) if end else ()
        return tuple(replace(part, message=message, tokens=room) for message in told)


def _parts(message: Message, pieces: Sequence[Cut]) -> list[Message]:
    """A turn, or a piece of one, in parts, so that only the turn's last ends it.

    Where the i-th of n pieces is cut in k, its parts are i, …, i + k - 1 of n + k - 1.
    """
    if len(pieces) == 1:
        return [message]
    place, count = message.part or (0, 1)
    count += len(pieces) - 1
    first, *rest = [
        replace(message, content=piece.text, part=(place + more, count))
        for more, piece in enumerate(pieces)
    ]
    return [first, *(replace(part, reasoning="") for part in rest)]


def _renumbered(before: Step, message: Message, more: int) -> Step:
    """The turns before a message; pieces of the same turn are told that there are `more` of it."""
    if message.part is None:
        return before
    place, count = message.part
    earlier = {(number, count): (number, count + more) for number in range(place)}
    return tuple(
        replace(turn, message=replace(turn.message, part=earlier[turn.message.part]))
        if turn.message.role == message.role and turn.message.part in earlier
        else turn
        for turn in before
    )

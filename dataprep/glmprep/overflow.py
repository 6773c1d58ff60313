"""Split one exchange that is longer than the limit.

The question is replayed before each piece, shortened where it leaves no room for an answer (see
`shorten`). What answers it is cut between its steps, and a long text at the end of a sentence. A
tool call stays with its results, which are shortened where both do not fit. What stands directly
before a piece is replayed as context as far as it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from glmprep.exchanges import Exchange
from glmprep.families import Family
from glmprep.framing import Framing
from glmprep.parts import AnswerCutter
from glmprep.records import Conversation, Message
from glmprep.shorten import Fitted, Shorten, Shortened, Shortener
from glmprep.sized import CLOSING, Limits, Sized, context, size
from glmprep.steps import Step, as_context, heard, messages_of, said, steps_of, tokens_of
from glmprep.tokenizer import Tokenizer

PROMPT_SHARE = 0.75
"""What is asked, or a tool's results, may take this share of a segment, so that the rest is left
for what answers it."""

Messages = tuple[Message, ...]


class OverflowSplitter:
    """Splits exchanges; `shorten` says what is kept of a prompt that is too long.

    `shortened` tells what was left out of the exchanges that were split; whoever writes it down
    clears it.
    """

    def __init__(
        self, family: Family, tokenizer: Tokenizer, limits: Limits, shorten: Shorten = "end"
    ) -> None:
        self._family = family
        self._tokenizer = tokenizer
        self._limits = limits
        self._framing = Framing(family, tokenizer)
        self._shortener = Shortener(self._framing, tokenizer, shorten)
        self._cut = AnswerCutter(self._framing, tokenizer, limits.context_tokens)
        self.shortened: list[Shortened] = []

    def __call__(self, sized: Sized, exchange: Exchange) -> list[Messages] | None:
        """The exchange as several segments' messages; None where there is no way."""
        room = self._limits.max_length - sized.head - CLOSING
        steps = steps_of(sized, exchange)
        asked = next(
            (place for place, step in enumerate(steps) if step[0].message.role != "user"),
            len(steps),
        )
        if asked == len(steps) or room <= self._framing.rest("assistant"):
            return None
        prompt = self._prompt(tuple(chain.from_iterable(steps[:asked])), steps[asked:], room)
        left = room - tokens_of(prompt.turns)
        answers = self._fitted(steps[asked:], left)
        pieces = self._pieces([step.turns for step in answers], left)
        if pieces is None:
            return None
        question = messages_of(prompt.turns)
        made = [
            (question if place == 0 else context(question)) + piece
            for place, piece in enumerate(pieces)
        ]
        teaching = self._teaching(made, sized, exchange)
        if teaching:
            self._note(sized.conversation, (prompt, *answers), teaching)
        return teaching

    def _prompt(self, turns: Step, answers: Sequence[Step], room: int) -> Fitted:
        """The question whole, or shortened so that its answers, or much of the first, fit."""
        first = answers[0]
        needed = min(tokens_of(first), tokens_of(said(first)) + room // 2)
        allowed = max(room - sum(map(tokens_of, answers)), _most(room, needed))
        if tokens_of(turns) <= allowed:
            return Fitted(turns=turns)
        return self._shortener.prompt(turns, allowed)

    def _fitted(self, steps: Sequence[Step], room: int) -> list[Fitted]:
        """The steps; results that do not fit are shortened, and stay with what answers them."""
        made: list[Fitted] = []
        for place, step in enumerate(steps):
            if made and made[-1].gaps and tokens_of(made[-1].turns) + tokens_of(step) <= room:
                made[-1] = replace(made[-1], turns=made[-1].turns + step)
                continue
            if tokens_of(step) <= room:
                made.append(Fitted(turns=step))
                continue
            answer = tokens_of(said(steps[place + 1])) if place + 1 < len(steps) else 0
            limits = (_most(room, answer), room) if answer else (room,)
            fitted = (self._with_results(step, limit) for limit in limits)
            made.append(next(filter(None, fitted), Fitted(turns=step)))
        return made

    def _with_results(self, step: Step, room: int) -> Fitted | None:
        """A step in at most `room` tokens, by its results alone; None where that is no way."""
        results = heard(step)
        fitted = self._shortener.evenly(results, room - tokens_of(said(step)))
        if fitted is None or not results:
            return None
        short = {turn.number: turn for turn in fitted.turns}
        return replace(fitted, turns=tuple(short.get(turn.number, turn) for turn in step))

    def _pieces(self, steps: Sequence[Step], room: int) -> list[Messages] | None:
        """The steps in pieces of at most `room` tokens, each with the replay before it."""
        pieces: list[Messages] = []
        current: Step = ()
        for place, step in enumerate(steps):
            needed = tokens_of(step)
            if current and tokens_of(current) + needed > room:
                pieces.append(messages_of(current))
                current = self._replay(steps, place, room - needed)
            if tokens_of(current) + needed <= room:
                current += step
                continue
            parts = self._cut(step, self._replay(steps, place, room // 2), room)
            if parts is None:
                return None
            *full, current = parts
            pieces += map(messages_of, full)
        return [*pieces, messages_of(current)]

    def _replay(self, steps: Sequence[Step], place: int, left: int) -> Step:
        """The steps directly before one, as many as may be replayed and as fit beside it.

        Where not even the last fits, it is replayed with its results shortened.
        """
        most = min(self._limits.context_tokens, left)
        replayed: Step = ()
        while place and tokens_of(replayed) + tokens_of(steps[place - 1]) <= most:
            place -= 1
            replayed = steps[place] + replayed
        if place and not replayed and (short := self._with_results(steps[place - 1], most)):
            replayed = short.turns
        return as_context(replayed)

    def _teaching(
        self, made: list[Messages], sized: Sized, exchange: Exchange
    ) -> list[Messages] | None:
        """The segments in which something is trained.

        None where one of them is too long or they do not train what the exchange trains.
        """
        whole = sized.conversation
        head = whole.messages[: sized.head_turns]
        parts = [replace(whole, messages=head + messages) for messages in made]
        measured = size(parts, self._family, self._tokenizer)
        targets = [sum(part.turn_targets) for part in measured]
        # `sized.head` also counts what else is repeated before the exchange.
        fits = all(
            part.total - part.head + sized.head <= self._limits.max_length for part in measured
        )
        if not fits or sum(targets) != exchange.targets:
            return None
        return [messages for messages, count in zip(made, targets, strict=True) if count]

    def _note(
        self, conversation: Conversation, fitted: Iterable[Fitted], segments: list[Messages]
    ) -> None:
        """Record what is left out, but not of turns that stand in no segment at all."""
        stands = {message.content for messages in segments for message in messages}
        for one in fitted:
            short = {turn.number: turn.message.content for turn in one.turns}
            for gap in one.gaps:
                text = short.get(gap.turn.number)
                if text is None or text in stands:
                    self.shortened.append(Shortened.made(conversation, gap))


def _most(room: int, answer: int) -> int:
    """What may be taken of a room by what is only read, before an answer of so many tokens."""
    return min(max(room - answer, int(room * (1 - PROMPT_SHARE))), int(room * PROMPT_SHARE))

"""Split one exchange that is longer than the limit.

The question is replayed before each piece, shortened to its end where it leaves no room for an
answer. The answer is cut between its steps (a tool call stays with its result), and a long text at
the end of a sentence. What stands directly before a piece is replayed as context as far as it fits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from glmprep.cut import cut, tail
from glmprep.families import Family
from glmprep.findings import Example
from glmprep.greedy import Exchange
from glmprep.records import Conversation, Message, Origin, Role
from glmprep.sized import CLOSING, Limits, Sized, context, size
from glmprep.tokenizer import Tokenizer

PROMPT_SHARE = 0.75
"""A question may take this share of a segment, so that the rest is left for its answer."""
NOWHERE = Origin("", 1)

Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """Turns of an exchange that stay together, with their tokens."""

    messages: Messages
    tokens: int

    def __add__(self, other: _Step) -> _Step:
        return _Step(self.messages + other.messages, self.tokens + other.tokens)


NOTHING = _Step((), 0)


class OverflowSplitter:
    """Splits exchanges; notes the prompts that had to be shortened, and by how many tokens."""

    def __init__(self, family: Family, tokenizer: Tokenizer, limits: Limits) -> None:
        self._family = family
        self._tokenizer = tokenizer
        self._limits = limits
        self._asking, self._going_on = self._before_rest("user"), self._before_rest("assistant")
        self.shortened: list[Example] = []
        self.dropped_tokens = 0

    def __call__(self, sized: Sized, exchange: Exchange) -> list[Messages] | None:
        """The exchange as several segments' messages; None where there is no way."""
        room = self._limits.max_length - sized.head - CLOSING
        steps = _steps(sized, exchange)
        answer = next(
            (place for place, step in enumerate(steps) if step.messages[0].role != "user"),
            len(steps),
        )
        if answer == len(steps) or room <= self._going_on:
            return None
        question = sum(steps[:answer], NOTHING)
        prompt = self._shorten(question, steps[answer].tokens, room)
        pieces = self._pieces(steps[answer:], room - prompt.tokens)
        if pieces is None:
            return None
        made = [
            (prompt.messages if place == 0 else context(prompt.messages)) + piece
            for place, piece in enumerate(pieces)
        ]
        teaching = self._teaching(made, sized, exchange)
        if teaching is None:
            return None
        if prompt.tokens < question.tokens:
            dropped = question.tokens - prompt.tokens
            where = f"{sized.conversation.origin} message {exchange.first + 1}"
            excerpt = f"{dropped} of {question.tokens} tokens stay out"
            self.shortened.append(Example(where=where, excerpt=excerpt))
            self.dropped_tokens += dropped
        return teaching

    def _shorten(self, question: _Step, answer: int, room: int) -> _Step:
        """The question whole, or its end, so that the answer, or much of it, fits after it."""
        allowed = min(max(room - answer, int(room * (1 - PROMPT_SHARE))), int(room * PROMPT_SHARE))
        if question.tokens <= allowed:
            return question
        message = next(m for m in reversed(question.messages) if m.role == "user")
        text = tail(message.content, allowed - self._asking, self._tokenizer)
        if not text:
            return NOTHING
        tokens = len(self._tokenizer.encode(text)) + self._asking
        return _Step((replace(message, content=text, part=(1, 2)),), tokens)

    def _pieces(self, steps: list[_Step], room: int) -> list[Messages] | None:
        """The steps in pieces of at most `room` tokens, each with the replay before it."""
        pieces: list[Messages] = []
        current = NOTHING
        for place, step in enumerate(steps):
            if current.messages and current.tokens + step.tokens > room:
                pieces.append(current.messages)
                current = self._replay(steps[:place], room - step.tokens)
            if current.tokens + step.tokens <= room:
                current += step
                continue
            parts = self._cut(step, room)
            if parts is None:
                return None
            *full, current = parts
            pieces += [part.messages for part in full]
        return [*pieces, current.messages]

    def _replay(self, before: list[_Step], left: int) -> _Step:
        """The steps directly before a piece, as many as may be replayed and as fit beside it."""
        replayed = NOTHING
        for step in reversed(before):
            if replayed.tokens + step.tokens > min(self._limits.context_tokens, left):
                break
            replayed = step + replayed
        return _Step(context(replayed.messages), replayed.tokens)

    def _cut(self, step: _Step, room: int) -> list[_Step] | None:
        """One long answer in parts, each with the end of the part before it as context.

        Its reasoning stays whole, in the first of them.
        """
        message = step.messages[0]
        if len(step.messages) > 1 or message.tool_calls or message.part is not None:
            return None
        lead = self._lead(message)
        if lead is None:
            return None
        replayed = min(self._limits.context_tokens, room // 2)
        before = step.tokens - len(self._tokenizer.encode(lead + message.content))
        first, rest = room - before, room - self._going_on - replayed
        if first < 1 or rest < 1:
            return None
        texts = cut(message.content, first, rest, self._tokenizer, lead)
        if texts is None:
            return None
        return [
            self._part(message, texts, place, replayed if place else 0)
            for place in range(len(texts))
        ]

    def _part(self, message: Message, texts: list[str], place: int, replayed: int) -> _Step:
        """One part of an answer, behind the end of the part before it."""
        text = texts[place]
        before = tail(texts[place - 1], replayed, self._tokenizer) if replayed else ""
        reasoning = "" if place else message.reasoning
        part = replace(message, content=text, reasoning=reasoning, part=(place, len(texts)))
        tokens = len(self._tokenizer.encode(text)) + len(self._tokenizer.encode(before))
        if not before:
            return _Step((part,), self._going_on + tokens)
        earlier = replace(part, content=before, part=(place - 1, len(texts)))
        return _Step((*context([earlier]), part), self._going_on + tokens)

    def _lead(self, message: Message) -> str | None:
        """What the template puts before an answer's text that is encoded as one with it.

        None where the text does not stand at the answer's end.
        """
        # An end token of the template's own, with a line break, may stand behind the text.
        for piece in reversed(self._family.pieces(_asked(message))):
            if piece.text.endswith(message.content):
                return piece.text.removesuffix(message.content)
        return None

    def _before_rest(self, role: Role) -> int:
        """Tokens that the template puts before the rest of a turn that was cut."""
        text = "x"
        rest = _asked(Message(role=role, content=text, part=(1, 2)))
        (sized,) = size([rest], self._family, self._tokenizer)
        return sized.turn_tokens[-1] - len(self._tokenizer.encode(text))

    def _teaching(
        self, made: list[Messages], sized: Sized, exchange: Exchange
    ) -> list[Messages] | None:
        """The segments in which something is trained.

        None where one of them is too long or they do not train what the exchange trains.
        """
        head = sized.conversation.messages[: sized.head_turns]
        whole = sized.conversation
        parts = [replace(whole, messages=head + messages) for messages in made]
        measured = size(parts, self._family, self._tokenizer)
        targets = [sum(part.turn_targets) for part in measured]
        # `sized.head` also counts system messages that stand before the exchange.
        fits = all(
            part.total - part.head + sized.head <= self._limits.max_length for part in measured
        )
        if not fits or sum(targets) != exchange.targets:
            return None
        return [messages for messages, count in zip(made, targets, strict=True) if count]


def _asked(message: Message) -> Conversation:
    """A conversation of a question, where the message is none, and the message."""
    question = () if message.role == "user" else (Message(role="user", content="?"),)
    return Conversation(id="", messages=(*question, message), origin=NOWHERE)


def _steps(sized: Sized, exchange: Exchange) -> list[_Step]:
    """The turns of an exchange in groups that stay together.

    A call stays with its results, and an answer with a system message behind it: that would not be
    its stop token, so none may be trained at a cut there either.
    """
    steps: list[_Step] = []
    for turn in range(exchange.first, exchange.last):
        message = sized.conversation.messages[turn]
        step = _Step((message,), sized.turn_tokens[turn])
        if steps and message.role in ("tool", "system"):
            step = steps.pop() + step
        steps.append(step)
    return steps

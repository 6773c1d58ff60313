"""A conversation that goes on and on through the model's window, in segments as in training.

While the head (the system messages) and all that was said fit, there is one segment. A question
that no longer fits begins another: behind the head stands what it is told of the earlier ones, by
the same code as in `glmprep segment`: a note, a replay, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmprep.contexts.before import Before
from glmprep.errors import UsageError
from glmprep.exchanges import Course, course
from glmprep.records import Conversation, Message
from glmprep.sized import CLOSING, size

from glmtrain.prompt import CHAT, SAID, Prompter

ANSWER = Message(role="assistant", content=SAID)
"""Stands for the answer that is to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens that the model sees at once, and those of them that are kept free for its answer."""

    max_length: int
    max_new_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.max_new_tokens < self.max_length:
            raise UsageError(
                f"--max-new-tokens {self.max_new_tokens}: at least 1, and fewer than "
                f"the {self.max_length} of --max-length"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is asked with.

    `begin` is the exchange (from 0) with which the segment begins, `note` what it is told of those
    before.
    """

    ids: Sequence[int]
    question: str
    begin: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """A question that does not fit in the window, even alone: its tokens, and how many fit."""

    tokens: int
    room: int


class Running:
    """The conversation so far; `head` are its system messages, `before` tells of earlier segments.

    `said` are its other messages; `begin` and `note` are those of the last prompt that was answered
    (see `Prompt`). Raises UsageError for a head that leaves no room for any question.
    """

    def __init__(
        self, prompter: Prompter, before: Before, window: Window, *, head: Sequence[Message] = ()
    ) -> None:
        self._prompter, self._before = prompter, before
        self.window, self.head = window, tuple(head)
        self.reset()
        if isinstance(self.ask("?"), TooLong):
            raise UsageError(
                "the system message and the answer leave no room for a question; "
                "raise --max-length or lower --max-new-tokens"
            )

    def reset(self) -> None:
        """Begin anew, with the head alone."""
        self.said: list[Message] = []
        self.begin, self.note = 0, ""

    def ask(self, question: str) -> Prompt | TooLong:
        """The prompt for a question; it counts as asked once it is `answered`."""
        messages = (*self.head, *self.said, Message(role="user", content=question), ANSWER)
        whole = self._course(messages)
        room = self.window.max_length - self.window.max_new_tokens
        room -= whole.sized.head + CLOSING
        last = len(whole) - 1
        for begin in (self.begin, last):
            tokens = sum(exchange.tokens for exchange in whole.exchanges[begin:])
            if tokens + self._before.reserve(whole, begin, room) <= room:
                return self._prompt(whole, begin, room)
        return TooLong(tokens=whole.exchanges[last].tokens, room=max(0, room))

    def answered(self, prompt: Prompt, answer: Message) -> None:
        """Go on behind an answer."""
        self.begin, self.note = prompt.begin, prompt.note
        self.said += [Message(role="user", content=prompt.question), answer]

    def _course(self, messages: tuple[Message, ...]) -> Course:
        conversation = Conversation(id=CHAT.path, messages=messages, origin=CHAT)
        (sized,) = size([conversation], self._prompter.family, self._prompter.tokenizer)
        return course(sized)

    def _prompt(self, whole: Course, begin: int, room: int) -> Prompt:
        *body, _ = whole.own(begin, len(whole))
        before = self._before.messages(whole, begin, room, body)
        return Prompt(
            ids=self._prompter([*self.head, *before, *body]),
            question=body[-1].content,
            begin=begin,
            note="\n".join(message.content for message in before if message.role == "system"),
        )

"""The chat: questions in, answers out as they are generated, and what came of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from glmprep.console import printable
from glmprep.records import Conversation, Message

from glmtrain.conversation import Prompt, Running, TooLong
from glmtrain.generate import Decoder, Sampler, Speaker
from glmtrain.prompt import CHAT, Prompter
from glmtrain.stop import StopSignal

if TYPE_CHECKING:
    from rich.console import Console

KEPT = re.compile(r"([\n\t])")
"""Control characters that text may have on a terminal."""
Ended: TypeAlias = Literal["stop", "length", "interrupted", "too long"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question and what came of it; `conversation` counts from 0, up with each reset.

    `begin` and `note` are as in `Prompt`; `ended` is what ended the answer: a stop token, its
    greatest length, a signal, or that the question was too long.
    """

    conversation: int
    question: str
    answer: str = ""
    reasoning: str = ""
    begin: int = 0
    note: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    ended: Ended

    @property
    def answered(self) -> bool:
        """Whether there is an answer to go on behind."""
        return bool(self.answer)


class Command(StrEnum):
    """Lines that are no questions."""

    RESET = "/reset"
    NOTE = "/note"
    QUIT = "/quit"


HELP = (
    f"{Command.RESET} begins anew, {Command.NOTE} shows what the model is told of earlier turns, "
    f"{Command.QUIT} ends"
)


class Silent:
    """Shows nothing."""

    def piece(self, text: str) -> None:
        """The next piece of an answer's text, as it is generated."""

    def answered(self, answer: Message) -> None:
        """An answer is complete."""

    def remark(self, text: str) -> None:
        """Something that is not an answer."""


class Plain(Silent):
    """Answers alone, each when it is complete; remarks go to another console."""

    def __init__(self, console: Console, remarks: Console) -> None:
        self._console, self._remarks = console, remarks

    def answered(self, answer: Message) -> None:
        """Print the answer."""
        self._console.print(shown(answer.content), soft_wrap=True)

    def remark(self, text: str) -> None:
        """Print a line."""
        self._remarks.print(shown(text), style="dim", soft_wrap=True)


class Live(Plain):
    """Answers as they are generated, with what the model thinks."""

    _begun = False

    def piece(self, text: str) -> None:
        """Print the piece at once; an answer's first line break is the template's."""
        text = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        self._console.print(shown(text), end="", soft_wrap=True)

    def answered(self, answer: Message) -> None:
        """End the answer's last line."""
        self._begun = False
        self._console.print()


@dataclass(kw_only=True)
class Chat:
    """A chat that goes on; `turns` keeps all of it, `stopped_by` names the signal that ended it."""

    running: Running
    prompter: Prompter
    speaker: Speaker
    sampler: Sampler
    shown: Silent
    turns: list[Turn] = field(default_factory=list)
    stopped_by: str | None = None
    conversation: int = 0

    def follow(self, lines: Iterable[str]) -> None:
        """Answer each line, up to the last one or `/quit`."""
        for line in lines:
            match line.strip():
                case "":
                    continue
                case Command.QUIT:
                    return
                case Command.RESET:
                    self._reset()
                case Command.NOTE:
                    self._tell_note()
                case question:
                    self._ask(question)
            if self.stopped_by is not None:
                return

    @property
    def fell_short(self) -> bool:
        """Whether a question has no answer, or a signal ended it all."""
        return self.stopped_by is not None or not all(turn.answered for turn in self.turns)

    def as_json(self) -> dict[str, Any]:
        """All turns as plain JSON values."""
        return {"turns": [asdict(turn) for turn in self.turns], "stopped_by": self.stopped_by}

    def conversations(self) -> Iterator[Conversation]:
        """What was said, a conversation for each reset."""
        said = [turn for turn in self.turns if turn.answered]
        for number, turns in groupby(said, key=lambda turn: turn.conversation):
            messages = [message for turn in turns for message in _messages(turn)]
            yield Conversation(
                id=f"{CHAT.path}-{number}",
                messages=(*self.running.head, *messages),
                origin=CHAT,
            )

    def _reset(self) -> None:
        self.running.reset()
        self.conversation += 1
        self.shown.remark("a new conversation")

    def _tell_note(self) -> None:
        self.shown.remark(self.running.note or "no note: the model sees the turns themselves")

    def _ask(self, question: str) -> None:
        prompt = self.running.ask(question)
        if isinstance(prompt, TooLong):
            self.turns.append(
                Turn(conversation=self.conversation, question=question, ended="too long")
            )
            self.shown.remark(
                f"the question takes {prompt.tokens} tokens and {prompt.room} fit beside an "
                "answer; ask in fewer words, or raise --max-length"
            )
            self.shown.answered(Message(role="assistant"))
            return
        if prompt.begin > self.running.begin:
            self.shown.remark("the window is full: a new segment begins")
        turn, answer = self._answer(prompt)
        self.turns.append(turn)
        self.shown.answered(answer)
        if turn.answered:
            self.running.answered(prompt, answer)
        else:
            self.shown.remark("no answer; the question is not kept")

    def _answer(self, prompt: Prompt) -> tuple[Turn, Message]:
        """The turn that an answer makes, and the answer."""
        tokens, ended = self._generate(prompt)
        answer = self.prompter.answer(self.prompter.tokenizer.decode(tokens))
        turn = Turn(
            conversation=self.conversation,
            question=prompt.question,
            answer=answer.content,
            reasoning=answer.reasoning,
            begin=prompt.begin,
            note=prompt.note,
            prompt_tokens=len(prompt.ids),
            answer_tokens=len(tokens),
            ended=ended,
        )
        return turn, answer

    def _generate(self, prompt: Prompt) -> tuple[list[int], Ended]:
        """The tokens of an answer without its stop, shown as they come, and what ended it."""
        tokens: list[int] = []
        decoder, stops = Decoder(self.prompter.tokenizer), self.prompter.stops
        ended: Ended = "length"
        most = self.running.window.max_new_tokens
        with StopSignal() as stop:
            for token in self.speaker.tokens(prompt.ids, self.sampler, stops=stops, most=most):
                if token in stops:
                    ended = "stop"
                    break
                tokens.append(token)
                self.shown.piece(decoder.add(token))
                if stop.received:
                    ended = "interrupted"
                    break
        self.shown.piece(decoder.rest())
        if stop.received == "SIGTERM":
            self.stopped_by = stop.received
        return tokens, ended


def shown(text: str) -> str:
    """Generated text for a terminal: all that could move the cursor is spelt out."""
    return "".join(part if KEPT.fullmatch(part) else printable(part) for part in KEPT.split(text))


def _messages(turn: Turn) -> tuple[Message, Message]:
    return (
        Message(role="user", content=turn.question),
        Message(role="assistant", content=turn.answer, reasoning=turn.reasoning),
    )

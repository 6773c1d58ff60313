"""GLM-4.5, GLM-4.6 and GLM-4.7: turns with reasoning, and tool calls written as tags.

The ids are those of the models' own templates (shipped as assets/glm4.6.jinja, which is GLM-4.5's
too, and assets/glm4.7.jinja). They show reasoning only behind the last question, so an earlier
answer with reasoning is trained in a row that ends with its round (see `thought`).

What the model is given before an answer, and what it generates from there on ("|" is a line break;
while it thinks, GLM-4.5 writes the tags even where there is no reasoning):

    GLM-4.5, 4.6, thinking      <|assistant|>                   | <think> … </think> | …
    GLM-4.5, 4.6, not thinking  <|assistant|> | <think></think>   | …
    GLM-4.7, with reasoning     <|assistant|> <think>             … </think> …
    GLM-4.7, without            <|assistant|> </think>            …

The vocabularies are not shipped. `<think>` and `</think>` must be added tokens of the one that is
given; the other tags are control tokens where they are added, and text where they are not.

Arguments of a call that are not a JSON object have no keys to write; the template raises an error
there. They are written as they stand behind the tool's name, and rule DF107 reports them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson

from glmprep.families import shipped
from glmprep.families.piece import NO_TURN, Piece, Reasoning, Thinking
from glmprep.families.roles import Roles, goes_on
from glmprep.families.script import Markup, Script, lay
from glmprep.families.thought import (
    END,
    START,
    last_round,
    parted,
    reasoned_ends,
    rows_of,
    trimmed,
    written,
)
from glmprep.records import Conversation, Message, ToolCall
from glmprep.tokenizer import Tokenizer

NO_THINK = "/nothink"
"""Ends each question where the model is not to think, in GLM-4.5 and 4.6."""


class Glm45(Roles):
    """The GLM-4.5 template; raises InputError for a tokenizer without `<think>`."""

    name = "glm4.5"
    asset = "glm4.6"
    line = "\n"
    """What the template puts between a tag and the text beside it."""

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking = "on") -> None:
        super().__init__(tokenizer)
        self.start, self.end = tokenizer.added_id(START), tokenizer.added_id(END)
        # Several calls are one turn here, so the model never has to produce <|assistant|>.
        self.stops = frozenset((self.user, self.observation))
        self._thinking = thinking
        self._markup = markup = Markup(tokenizer)
        line = self.line
        self._no_think = markup(NO_THINK)
        self._call = markup(f"{line}<tool_call>")
        self._key = markup("<arg_key>")
        self._value = markup(f"</arg_key>{line}<arg_value>")
        self._value_end = markup(f"</arg_value>{line}")
        self._call_end = markup("</tool_call>")
        self._result = markup(f"{line}<tool_response>{line}")
        self._result_end = markup(f"{line}</tool_response>")
        self._tools = lru_cache(maxsize=1024)(self._tool_pieces)

    @property
    def reasoning(self) -> Reasoning:
        """Whether reasoning is trained, and what answers without it teach."""
        modes: dict[Thinking, Reasoning] = {"on": "expected", "auto": "optional"}
        return modes.get(self._thinking, "untrained")

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """One row for each round with reasoning, which ends it, and one for what is left.

        With thinking "auto" the rounds without reasoning go in a row of their own, in which the
        model does not think: a row's mode can be told from any part of it.
        """
        off = self._thinking == "off"
        conversation = written(conversation, lambda message: _normal(message, off))
        if off:
            return (conversation,)
        ends = reasoned_ends(conversation.messages)
        return rows_of(conversation, ends, last_round, apart=self._thinking == "auto")

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the prefix and without the closing stop."""
        made: list[Piece] = []
        if conversation.tools:
            made += self._tools(orjson.dumps(conversation.tools))
        off = self._thinking == "off"
        messages = [_normal(message, off) for message in conversation.messages]
        if self._thinking == "auto":
            off = not any(message.reasoning for message in messages)
        thinks = len(messages) if off else last_round(messages)
        before: Message | None = None
        for turn, message in enumerate(messages):
            joined = goes_on(before, message)
            match message.role:
                case "assistant":
                    self._answer(made, turn, message, joined, off=off, thinks=turn >= thinks)
                case "tool":
                    follows = before is not None and before.role == "tool"
                    self._tool_result(made, turn, message, joined, follows=follows)
                case _:
                    self._question(made, turn, message, joined, off=off)
            before = message
        return made

    def _question(
        self, made: list[Piece], turn: int, message: Message, joined: bool, *, off: bool
    ) -> None:
        """What a person or the system says."""
        header, said = self.headers[message.role], self.line + message.content
        asked = off and message.role == "user" and message.ends
        mark = self._asked_not_to_think(message.content) if asked else ()
        if not message.begins:
            opening = () if joined else (header, self.line)
            lay(made, turn, opening, (message.content, *mark), trained=False, ends=True)
        elif mark:
            lay(made, turn, (), (header, said, *mark), trained=False, ends=True)
        else:
            made.append(Piece(header, said, False, True, turn))

    def _asked_not_to_think(self, question: str) -> Script:
        return () if question.endswith(NO_THINK) else self._no_think

    def _answer(
        self,
        made: list[Piece],
        turn: int,
        message: Message,
        joined: bool,
        *,
        off: bool,
        thinks: bool,
    ) -> None:
        """What the assistant thinks, says and calls."""
        content, calls = message.content, message.tool_calls
        prompt: Script
        answer: Script
        if message.begins:
            prompt, answer = self._opening(message.reasoning if thinks else "", off)
            if content:
                answer = (*answer, self.line, content)
        else:
            # The rest of a turn that was cut: what stands before an answer is repeated as context,
            # without reasoning, unless the piece before it stands in the same row.
            given, thought = self._opening("", off)
            prompt = () if joined else (*given, *thought, self.line)
            answer = (content,)
        for call in calls:
            answer = (*answer, *self._call_script(call))
        ends = message.ends or bool(calls)
        lay(made, turn, prompt, answer, trained=message.trained, ends=ends)

    def _opening(self, reasoning: str, off: bool) -> tuple[Script, Script]:
        """What the model is given before an answer, and what it generates before its text."""
        thought = (self.line, self.start, reasoning.strip(), self.end)
        return ((self.assistant, *thought), ()) if off else ((self.assistant,), thought)

    def _call_script(self, call: ToolCall) -> Script:
        arguments = _arguments(call.arguments)
        script: list[int | str] = [*self._call, call.name, self.line]
        if arguments is None:
            script += [call.arguments, self.line]
        else:
            for key, value in arguments.items():
                script += [*self._key, key, *self._value, value, *self._value_end]
        return (*script, *self._call_end)

    def _tool_result(
        self, made: list[Piece], turn: int, message: Message, joined: bool, *, follows: bool
    ) -> None:
        """What a tool returned; results in a row stand under one `<|observation|>`."""
        header = () if follows else (self.observation,)
        opening = () if joined else (*header, *self._result)
        closing = self._result_end if message.ends else ()
        if not message.begins:
            script = (message.content, *closing)
            lay(made, turn, opening, script, trained=False, ends=True)
            return
        script = (*opening, message.content, *closing)
        first = script[0]
        if isinstance(first, str) and made and made[-1].text:
            # Text that goes on behind the last result is encoded as one with it.
            made[-1] = made[-1]._replace(text=made[-1].text + first)
            script = script[1:]
        lay(made, turn, (), script, trained=False, ends=True)

    def _tool_pieces(self, tools: bytes) -> tuple[Piece, ...]:
        """The list of tools: control tokens are what the template says, not the definitions."""
        template = shipped.template(self.asset, edged=True)
        said, *rest = template.render(messages=[], tools=orjson.loads(tools)).split(shipped.EDGE)
        script: list[int | str] = [*self._markup(said)][len(self.prefix) :]
        for definition, said in zip(rest[::2], rest[1::2], strict=True):
            script += [definition, *self._markup(said)]
        made: list[Piece] = []
        lay(made, NO_TURN, (), script, trained=False, ends=True)
        return tuple(made)


class Glm46(Glm45):
    """The GLM-4.6 template, which is that of GLM-4.5."""

    name = "glm4.6"


class Glm47(Glm45):
    """The GLM-4.7 template: no line breaks, and a prompt of its own for answers without reasoning.

    Its option `clear_thinking` stays at its default: reasoning before the last question is left
    out.
    """

    name = "glm4.7"
    asset = "glm4.7"
    line = ""

    @property
    def reasoning(self) -> Reasoning:
        """An answer without reasoning is trained behind the prompt that asks for none."""
        return "untrained" if self._thinking == "off" else "optional"

    def _opening(self, reasoning: str, off: bool) -> tuple[Script, Script]:
        if not reasoning:
            return (self.assistant, self.end), ()
        return (self.assistant, self.start), (reasoning.strip(), self.end)

    def _asked_not_to_think(self, question: str) -> Script:
        return ()


def _normal(message: Message, off: bool) -> Message:
    """An answer with the text that the template writes of it, the reasoning in its text apart."""
    if message.role != "assistant":
        return message
    content, reasoning = message.content, message.reasoning
    if END in content and message.part is None and (off or not reasoning):
        thought, content = parted(content)
        reasoning = reasoning or thought
    content = trimmed(message, content)
    if content == message.content and reasoning == message.reasoning:
        return message
    return replace(message, content=content, reasoning=reasoning)


def _arguments(text: str) -> dict[str, str] | None:
    """A call's arguments as the template writes each; None where the text is no JSON object."""
    try:
        found: Any = json.loads(text) if text.strip() else None
        if not isinstance(found, dict | None):
            return None
        shown = {key: _value(value) for key, value in (found or {}).items()}
        json.dumps(shown, ensure_ascii=False).encode()  # half a surrogate pair cannot be encoded
    except (ValueError, RecursionError):
        return None
    return shown


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""GLM-4-0414 and GLM-Z1-0414: GLM-4's turns with all system messages in front.

GLM-4-0414's template is a RECONSTRUCTION (shipped as assets/glm4-0414.jinja): it was put together
from descriptions and never compared with the model's own file. GLM-Z1's was typed from quotations.

Both templates write a tool call as GLM-4 does, its name in the header of an assistant's message of
its own, and results as observations; `tool_calls` are converted to that here.

GLM-Z1 is asked with `<|assistant|>`, a line break and `<think>`, and its template never shows what
it thought. The model's card has it begin with `<think>` and a line break; an answer with reasoning
is trained as what follows that prompt: line break, reasoning, line break, `</think>`, line break,
answer. In GLM-Z1's own vocabulary `<think>` is plain text; where it is an added token, its id is
taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson

from glmprep.families import shipped
from glmprep.families.piece import NO_TURN, Piece, Reasoning, Thinking
from glmprep.families.roles import LINE, PREFIX, SYSTEM, Roles, goes_on
from glmprep.families.script import Markup, Script, lay
from glmprep.families.thought import END, START, Messages, parted, rows_of, trimmed, written
from glmprep.records import Conversation, Message
from glmprep.tokenizer import Tokenizer


class Glm40414(Roles):
    """The GLM-4-0414 template, reconstructed; it has one mode and no place for reasoning."""

    name = "glm4-0414"
    note = "the template is a reconstruction, not the model's own file"
    reasoning: Reasoning = "untrained"

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking = "on") -> None:
        super().__init__(tokenizer)
        # As in GLM-4: <|assistant|> parts two pieces of one reply, <|system|> stops nothing.
        self.stops = frozenset((self.user, self.observation, self.assistant))

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The conversation itself: nothing that was said is left out later."""
        return (conversation,)

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """Tools and system messages, then the other turns in order."""
        made: list[Piece] = []
        if conversation.tools:
            text = tools_text(self.name, conversation.tools)
            made.append(Piece(self.system, text, False, True, NO_TURN))
        messages = self._rendered(conversation.messages)
        for system in (True, False):
            for turn, message in enumerate(messages):
                if (message.role == "system") is system:
                    joined = turn > 0 and goes_on(messages[turn - 1], message)
                    self._add(made, turn, message, joined=joined)
        return made

    def closing(self, conversation: Conversation) -> int:
        """As in every family; system messages do not stand at the end, wherever they came."""
        turns = conversation.messages
        said = (message for message in reversed(turns) if message.role != "system")
        return self.stop_after(next(said, turns[-1]))

    def _rendered(self, messages: Messages) -> Messages:
        """The messages with the text that the template writes of each, and no reasoning."""
        return [replace(m, reasoning="") if m.reasoning else m for m in messages]

    def _call_text(self, text: str) -> str:
        """The text that the template writes of a call's arguments."""
        return text

    def _add(self, made: list[Piece], turn: int, message: Message, *, joined: bool) -> None:
        trained = message.trained and message.role == "assistant"
        if message.content or message.reasoning or not message.tool_calls:
            prompt, answer = self._said(message, joined)
            lay(made, turn, prompt, answer, trained=trained, ends=message.ends)
        for call in message.tool_calls:
            text = f"{call.name}{LINE}{self._call_text(call.arguments)}"
            made.append(Piece(self.assistant, text, trained, True, turn))

    def _said(self, message: Message, joined: bool) -> tuple[Script, Script]:
        """A turn's header, and its text: what the model is given, and what it generates."""
        header = self.headers[message.role]
        if message.begins:
            return (header,), (LINE + message.content,)
        # The rest of a turn that was cut: header and line break are repeated as context, unless
        # the piece before it stands in the same row.
        return () if joined else (header, LINE), (message.content,)


class GlmZ1(Glm40414):
    """The GLM-Z1-0414 template, which has a prompt that makes the model think."""

    name = "glm-z1"
    note = "the template was typed from quotations of the model's own"

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking = "on") -> None:
        super().__init__(tokenizer)
        self.reasoning = "untrained" if thinking == "off" else "expected"
        markup = Markup(tokenizer)
        self._asked: Script = (self.assistant, *markup(LINE + START))
        self._thought: Script = markup(LINE + END)

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """One row for each answer with reasoning, which ends it, and one for what is left."""
        conversation = written(conversation, _normal)
        if self.reasoning == "untrained":
            return (conversation,)
        return rows_of(conversation, _ends(conversation.messages), _last_answer)

    def _rendered(self, messages: Messages) -> Messages:
        """No reasoning but that of an answer at the end, which the model is to give."""
        thinks = len(messages) if self.reasoning == "untrained" else _last_answer(messages)
        shown = [_normal(message) for message in messages]
        for turn, message in enumerate(shown):
            if message.reasoning and turn < thinks:
                shown[turn] = replace(message, reasoning="")
        return shown

    def _call_text(self, text: str) -> str:
        return text.split(END)[-1].strip()

    def _said(self, message: Message, joined: bool) -> tuple[Script, Script]:
        if not message.reasoning:
            return super()._said(message, joined)
        thought = (LINE + message.reasoning.strip(), *self._thought)
        return self._asked, (*thought, LINE + message.content) if message.content else thought


def tools_text(name: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """What the template writes between `<|system|>` and the next role for these tools."""
    return _tools_text(name, orjson.dumps(tools))


@lru_cache(maxsize=1024)
def _tools_text(name: str, tools: bytes) -> str:
    text = shipped.template(name).render(messages=[], tools=orjson.loads(tools))
    return text.removeprefix("".join(PREFIX) + SYSTEM)


def _normal(message: Message) -> Message:
    """A message with the text that the template writes of it, the reasoning in it apart.

    The template shows what follows the last `</think>`, of whoever's text, without white space
    around it.
    """
    content, reasoning = message.content, message.reasoning
    if message.role == "system":
        return message
    if END in content and message.part is None:
        if message.role == "assistant":
            reasoning = reasoning or parted(content)[0]
        content = content.split(END)[-1]
    content = trimmed(message, content)
    if content == message.content and reasoning == message.reasoning:
        return message
    return replace(message, content=content, reasoning=reasoning)


def _ends(messages: Messages) -> list[int]:
    """Behind each trained answer with reasoning, its pieces included."""
    return [
        _turn_end(messages, turn)
        for turn, message in enumerate(messages)
        if message.reasoning and message.trained
    ]


def _turn_end(messages: Messages, turn: int) -> int:
    end = turn + 1
    while end < len(messages) and goes_on(messages[end - 1], messages[end]):
        end += 1
    return end


def _last_answer(messages: Messages) -> int:
    """Where the last turn begins, its pieces included; behind the end if it is not trained."""
    turn = len(messages) - 1
    while turn > 0 and goes_on(messages[turn - 1], messages[turn]):
        turn -= 1
    return turn if messages[turn].trained else len(messages)

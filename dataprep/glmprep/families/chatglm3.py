"""ChatGLM3: `[gMASK]sop`, then each turn as `<|role|>`, its header's rest, and its content.

Follows the model's own code (tokenization_chatglm.py: build_single_message, build_chat_input), in
which the rest of the header, a tool's name and a line break, is encoded apart from the content, and
SentencePiece puts a space before either. The rest of a turn that was cut goes on without one.

Tool calls are written as the official fine-tuning code writes them: the tool's name in the header,
then a block of Python that calls `tool_call` with the arguments by name. That code ends a
conversation with `</s>`; rows here end with the role token that the model stops at between turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from glmprep.families.piece import NO_TOKEN, NO_TURN, Piece, Reasoning, Thinking
from glmprep.families.roles import ASSISTANT, LINE, OBSERVATION, SYSTEM, USER, goes_on
from glmprep.records import Conversation, Message, ToolCall
from glmprep.tokenizer import Tokenizer

PREFIX = ("[gMASK]", "sop")
PAD = "<unk>"
SPACE = " "
TOOLS = "Answer the following questions as best as you can. You have access to the following tools:"
"""The system message of the official code where there are tools."""


class ChatGlm3:
    """ChatGLM3's chat format on its SentencePiece vocabulary.

    It has one mode, whatever `thinking` says, and no place for reasoning.
    """

    name = "chatglm3"
    note = ""
    reasoning: Reasoning = "untrained"

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking = "on") -> None:
        token = tokenizer.added_id
        self.prefix: tuple[int, ...] = tuple(token(text) for text in PREFIX)
        self.pad_id = token(PAD)
        self.headers = {
            "system": token(SYSTEM),
            "user": token(USER),
            "assistant": token(ASSISTANT),
            "tool": token(OBSERVATION),
        }
        # As in GLM-4: <|assistant|> parts two pieces of one reply, <|system|> stops nothing.
        self.stops = frozenset(self.headers[role] for role in ("user", "tool", "assistant"))

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The conversation itself: nothing that was said is left out later."""
        return (conversation,)

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the prefix and without the closing stop."""
        made: list[Piece] = []
        messages = conversation.messages
        told = bool(conversation.tools) and messages[0].role == "system" and messages[0].content
        if conversation.tools and not told:
            text = f"{TOOLS}{LINE}{tools_text(conversation.tools)}"
            made += self._block("system", "", text, NO_TURN)
        before: Message | None = None
        for turn, message in enumerate(messages):
            if told and turn == 0:
                text = f"{message.content}{LINE}{tools_text(conversation.tools)}"
                made += self._block("system", "", text, turn)
            else:
                made += self._message(turn, message, joined=goes_on(before, message))
            before = message
        return made

    def closing(self, conversation: Conversation) -> int:
        """`<|observation|>` after a tool call, `<|user|>` after an answer, none after the rest."""
        last = conversation.messages[-1]
        if last.role != "assistant" or not last.ends:
            return NO_TOKEN
        return self.headers["tool" if last.tool_calls else "user"]

    def _message(self, turn: int, message: Message, *, joined: bool) -> list[Piece]:
        made: list[Piece] = []
        role, trained = message.role, message.trained and message.role == "assistant"
        if message.content:
            lead = SPACE if message.begins else ""
            content = Piece(NO_TOKEN, lead + message.content, trained, message.ends, turn)
            header = self._header(role, "", turn, trained=trained and message.begins)
            made += [content] if joined else [header, content]
        for call in message.tool_calls:
            made += self._block(role, call.name, call_text(call), turn, trained=trained)
        return made

    def _block(
        self, role: str, metadata: str, content: str, turn: int, *, trained: bool = False
    ) -> list[Piece]:
        """A whole turn: the role, the rest of its header, and its content apart from them."""
        header = self._header(role, metadata, turn, trained=trained)
        return [header, Piece(NO_TOKEN, SPACE + content, trained, True, turn)]

    def _header(self, role: str, metadata: str, turn: int, *, trained: bool) -> Piece:
        return Piece(self.headers[role], f"{SPACE}{metadata}{LINE}", trained, False, turn)


def call_text(call: ToolCall) -> str:
    """The block of Python by which the model calls a tool.

    Arguments that are not a JSON object have no names to call with, and stand there as they are.
    """
    try:
        arguments = json.loads(call.arguments)
        if isinstance(arguments, dict):
            values = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        else:
            values = call.arguments
    except (ValueError, RecursionError):
        values = call.arguments
    return f"```python\ntool_call({values})\n```"


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """The definitions of the tools as the system message lists them."""
    return _tools_text(orjson.dumps([tool.get("function", tool) for tool in tools]))


@lru_cache(maxsize=1024)
def _tools_text(tools: bytes) -> str:
    return json.dumps(orjson.loads(tools), indent=4, ensure_ascii=False)

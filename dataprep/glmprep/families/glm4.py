"""GLM-4-9B-chat: `[gMASK]<sop>`, then `<|role|>` and a line break before each turn's text.

The ids are those of the model's own chat template (shipped as assets/glm4.jinja).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from glmprep.families import shipped
from glmprep.families.piece import NO_TOKEN, NO_TURN, Piece, Reasoning, Thinking, whole
from glmprep.families.roles import (
    ASSISTANT,
    LINE,
    OBSERVATION,
    PREFIX,
    SYSTEM,
    USER,
    Roles,
    goes_on,
)
from glmprep.records import Conversation, Message
from glmprep.tokenizer import Tokenizer

__all__ = ["ASSISTANT", "LINE", "OBSERVATION", "SYSTEM", "USER", "Glm4", "tools_text"]


class Glm4(Roles):
    """The GLM-4-9B-chat template on a tokenizer that has its role tokens.

    It has one mode, whatever `thinking` says, and no place for reasoning.
    """

    name = "glm4"
    reasoning: Reasoning = "untrained"

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking = "on") -> None:
        super().__init__(tokenizer)
        # A reply in several pieces (text, then a call) has <|assistant|> between them, which the
        # model must produce too; <|system|> stops nothing and is never a target.
        self.stops = frozenset((self.user, self.observation, self.assistant))

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The conversation itself: nothing that was said is left out later."""
        return (conversation,)

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the prefix and without the closing stop."""
        made: list[Piece] = []
        if conversation.tools:
            made.append(Piece(self.system, tools_text(conversation.tools), False, True, NO_TURN))
        headers, before = self.headers, None
        for turn, message in enumerate(conversation.messages):
            if message.part is None and message.content and not message.tool_calls:
                trained = message.untrained is None and message.role == "assistant"
                made.append(whole(headers[message.role], LINE + message.content, trained, turn))
            else:
                self._add(made, turn, message, joined=goes_on(before, message))
            before = message
        return made

    def _add(self, made: list[Piece], turn: int, message: Message, *, joined: bool) -> None:
        header = self.headers[message.role]
        trained = message.trained and message.role == "assistant"
        if message.content and message.begins:
            made.append(Piece(header, LINE + message.content, trained, message.ends, turn))
        elif message.content:
            # The rest of a turn that was cut: header and line break are repeated as context,
            # unless the piece before it stands in the same row.
            if not joined:
                made.append(Piece(header, LINE, False, False, turn))
            made.append(Piece(NO_TOKEN, message.content, trained, message.ends, turn))
        for call in message.tool_calls:
            text = f"{call.name}{LINE}{call.arguments}"
            made.append(Piece(header, text, trained, True, turn))


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """What the template writes between `<|system|>` and the next role for these tools."""
    return _tools_text(orjson.dumps(tools))


@lru_cache(maxsize=1024)
def _tools_text(tools: bytes) -> str:
    message = {"role": "system", "content": "", "tools": orjson.loads(tools)}
    text = shipped.template("glm4").render(messages=[message])
    return text.removeprefix("".join(PREFIX) + SYSTEM)

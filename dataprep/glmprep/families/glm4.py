"""GLM-4-9B-chat: `[gMASK]<sop>`, then `<|role|>` and a line break before each turn's text.

The ids are those of the model's own chat template (shipped as assets/glm4.jinja). GLM has no token
that ends a turn: the next role token does, `<|user|>` after an answer and `<|observation|>` after a
tool call. The template leaves out the last one, so rows here carry it as their closing stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import orjson

from glmprep.families.piece import NO_TOKEN, NO_TURN, Piece
from glmprep.records import Conversation, Message
from glmprep.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2 import Template

SYSTEM, USER, ASSISTANT, OBSERVATION = (
    f"<|{role}|>" for role in ("system", "user", "assistant", "observation")
)
PREFIX = ("[gMASK]", "<sop>")
PAD = "<|endoftext|>"
LINE = "\n"


class Glm4:
    """The GLM-4-9B-chat template on a tokenizer that has its role tokens."""

    name = "glm4"

    def __init__(self, tokenizer: Tokenizer) -> None:
        token = tokenizer.added_id
        self.prefix: tuple[int, ...] = tuple(token(text) for text in PREFIX)
        self.system, self.user = token(SYSTEM), token(USER)
        self.assistant, self.observation = token(ASSISTANT), token(OBSERVATION)
        self.pad_id = token(PAD)
        # A reply in several pieces (text, then a call) has <|assistant|> between them, which the
        # model must produce too; <|system|> stops nothing and is never a target.
        self.stops = frozenset((self.user, self.observation, self.assistant))

    @cached_property
    def headers(self) -> dict[str, int]:
        """Header id of each role."""
        return {
            "system": self.system,
            "user": self.user,
            "assistant": self.assistant,
            "tool": self.observation,
        }

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The conversation itself: nothing that was said is left out later."""
        return (conversation,)

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the prefix and without the closing stop."""
        made: list[Piece] = []
        if conversation.tools:
            made.append(Piece(self.system, tools_text(conversation.tools), False, True, NO_TURN))
        before: Message | None = None
        for turn, message in enumerate(conversation.messages):
            self._add(made, turn, message, joined=_goes_on(before, message))
            before = message
        return made

    def closing(self, conversation: Conversation) -> int:
        """`<|observation|>` after a tool call, `<|user|>` after an answer, none after the rest."""
        last = conversation.messages[-1]
        if last.role != "assistant" or not last.ends:
            return NO_TOKEN
        return self.observation if last.tool_calls else self.user

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


def _goes_on(before: Message | None, message: Message) -> bool:
    """Whether `message` is the next piece of the turn that `before` is a piece of."""
    if before is None or before.part is None or message.part is None:
        return False
    return before.role == message.role and message.part == (before.part[0] + 1, before.part[1])


def tools_text(tools: tuple[Any, ...]) -> str:
    """What the template writes between `<|system|>` and the next role for these tools."""
    return _tools_text(orjson.dumps(tools))


@cache
def _template() -> Template:
    import json

    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = tojson
    source = resources.files("glmprep").joinpath("assets/glm4.jinja").read_text("utf-8")
    return environment.from_string(source)


@lru_cache(maxsize=1024)
def _tools_text(tools: bytes) -> str:
    message = {"role": "system", "content": "", "tools": orjson.loads(tools)}
    return _template().render(messages=[message]).removeprefix("".join(PREFIX) + SYSTEM)

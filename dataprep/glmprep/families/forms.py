"""Conversations as the dicts that chat templates read.

Most templates read OpenAI's form. GLM-4-9B's reads a form of its own: tools hang on a system
message, and a call is a message of the assistant whose `metadata` is the tool's name. The 0414
templates read such calls too, but take tools from outside. Which form is meant shows in the
template's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from glmprep.families.rendering import Renderer
from glmprep.families.roles import goes_on
from glmprep.records import Conversation, Message, ToolCall

Form = dict[str, Any]
TOOLS_INSIDE = re.compile(r"""\[['"]tools['"]\]|\.tools\b""")
"""How a template reads the tools of a message."""


class Said(NamedTuple):
    """A message as a template reads it: which turn it is of, and whether that is trained.

    `parts` are the messages whose text is its content: one, or the pieces of a turn that was cut.
    """

    turn: int
    form: Form
    trained: bool
    parts: tuple[Message, ...] = ()


def parts_replies(renderer: Renderer) -> bool:
    """Whether a reply's text and its calls are messages of their own: GLM-4's form."""
    return "metadata" in renderer.source


def forms_of(
    conversation: Conversation, renderer: Renderer
) -> tuple[list[Said], list[Form] | None]:
    """The messages and the tools in the form that the template reads."""
    tools: list[Form] | None = [dict(tool) for tool in conversation.tools] or None
    if not parts_replies(renderer):
        return _openai(conversation), tools
    said = _native(conversation)
    if tools and TOOLS_INSIDE.search(renderer.source):
        return [Said(-1, {"role": "system", "content": "", "tools": tools}, False), *said], None
    return said, tools


def _openai(conversation: Conversation) -> list[Said]:
    """Messages with `tool_calls` (arguments as objects, as transformers wants them) and ids."""
    made: list[Said] = []
    waiting: list[tuple[str, str]] = []
    count = 0
    for turn, parts in _turns(conversation):
        message = parts[0]
        form: Form = {"role": message.role, "content": "".join(part.content for part in parts)}
        if message.reasoning:
            form["reasoning_content"] = message.reasoning
        calls = [call for part in parts for call in part.tool_calls]
        if calls:
            # Nine letters and digits: what templates that check ids ask for.
            ids = [f"call{count + place:05d}" for place in range(len(calls))]
            form["tool_calls"] = [_call(*pair) for pair in zip(ids, calls, strict=True)]
            waiting = [(name, call.name) for name, call in zip(ids, calls, strict=True)]
            count += len(calls)
        if message.role == "tool" and waiting:
            form["tool_call_id"], form["name"] = waiting.pop(0)
        made.append(Said(turn, form, message.trained, parts))
    return made


def _native(conversation: Conversation) -> list[Said]:
    """Messages with `metadata` and `observation`."""
    made: list[Said] = []
    for turn, parts in _turns(conversation):
        role = "observation" if parts[0].role == "tool" else parts[0].role
        content, trained = "".join(part.content for part in parts), parts[0].trained
        if content:
            made.append(Said(turn, {"role": role, "content": content}, trained, parts))
        for call in (call for part in parts for call in part.tool_calls):
            form = {"role": role, "metadata": call.name, "content": call.arguments}
            made.append(Said(turn, form, trained))
    return made


def _turns(conversation: Conversation) -> Iterator[tuple[int, tuple[Message, ...]]]:
    """Turns with their messages: one, or the pieces of a turn that stand one after the other."""
    first, parts = 0, conversation.messages[:1]
    for turn, message in enumerate(conversation.messages[1:], 1):
        if goes_on(parts[-1], message):
            parts = (*parts, message)
            continue
        yield first, parts
        first, parts = turn, (message,)
    yield first, parts


def _call(name: str, call: ToolCall) -> Form:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    shown = arguments if isinstance(arguments, dict) else call.arguments
    function = {"name": call.name, "arguments": shown}
    return {"id": name, "type": "function", "function": function}

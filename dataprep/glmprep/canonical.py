"""Conversations to canonical JSON Lines, which every command and most other tools read."""

from __future__ import annotations

from typing import Any

import orjson

from glmprep.records import Conversation, Message


def line(conversation: Conversation, **more: Any) -> bytes:
    """One conversation as a line; `more` adds fields, such as where a segment came from."""
    return orjson.dumps(row(conversation) | more) + b"\n"


def row(conversation: Conversation) -> dict[str, Any]:
    """One conversation as a canonical row."""
    value: dict[str, Any] = {"id": conversation.id}
    if conversation.tools:
        value["tools"] = list(conversation.tools)
    value["messages"] = [_message(message) for message in conversation.messages]
    return value


def _message(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        value["reasoning_content"] = message.reasoning
    if message.tool_calls:
        value["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if not message.trained:
        value["weight"] = 0
    if message.part is not None:
        value["part"] = list(message.part)
    return value

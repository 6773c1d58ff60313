"""Rows to conversations: canonical `messages` and ShareGPT, found by looking.

Canonical (the form of OpenAI's chat fine-tuning files):
    {"messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "tool_calls": [{"function": {"name": …, "arguments": …}}]},
                  {"role": "tool", "content": "…"}], "tools": […]}
ShareGPT:
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}],
     "system": "…", "tools": "[…]"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import orjson

from glmprep.findings import Severity, rule
from glmprep.records import ROLES, Conversation, Message, RawRow, Rejection, Role, ToolCall

ROLE_NAMES: dict[str, str] = {
    **{role: role for role in ROLES},
    "developer": "system",
    "observation": "tool",
    "function": "tool",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
}


BUILT_IN_TOOLS = ("python", "simple_browser", "cogview")
"""Tools that have no definition: the model's template describes them itself."""


class Malformed(Exception):
    """A row that has no conversation in it; carries the rule that says so."""

    def __init__(self, rule_id: str, reason: str) -> None:
        super().__init__(reason)
        self.rule_id = rule_id


@rule("DF010", Severity.ERROR)
def unknown_schema(value: Any) -> str | None:
    """A row has no known form.

    Evidence: rows that hold neither `messages` nor `conversations` as a list: {count}.
    Why: without a list of turns there is nothing to train on.
    Fix: write {{"messages": [{{"role": "user", "content": "…"}}, {{"role": "assistant", …}}]}}.
    """
    if not isinstance(value, dict):
        return f"a row must be an object, not {_kind(value)}"
    turns = _either(value, "messages", "conversations")
    if not isinstance(turns, list):
        return "no list 'messages' or 'conversations'"
    return None if turns else "the list of messages is empty"


@rule("DF011", Severity.ERROR)
def unknown_role(role: Any, names: Mapping[str, str]) -> str | None:
    """A role is not known.

    Evidence: rows with a message whose role is not known: {count}.
    Why: the chat template has no place for it, and a guess could train on the wrong side.
    Fix: name what it stands for, for example --role client=user --role counselor=assistant.
    """
    if isinstance(role, str) and role in names:
        return None
    return f"unknown role {str(role)[:40]!r}"


@rule("DF012", Severity.ERROR)
def content_not_text(content: Any) -> str | None:
    """A message's content is not text.

    Evidence: rows with a message whose content is neither text, null nor text parts: {count}.
    Why: images, numbers and nested objects have no form in a text template; guessing one would
    train on something that the model never sees in use.
    Fix: write the content as a string.
    """
    if content is None or isinstance(content, str):
        return None
    if isinstance(content, list) and all(
        isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str)
        for p in content
    ):
        return None
    return f"content is {_kind(content)}, not text"


@rule("DF013", Severity.ERROR)
def malformed_tools(value: Any) -> str | None:
    """Tools or tool calls are malformed.

    Evidence: rows whose tools or tool calls do not follow the function-calling form: {count}.
    Why: a call without a name or arguments cannot be rendered as the model would write it.
    Fix: write calls as {{"function": {{"name": "…", "arguments": {{…}}}}}} and tools as a list of
    such definitions.
    """
    function = _function(value)
    if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
        return None
    return "a tool or tool call without a name"


@rule("DF014", Severity.ERROR)
def malformed_marks(message: Mapping[str, Any]) -> str | None:
    """A message's `weight` or `part` is malformed.

    Evidence: rows with a `weight` other than 0 or 1, or a `part` other than [i, n]: {count}.
    Why: these marks decide which tokens are trained, so a wrong one cannot be passed over.
    Fix: write "weight": 0 or 1; leave "part" to glmprep segment.
    """
    if message.get("weight") not in (None, 0, 1):
        return f"weight {str(message['weight'])[:40]} is neither 0 nor 1"
    part = message.get("part")
    if part is None:
        return None
    sound = (
        isinstance(part, list)
        and len(part) == 2
        and all(type(number) is int for number in part)
        and 0 <= part[0] < part[1]
    )
    return None if sound else f"part {str(part)[:40]} is not [i, n] with 0 <= i < n"


def parse(
    rows: Iterable[RawRow | Rejection], roles: Mapping[str, str] | None = None
) -> Iterator[Conversation | Rejection]:
    """Rows as conversations; rejections pass through. `roles` maps further role names."""
    names = {**ROLE_NAMES, **(roles or {})}
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        try:
            yield _conversation(row, names)
        except Malformed as error:
            yield Rejection(rule=error.rule_id, reason=str(error), origin=row.origin)
        except RecursionError:
            reason = "nested too deeply"
            yield Rejection(rule=unknown_schema.id, reason=reason, origin=row.origin)


def _conversation(row: RawRow, names: Mapping[str, str]) -> Conversation:
    value = row.value
    _require(unknown_schema.id, unknown_schema(value))
    turns = _either(value, "messages", "conversations")
    messages = [_message(turn, names, place) for place, turn in enumerate(turns, 1)]
    tools = _tools(value.get("tools"))
    for turn in turns:
        if turn.get("tools"):
            tools += _tools(turn["tools"])
    system = _text(value.get("system"))
    if system and (messages[0].role, messages[0].content) != ("system", system):
        messages.insert(0, Message(role="system", content=system))
    name = value.get("id")
    return Conversation(
        id=f"{PurePath(row.origin.path).name}:{row.origin.line}" if name is None else str(name),
        messages=tuple(messages),
        tools=tools,
        origin=row.origin,
    )


def _message(turn: Any, names: Mapping[str, str], place: int) -> Message:
    if not isinstance(turn, dict):
        raise Malformed(unknown_schema.id, f"message {place} is {_kind(turn)}, not an object")
    called: Any = _either(turn, "role", "from")
    role = names.get(called) if isinstance(called, str) else None
    if role is None:
        raise Malformed(unknown_role.id, f"message {place}: {unknown_role(called, names)}")
    content = _either(turn, "content", "value")
    if not isinstance(content, str):  # the usual case first: this runs for every message
        content = _text(content, place)
    calls: tuple[ToolCall, ...] = ()
    if called == "function_call":
        calls, content = _calls(_loads(content, place), place), ""
    elif turn.get("tool_calls"):
        calls = _calls(turn["tool_calls"], place)
    weight, part = turn.get("weight"), turn.get("part")
    if weight is not None or part is not None:
        _require(malformed_marks.id, malformed_marks(turn), place)
    if calls and role != "assistant":
        raise Malformed(malformed_tools.id, f"message {place}: a tool call by '{role}'")
    return Message(
        role=_as_role(role),
        content=content,
        tool_calls=calls,
        untrained="weight" if weight == 0 else None,
        part=tuple(part) if part else None,
    )


def _either(value: Mapping[str, Any], name: str, other: str) -> Any:
    """The field of one schema, or of the other where it is missing or null."""
    found = value.get(name)
    return value.get(other) if found is None else found


def _text(content: Any, place: int | None = None) -> str:
    """The text of content that is text, null or a list of parts."""
    _require(content_not_text.id, content_not_text(content), place)
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or ())


def _calls(value: Any, place: int) -> tuple[ToolCall, ...]:
    calls = []
    for call in value if isinstance(value, list) else [value]:
        _require(malformed_tools.id, malformed_tools(call), place)
        function = _function(call)
        arguments = function.get("arguments", function.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = _dumps(arguments)
        calls.append(ToolCall(name=function["name"], arguments=arguments))
    return tuple(calls)


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Definitions as `{"type": "function", "function": {…}}`; built-in types stay as they are."""
    if isinstance(value, str):
        value = _loads(value) if value.strip() else []
    if value is None or value == []:
        return ()
    if not isinstance(value, list):
        raise Malformed(malformed_tools.id, f"tools are {_kind(value)}, not a list")
    tools = []
    for tool in value:
        kind = tool.get("type", "function") if isinstance(tool, dict) else "function"
        if kind in BUILT_IN_TOOLS:
            tools.append(tool)
            continue
        if kind != "function":
            raise Malformed(malformed_tools.id, f"unknown type of tool {str(kind)[:40]!r}")
        _require(malformed_tools.id, malformed_tools(tool))
        tools.append({"type": "function", "function": _function(tool)})
    try:
        orjson.dumps({"tools": tools})
    except TypeError as error:
        raise Malformed(malformed_tools.id, "tools: nested too deeply") from error
    return tuple(tools)


def _function(value: Any) -> Any:
    return value.get("function", value) if isinstance(value, dict) else value


def _loads(text: Any, place: int | None = None) -> Any:
    try:
        return orjson.loads(text or "")
    except (orjson.JSONDecodeError, TypeError) as error:
        where = "tools" if place is None else f"message {place}: the call"
        raise Malformed(malformed_tools.id, f"{where}: not JSON") from error


def _dumps(value: Any) -> str:
    """JSON with a space after ':' and ',', as Python and the model's own training data write it."""
    import json

    return json.dumps(value, ensure_ascii=False)


def _require(rule_id: str, reason: str | None, place: int | None = None) -> None:
    if reason is not None:
        raise Malformed(rule_id, reason if place is None else f"message {place}: {reason}")


def _as_role(role: str) -> Role:
    assert role in ROLES
    return role  # type: ignore[return-value]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

"""Tools and tool calls, in whatever form they come: lists, single objects, or JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from glmprep.schemas.rules import Malformed, kind, malformed_tools, require

Tools = tuple[Mapping[str, Any], ...]
KEPT, KEPT_BYTES = 1024, 1 << 14
"""So many lists of tools are kept, of so many bytes of JSON each."""
BUILT_IN_TOOLS = ("python", "simple_browser", "cogview")
"""Tools that have no definition: the model's template describes them itself."""


def named_arguments(value: Any, place: int) -> list[tuple[str, str]]:
    """Name and arguments of one call or a list of them; arguments as text.

    Raises Malformed by DF013 for a call without a name.
    """
    found = []
    for call in value if isinstance(value, list) else [value]:
        require(malformed_tools, call, place)
        function = call.get("function", call)
        arguments = function.get("arguments", function.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = dumps(arguments)
        found.append((function["name"], arguments))
    return found


def tool_calls(value: Any, place: int) -> list[dict[str, Any]]:
    """Calls in OpenAI's form; errors as in `named_arguments`."""
    return [
        {"type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in named_arguments(value, place)
    ]


def tools(value: Any) -> Tools:
    """Definitions as `{"type": "function", "function": {…}}`; built-in types stay as they are.

    Many conversations offer the same tools: equal lists become one.
    """
    if value is None or value == []:
        return ()
    try:
        key = value if isinstance(value, str) else orjson.dumps(value)
    except TypeError:
        return _definitions(value)
    known = _known.get(key)
    if known is None:
        known = _definitions(value)
        if len(key) <= KEPT_BYTES:
            if len(_known) >= KEPT:
                _known.clear()
            _known[key] = known
    return known


def _definitions(value: Any) -> Tools:
    if isinstance(value, str):
        value = loads(value) if value.strip() else []
    if not isinstance(value, list):
        raise Malformed(malformed_tools, f"tools are {kind(value)}, not a list")
    found = []
    for tool in value:
        type_ = tool.get("type", "function") if isinstance(tool, dict) else "function"
        if type_ in BUILT_IN_TOOLS:
            found.append(tool)
            continue
        if type_ != "function":
            raise Malformed(malformed_tools, f"unknown type of tool {str(type_)[:40]!r}")
        require(malformed_tools, tool)
        found.append({"type": "function", "function": tool.get("function", tool)})
    try:
        orjson.dumps({"tools": found})
    except TypeError as error:
        raise Malformed(malformed_tools, "tools: nested too deeply, or not JSON") from error
    return tuple(found)


_known: dict[str | bytes, Tools] = {}


def loads(text: Any, place: int | None = None) -> Any:
    """The value of JSON text that holds tools, or the call of message `place`."""
    try:
        return orjson.loads(text or "")
    except (orjson.JSONDecodeError, TypeError) as error:
        raise Malformed(
            malformed_tools, "tools: not JSON" if place is None else "the call: not JSON", place
        ) from error


def dumps(value: Any) -> str:
    """JSON with a space after ':' and ',', as Python and the model's own training data write it."""
    return _encode(value)


_encode = json.JSONEncoder(ensure_ascii=False).encode

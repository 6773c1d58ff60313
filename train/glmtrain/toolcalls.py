"""The tool calls that a generated text writes."""

from __future__ import annotations

import ast
import json
import re
from typing import Any, TypeAlias

TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
PYTHON = re.compile(r"```python\s*(tool_call\(.*\))\s*```", re.DOTALL)
Call: TypeAlias = tuple[str, str]
"""A tool's name, and its arguments as JSON with sorted keys: equal where they mean the same."""


def calls_of(text: str) -> list[Call]:
    """The tool calls that a text writes, in the form of any GLM; empty where one cannot be read.

    GLM-4.5 and later tag each call, ChatGLM3 writes a line of Python, which is read and never run,
    and the others a name and JSON on the lines after it.
    """
    try:
        return [_tagged(call) for call in TAGGED.findall(text)] or _plain(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return []


def _plain(text: str) -> list[Call]:
    name, line, arguments = text.strip().partition("\n")
    if not line:
        return []
    python = PYTHON.search(arguments)
    return [(name.strip(), _json(_keywords(python[1]) if python else json.loads(arguments)))]


def _tagged(call: str) -> Call:
    name = call.split("<arg_key>")[0].strip()
    return name, _json({key.strip(): _value(text.strip()) for key, text in ARGUMENT.findall(call)})


def _value(text: str) -> Any:
    """A JSON value; what is none is a string without its quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _keywords(text: str) -> dict[str, Any]:
    """The arguments by name of a call in Python; raises ValueError where one is no literal."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("arguments without names")
    return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)

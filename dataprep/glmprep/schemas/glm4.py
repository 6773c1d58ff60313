"""GLM-4's form for fine-tuning with tools.

    {"messages": [{"role": "system", "content": "", "tools": […]},
                  {"role": "user", "content": "…"},
                  {"role": "assistant", "metadata": "name", "content": "{arguments}"},
                  {"role": "observation", "content": "…"},
                  {"role": "assistant", "content": "…"}]}

A call is named by `metadata`, as the model's template writes it. The official example has none and
writes the whole call, `{"name": …, "arguments": …}`, as the answer's text; others write the name,
a line break and the arguments. Both are read as calls where an observation follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.rules import Malformed, malformed_tools
from glmprep.schemas.turns import CALL, RESULT, list_row

NAME = "glm4"


def recognise(look: Look) -> bool:
    """Whether a turn with a role has tools or metadata, or is an observation."""
    turns = look.turns
    return (
        look.said is None
        and isinstance(turns, list)
        and any(
            isinstance(turn, dict)
            and (turn.get("role") == RESULT or bool(turn.get("tools")) or bool(_metadata(turn)))
            for turn in turns
        )
    )


def convert(look: Look, context: Context) -> Row:
    """The canonical row."""
    return list_row(look, context, _turns(look.turns, context))


def _metadata(turn: Row) -> str:
    """The name of the tool that an assistant's turn calls, or nothing."""
    found = turn.get("metadata")
    return found.strip() if isinstance(found, str) else ""


def _turns(turns: list[Any], context: Context) -> Iterator[tuple[int, Any]]:
    for place, (turn, following) in enumerate(zip(turns, [*turns[1:], None], strict=True), 1):
        if not isinstance(turn, dict) or turn.get("tool_calls"):
            yield place, turn
            continue
        role, name = turn.get("role"), _metadata(turn)
        speaks = isinstance(role, str) and context.names.get(role) == "assistant"
        call = None
        if speaks and name:
            call = _named_call(name, turn, place)
        elif speaks and isinstance(following, dict) and following.get("role") == RESULT:
            call = _written_call(turn.get("content"))
        if call is None:
            yield place, turn
        else:
            rest = {key: value for key, value in turn.items() if key != "metadata"}
            yield place, {**rest, "role": CALL, "content": call}


def _named_call(name: str, turn: Row, place: int) -> dict[str, Any]:
    if any(character.isspace() for character in name):
        reason = f"metadata {name[:40]!r} is not the name of a tool"
        raise Malformed(malformed_tools, reason, place)
    return {"name": name, "arguments": turn.get("content") or "{}"}


def _written_call(content: Any) -> dict[str, Any] | None:
    """The call that an answer's text is: JSON, or a name and JSON in the next line."""
    if not isinstance(content, str):
        return None
    value = _object(content)
    if value is not None:
        return value if isinstance(value.get("name"), str) else None
    name, line, arguments = content.strip().partition("\n")
    if line and name and not any(c.isspace() for c in name) and _object(arguments) is not None:
        return {"name": name, "arguments": arguments.strip()}
    return None


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None

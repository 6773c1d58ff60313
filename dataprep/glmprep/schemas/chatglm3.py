"""ChatGLM3's form for fine-tuning with tools.

    {"tools": […],
     "conversations": [{"role": "user", "content": "…"},
                       {"role": "assistant", "content": "what it thinks"},
                       {"role": "tool", "name": "…", "parameters": {…}, "observation": …},
                       {"role": "assistant", "content": "…"}]}

Its `tool` is two turns: the assistant's call, which is trained unless `"loss": false` says not to,
and the result, which never is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmprep.schemas import calls
from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.rules import MARKS
from glmprep.schemas.turns import CALL, RESULT, list_row

NAME = "chatglm3"


def recognise(look: Look) -> bool:
    """Whether turns with roles stand under `conversations`, or a turn is both call and result."""
    turns = look.turns
    if not isinstance(turns, list):
        return False
    first = turns[0] if turns and look.field == "conversations" else None
    if isinstance(first, dict) and first.get("role") is not None:
        return True
    return look.said is None and any(_is_call_and_result(turn) for turn in turns)


def convert(look: Look, context: Context) -> Row:
    """The canonical row."""
    return list_row(look, context, _turns(look.turns))


def _is_call_and_result(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "tool" and "parameters" in turn


def _turns(turns: list[Any]) -> Iterator[tuple[int, Any]]:
    for place, turn in enumerate(turns, 1):
        if not _is_call_and_result(turn):
            yield place, turn
            continue
        call = {"name": turn.get("name"), "arguments": turn["parameters"]}
        marks = {name: turn[name] for name in ("weight", *MARKS) if name in turn}
        yield place, {"role": CALL, "content": call, **marks}
        result = turn.get("observation")
        text = result if isinstance(result, str) else calls.dumps(result)
        known = {"role", "name", "parameters", "observation", *marks}
        rest = {name: value for name, value in turn.items() if name not in known}
        yield place, {"role": RESULT, "content": text, **rest}

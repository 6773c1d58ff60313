"""ShareGPT's form, as FastChat and LLaMA-Factory use it.

    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}],
     "system": "…", "tools": "[…]"}

A turn from `function_call` is a call as JSON text, one from `observation` its result.
"""

from __future__ import annotations

from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.turns import list_row

NAME = "sharegpt"


def recognise(look: Look) -> bool:
    """Whether the first turn says whom it is from."""
    turns = look.turns
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return False
    return turns[0].get("from") is not None and turns[0].get("role") is None


def convert(look: Look, context: Context) -> Row:
    """The canonical row."""
    return list_row(look, context)

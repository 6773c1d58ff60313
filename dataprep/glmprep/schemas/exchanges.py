"""Lists of exchanges, in which each item holds a question and its answer (ms-swift, Firefly).

    {"system": "…", "conversation": [{"human": "…", "assistant": "…"}, …]}

The keys of an item are roles, `--role` included; they speak in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.turns import list_row

NAME = "exchanges"
SAID = frozenset(("role", "from", "content", "value"))


def recognise(look: Look) -> bool:
    """Whether the first item has speakers for keys, and none of a turn's."""
    turns = look.turns
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return False
    return SAID.isdisjoint(turns[0]) and any(name in look.names for name in turns[0])


def convert(look: Look, context: Context) -> Row:
    """The canonical row; places are those of the exchanges."""
    return list_row(look, context, _turns(look.turns))


def _turns(items: list[Any]) -> Iterator[tuple[int, Any]]:
    for place, item in enumerate(items, 1):
        if not isinstance(item, dict) or not SAID.isdisjoint(item):
            yield place, item
            continue
        for speaker, text in item.items():
            yield place, {"role": speaker, "content": text}

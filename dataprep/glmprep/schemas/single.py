"""What the forms of one question and one answer share: text fields and the history before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from glmprep.schemas.context import Context, Row
from glmprep.schemas.rules import Malformed, content_not_text, kind, unknown_schema
from glmprep.schemas.turns import assemble

HISTORY = "history"


def text(row: Row, name: str) -> str:
    """A field of text; empty where it is missing. Raises Malformed for anything else."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(content_not_text, f"{name!r} is {kind(value)}, not text")
    return value


def present(row: Row, names: Sequence[str]) -> str | None:
    """The first of several fields that a row has, with text if one has; None where it has none."""
    found = [name for name in names if row.get(name) is not None]
    return next((name for name in found if row[name]), found[0] if found else None)


def exchange(row: Row, question: str, answer: str, context: Context, read: Sequence[str]) -> Row:
    """The canonical row of history, question and answer; `read` are the fields they came from.

    Answers in the history are trained too, as LLaMA-Factory and ms-swift do.
    """
    made = [
        *_history(row.get(HISTORY)),
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return assemble(row, made, context, read=(*read, HISTORY))


def _history(value: Any) -> Iterator[Row]:
    """Messages of a list of pairs `[question, answer]`, given as JSON text or as it is."""
    if isinstance(value, str) and value.strip():
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Malformed(unknown_schema, "the history is text, not a list of pairs") from error
    if not value:
        return
    if not isinstance(value, list):
        raise Malformed(unknown_schema, f"the history is {kind(value)}, not a list of pairs")
    for place, pair in enumerate(value, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            reason = f"item {place} of the history is not a pair of question and answer"
            raise Malformed(unknown_schema, reason)
        for role, said in zip(("user", "assistant"), pair, strict=True):
            if not isinstance(said, str):
                reason = f"item {place} of the history holds {kind(said)}, not text"
                raise Malformed(content_not_text, reason)
            yield {"role": role, "content": said}

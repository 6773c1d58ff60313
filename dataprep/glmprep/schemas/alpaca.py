"""Alpaca's form, as LLaMA-Factory and ms-swift read it.

    {"instruction": "…", "input": "…", "output": "…", "system": "…",
     "history": [["question", "answer"], …]}

The question is the instruction and, in the next line, the input. Dolly says `context` for the input
and `response` for the output.
"""

from __future__ import annotations

from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.rules import Malformed, unknown_schema
from glmprep.schemas.single import exchange, present, text

NAME = "alpaca"
INPUTS = ("input", "context")
OUTPUTS = ("output", "response")


def recognise(look: Look) -> bool:
    """Whether there is an instruction."""
    return look.row.get("instruction") is not None


def convert(look: Look, context: Context) -> Row:
    """The canonical row."""
    row = look.row
    more, output = present(row, INPUTS), present(row, OUTPUTS)
    if output is None:
        raise Malformed(unknown_schema, f"no {' or '.join(map(repr, OUTPUTS))} to the instruction")
    parts = [text(row, name) for name in ("instruction", more) if name]
    question = "\n".join(part for part in parts if part)
    read = [name for name in ("instruction", more, output) if name]
    return exchange(row, question, text(row, output), context, read)

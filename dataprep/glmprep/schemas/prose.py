"""Running text, as for pretraining: `{"text": "…"}`. It is known, so that it can be refused."""

from __future__ import annotations

from typing import NoReturn

from glmprep.schemas.context import Context, Look
from glmprep.schemas.rules import Malformed, pretraining_text

NAME = "text"


def recognise(look: Look) -> bool:
    """Whether there is text, and, since this form is tried last, nothing else that is known."""
    return pretraining_text(look.row.get("text")) is not None


def convert(look: Look, context: Context) -> NoReturn:
    """Raises Malformed by DF017."""
    raise Malformed(pretraining_text, str(pretraining_text(look.row["text"])))

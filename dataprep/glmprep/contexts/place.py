"""Where a note stands: in training and in use, by the same function."""

from __future__ import annotations

from collections.abc import Sequence

from glmprep.records import Message


def placed(head: Sequence[Message], note: str, body: Sequence[Message]) -> tuple[Message, ...]:
    """Head, note and body of a segment; the note is one system message, which is never trained.

    An empty note is left out.
    """
    told = (Message(role="system", content=note, untrained="context"),) if note else ()
    return (*head, *told, *body)

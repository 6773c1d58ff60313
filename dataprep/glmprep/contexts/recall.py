"""What a segment is told of earlier turns, whichever way it is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from glmprep.records import Message


class Recall(Protocol):
    """Writes a note on the turns before a segment, the same in training and at inference."""

    def note(self, earlier: Sequence[Message], coming: Sequence[Message], budget: int) -> str:
        """A note of at most `budget` tokens on `earlier`; empty where nothing fits.

        `earlier` are the messages before the segment, `coming` its own. Of those only the user's
        questions are looked at: answers are not known at inference. The note depends on nothing
        else; the tokens are those of its text, encoded alone.
        """
        ...


def questions(coming: Sequence[Message]) -> list[str]:
    """What may be asked of the earlier turns: the words of the user, without blank ones."""
    return [m.content for m in coming if m.role == "user" and m.content.strip()]

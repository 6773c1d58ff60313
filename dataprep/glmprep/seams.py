"""Where conversations were cut, as examples that a person can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from glmprep.plan import Segment
from glmprep.text.sensitive import mask
from glmprep.text.spots import excerpt

MOST, MOST_OF_ONE = 8, 2
SHOWN = 120
"""Characters of the turns on both sides that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """A boundary between two segments: what the one ends with and the other begins with.

    `note` is what the second is told of all that came before it, "" where it is told nothing.
    """

    where: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Seams:
    """Keeps the first seams between exchanges, a few of each conversation."""

    kept: list[Seam] = field(default_factory=list)

    def add(self, segments: Sequence[Segment]) -> None:
        """Take in the segments of one conversation."""
        found = [pair for pair in pairwise(segments) if pair[0].last == pair[1].first]
        for _, after in found[: min(MOST_OF_ONE, MOST - len(self.kept))]:
            self.kept.append(_seam(after))


def _seam(segment: Segment) -> Seam:
    messages = segment.whole.messages
    last = messages[segment.first - 1]
    return Seam(
        where=f"{segment.whole.origin} message {segment.first + 1}",
        before=f"{last.role}: {_end(last.content)}",
        after=f"{messages[segment.first].role}: {excerpt(messages[segment.first].content)[:SHOWN]}",
        note=mask(segment.note.content) if segment.note else "",
    )


def _end(text: str) -> str:
    shown = mask(text[-2 * SHOWN :])[-SHOWN:]
    return f"{'…' if len(text) > SHOWN else ''}{shown}"

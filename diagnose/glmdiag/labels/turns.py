"""Which of the assistant's turns are trained: the first, the last, those between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from glmdiag.labels.apart import Bool, Labels

Place = Literal["only", "first", "middle", "last"]
PLACES: tuple[Place, ...] = ("only", "first", "middle", "last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The assistant's turns at one place of their conversations, and how many have a label."""

    place: Place
    turns: int
    trained: int

    @property
    def share(self) -> float:
        """The part of them that is trained."""
        return self.trained / max(1, self.turns)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "place": self.place,
            "turns": self.turns,
            "trained": self.trained,
            "trained_share": self.share,
        }


def turns(labels: Labels) -> Sequence[Turns]:
    """The assistant's turns by their place, places without any left out."""
    spoken = np.flatnonzero(labels.block_roles == labels.roles.assistant)
    segment = np.searchsorted(labels.segments, labels.blocks[spoken], "right")
    begins = np.diff(segment, prepend=-1) != 0
    ends = np.diff(segment, append=-1) != 0
    marks = {
        "only": begins & ends,
        "first": begins & ~ends,
        "middle": ~begins & ~ends,
        "last": ends & ~begins,
    }
    return list(_counted(marks, labels.trained_text[spoken] > 0))


def _counted(marks: dict[str, Bool], trained: Bool) -> Iterator[Turns]:
    for place in PLACES:
        there = marks[place]
        if there.any():
            yield Turns(place=place, turns=int(there.sum()), trained=int((there & trained).sum()))

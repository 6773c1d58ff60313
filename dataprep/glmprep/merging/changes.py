"""Changes that merging makes: edits, as repairs are, and cuts, which keep only what goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmprep.repair import Change, Edit

Piece = tuple[int, str]
"""A text, and where in what is left (from 0) it stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A rule cut `pieces` out of the content of message `at` (from 0)."""

    rule: str
    at: int
    pieces: Sequence[Piece]

    def take_back(self, messages: list[Any]) -> None:
        """Put the pieces back at their places; raises ValueError where they cannot be."""
        if not self.at < len(messages) or not isinstance(messages[self.at].get("content"), str):
            raise ValueError(f"message {self.at + 1} is not the one that was cut")
        message = messages[self.at]
        content = message["content"]
        parts, done = [], 0
        for place, text in self.pieces:
            if not done <= place <= len(content):
                raise ValueError(f"message {self.at + 1} is not the one that was cut")
            parts += [content[done:place], text]
            done = place
        messages[self.at] = {**message, "content": "".join([*parts, content[done:]])}

    def as_json(self) -> dict[str, Any]:
        """The cut as plain JSON values."""
        return {"rule": self.rule, "at": self.at, "cut": [list(piece) for piece in self.pieces]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cut:
        """The cut that `as_json` wrote; raises KeyError, TypeError or ValueError for another."""
        pieces = [(place, text) for place, text in value["cut"]]
        if type(value["at"]) is not int or value["at"] < 0:
            raise TypeError("a cut has the place of a message")
        if any(type(place) is not int or not isinstance(text, str) for place, text in pieces):
            raise TypeError("a piece is a place and a text")
        return cls(rule=str(value["rule"]), at=value["at"], pieces=pieces)


def cut_out(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, list[Piece]]:
    """A text without some spans of it (in order, apart), and the pieces that bring them back."""
    kept: list[str] = []
    pieces: list[Piece] = []
    done = length = 0
    for begin, end in spans:
        kept.append(text[done:begin])
        length += begin - done
        pieces.append((length, text[begin:end]))
        done = end
    return "".join([*kept, text[done:]]), pieces


def from_json(value: Mapping[str, Any]) -> Change:
    """The change that was written; raises KeyError, TypeError or ValueError for anything else."""
    return Cut.from_json(value) if "cut" in value else Edit.from_json(value)

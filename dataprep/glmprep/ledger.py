"""The ledger: where every row and token went, in sums that must balance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Conversations (or segments), their turns, their tokens, and how many of them are trained."""

    rows: int = 0
    turns: int = 0
    tokens: int = 0
    supervised: int = 0

    def __post_init__(self) -> None:
        if not all(isinstance(getattr(self, name), int) for name in self.__dataclass_fields__):
            raise TypeError(f"sums must be whole numbers: {self}")

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            rows=self.rows + other.rows,
            turns=self.turns + other.turns,
            tokens=self.tokens + other.tokens,
            supervised=self.supervised + other.supervised,
        )


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Sums of one run of `glmprep bucket`.

    read = rejected + tokenized (rows); tokenized = set_aside + written (rows, turns, tokens,
    trained tokens). `open_ends` counts the trained runs that no stop token ends, in what was
    written (see `labels.open_ends`).
    """

    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    tokenized: Sums = field(default_factory=Sums)
    set_aside: dict[str, Sums] = field(default_factory=dict)
    written: Sums = field(default_factory=Sums)
    open_ends: int = 0

    def as_json(self) -> dict[str, Any]:
        """The sums as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ledger:
        """The ledger of a manifest.

        Raises TypeError, KeyError, ValueError or AttributeError for other data.
        """
        return cls(
            read=int(data["read"]),
            rejected={rule: int(rows) for rule, rows in data["rejected"].items()},
            tokenized=Sums(**data["tokenized"]),
            set_aside={rule: Sums(**sums) for rule, sums in data["set_aside"].items()},
            written=Sums(**data["written"]),
            open_ends=int(data["open_ends"]),
        )

    def differences(self) -> list[str]:
        """What does not balance, in words; empty for a ledger that does."""
        found = []
        arrived = self.tokenized.rows + sum(self.rejected.values())
        if self.read != arrived:
            found.append(f"{self.read} rows read, {arrived} rejected or tokenized")
        total = sum(self.set_aside.values(), self.written)
        for name in Sums.__dataclass_fields__:
            came, went = getattr(self.tokenized, name), getattr(total, name)
            if came != went:
                found.append(f"{came} {name} tokenized, {went} set aside or written")
        return found

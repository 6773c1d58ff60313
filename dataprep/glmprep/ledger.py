"""The ledger's sums: through which stages every row, turn and token went; they must balance.

The lines that they add up are in `glmprep.entries`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Conversations, their messages, and how many of those the assistant is trained on."""

    rows: int = 0
    turns: int = 0
    trained_turns: int = 0

    def __post_init__(self) -> None:
        if not all(isinstance(getattr(self, name), int) for name in self.__dataclass_fields__):
            raise TypeError(f"sums must be whole numbers: {self}")

    def __add__(self, other: Self) -> Self:
        names = self.__dataclass_fields__
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums(Turns):
    """Rows as they are tokenized, and their tokens by what becomes of them.

    Each of the `tokens` is either `supervised`, or in a turn of the assistant that is not trained,
    by the reason (see `records.Untrained`), or `read`: prompts, tools and what the template adds.
    """

    tokens: int = 0
    supervised: int = 0
    untrained_weight: int = 0
    untrained_policy: int = 0
    untrained_context: int = 0
    untrained_elsewhere: int = 0

    @property
    def untrained(self) -> dict[str, int]:
        """Tokens of the assistant's turns that are not trained, by the reason."""
        names = (name for name in self.__dataclass_fields__ if name.startswith(UNTRAINED))
        return {name.removeprefix(UNTRAINED): getattr(self, name) for name in names}

    @property
    def read(self) -> int:
        """Tokens that are there to be read: no answer's."""
        return self.tokens - self.supervised - sum(self.untrained.values())


UNTRAINED = "untrained_"
NUMBERS = tuple(each.name for each in fields(Sums) if each.name != "rows")
"""The sums that each line of the ledger has a number for."""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Sums of one run of `glmprep bucket`.

    Of the rows `read`, those in `rejected` went no further, by rule; where they were conversations
    these had `rejected_turns` messages. `repaired` are rows that were changed, by rule. What is
    left is `sound`, which a family makes into one or more rows each: `tokenized`, and then
    `set_aside` by rule or `written`. `open_ends` counts the trained runs that no stop token ends,
    in what was written (see `labels.open_ends`).
    """

    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_turns: int = 0
    repaired: dict[str, int] = field(default_factory=dict)
    sound: Turns = field(default_factory=Turns)
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
            rejected_turns=int(data["rejected_turns"]),
            repaired={rule: int(rows) for rule, rows in data["repaired"].items()},
            sound=Turns(**data["sound"]),
            tokenized=Sums(**data["tokenized"]),
            set_aside={rule: Sums(**sums) for rule, sums in data["set_aside"].items()},
            written=Sums(**data["written"]),
            open_ends=int(data["open_ends"]),
        )

    def flat(self) -> dict[str, int]:
        """Each sum by its name, such as `written.tokens` and `set_aside.DL001.rows`."""
        return dict(_flat(self.as_json()))

    def require_balance(self) -> None:
        """Raise AssertionError where the sums do not balance: a defect of ours."""
        found = self.differences()
        assert not found, f"the ledger does not balance: {found}"

    def differences(self) -> list[str]:
        """What does not balance, in words; empty for a ledger that does."""
        found = []
        arrived = self.sound.rows + sum(self.rejected.values())
        if self.read != arrived:
            found.append(f"{self.read} rows read, {arrived} rejected or sound")
        trained, kept = self.sound.trained_turns, self.tokenized.trained_turns
        if trained != kept:
            found.append(f"{trained} trained turns in conversations, {kept} in rows made of them")
        total = sum(self.set_aside.values(), self.written)
        for name in Sums.__dataclass_fields__:
            came, went = getattr(self.tokenized, name), getattr(total, name)
            if came != went:
                found.append(f"{came} {name} tokenized, {went} set aside or written")
        if any(sums.read < 0 for sums in (self.written, *self.set_aside.values())):
            found.append("more tokens are trained or left untrained than there are")
        return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

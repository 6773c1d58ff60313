"""What merging took out of the data, by rule: in numbers, and in differences to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import RULES, Example
from glmprep.merging.amounts import Amount
from glmprep.merging.changes import Cut
from glmprep.merging.differences import Difference, difference, whole
from glmprep.merging.groups import says_the_same
from glmprep.merging.merger import Merged
from glmprep.merging.outcomes import nothing_left
from glmprep.records import Origin
from glmprep.repair import Change, Edit, Turn

SHOWN = 20
"""Differences that are kept for each rule."""
OTHERS_TELL = (nothing_left.id, says_the_same.id)
"""Rules that take whole rows: a rejection tells of the one, the groups of the other."""


class Removed:
    """What one rule took out: at how many places, in how many rows, and how much."""

    def __init__(self) -> None:
        self.places = 0
        self.rows = 0
        self.amount = Amount()

    def add(self, places: int) -> None:
        """Count a row in which the rule took something out at so many places."""
        self.places += places
        self.rows += 1

    def __iadd__(self, later: Removed) -> Removed:
        self.places += later.places
        self.rows += later.rows
        self.amount += later.amount
        return self

    def as_json(self) -> dict[str, Any]:
        """The numbers as plain JSON values; `removed` counts whole rows among them."""
        return {"places": self.places, "in_rows": self.rows, "removed": self.amount.as_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Removed:
        """What `as_json` wrote."""
        made = cls()
        made.places, made.rows = data["places"], data["in_rows"]
        made.amount = Amount(**data["removed"])
        return made


class Tally:
    """Shown each row once; `removed` and `differences` are by rule. Parts of a pass add up."""

    def __init__(self) -> None:
        self.before = Amount()
        self.removed: defaultdict[str, Removed] = defaultdict(Removed)
        self.differences: defaultdict[str, list[Difference]] = defaultdict(list)
        self._held: dict[str, Hit] = {}

    def add(self, row: Merged, sizes: Sequence[Amount]) -> None:
        """A row, and what it held as it came and after each of its states."""
        self.before += sizes[0]
        for (rule, _), before, after in zip(row.states, sizes, sizes[1:], strict=False):
            self.removed[rule].amount += before - after
        for rule, places in places_of(row.changes).items():
            self.removed[rule].add(places)
        for rule, count in row.held.items():
            self.hold(rule, row.origin, row.note, count)
        if any(len(self.differences[change.rule]) < SHOWN for change in row.changes):
            for change, before_it, after_it in row.steps():
                self._show(difference(change, before_it, after_it, row.origin))

    def drop(self, rule: str, origin: Origin, messages: Sequence[Turn], amount: Amount) -> None:
        """A whole row that went by a rule, and what was left of it until then."""
        self.removed[rule].amount += amount
        self.removed[rule].add(1)
        self._show(whole(rule, origin, messages))

    def hold(self, rule: str, origin: Origin, note: str, count: int = 1) -> None:
        """Something in a row that was not done, the rule that says why, and its words."""
        example = Example(where=str(origin), excerpt=note)
        self._hold(Hit(rule=RULES[rule], count=count, rows=1, examples=[example]))

    def __iadd__(self, later: Tally) -> Tally:
        self.before += later.before
        for rule, removed in later.removed.items():
            self.removed[rule] += removed
        for many in later.differences.values():
            for one in many:
                self._show(one)
        for hit in later._held.values():
            self._hold(hit)
        return self

    def hits(self) -> Iterator[Hit]:
        """One hit for each rule that took something out, and each that kept something in."""
        for rule, removed in self.removed.items():
            if rule not in OTHERS_TELL:
                shown = [one.as_example() for one in self.differences[rule][:EXAMPLES]]
                yield Hit(rule=RULES[rule], count=removed.places, rows=removed.rows, examples=shown)
        yield from self._held.values()

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "before": self.before.as_json(),
            "removed": {rule: removed.as_json() for rule, removed in self.removed.items()},
            "differences": [one.as_json() for many in self.differences.values() for one in many],
            "held": {rule: hit.as_json() for rule, hit in self._held.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], moved: Callable[[str], str]) -> Tally:
        """What `as_json` wrote; `moved` tells where its places are now."""
        made = cls()
        made.before = Amount(**data["before"])
        for rule, removed in data["removed"].items():
            made.removed[rule] = Removed.from_json(removed)
        for one in data["differences"]:
            made._show(Difference.from_json(one, moved))
        for rule, hit in data["held"].items():
            made._hold(Hit.from_json(RULES[rule], hit, moved))
        return made

    def _hold(self, hit: Hit) -> None:
        before = self._held.get(hit.rule.id)
        self._held[hit.rule.id] = hit if before is None else before + hit

    def _show(self, one: Difference) -> None:
        if len(self.differences[one.rule]) < SHOWN:
            self.differences[one.rule].append(one)


def places_of(changes: Sequence[Change]) -> Mapping[str, int]:
    """At how many places each rule took something out: pieces cut, or messages that went."""
    places: Counter[str] = Counter()
    for change in changes:
        if isinstance(change, Cut):
            places[change.rule] += len(change.pieces)
        elif isinstance(change, Edit):
            places[change.rule] += max(1, len(change.before) - len(change.after))
    return places

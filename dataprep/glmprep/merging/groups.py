"""Conversations that say the same, over the whole data: of each group the best are kept.

A row goes only in favour of one that stays, which it is alike to itself and not just through
others, and only where both have the same numbers, names, negations and calls. A row of a dozen
turns takes 0.9 KB with signatures, and with vectors 0.4 KB and 4 bytes for each dimension: a
million rows 0.9 GB, and with 384 dimensions 1.9 GB.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example, Severity, rule
from glmprep.labels import Bool, Int64
from glmprep.merging.sketches import Likeness, Similarity, Sketches, joined, likeness, nothing
from glmprep.records import Origin
from glmprep.rules.sets import ALIKE
from glmprep.sets.neighbours import groups

LEADERS = 256
"""Rows with the same key information that a row of their group is compared with, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Two rows are near duplicates from the similarity `whole` on, and `answers` of their answers.

    `most` rows of a group stay.
    """

    whole: float = ALIKE
    answers: float = ALIKE
    most: int = 1


@rule("DF531", Severity.INFO)
def says_the_same(whole: Similarity, answers: Similarity, alike: Alike) -> Bool:
    """Near duplicates of other rows were dropped.

    Evidence: {count} {count:|conversation was|conversations were} dropped in favour of
    {kept} that {kept:|says|say} the same; the largest group had {most} of them.
    Why: they weigh as one text seen many times, and a validation split that parts them measures
    memory.
    Fix: nothing is to be done; the map of the merge tells which row went in favour of which. If
    rows that differ were dropped, raise the threshold.
    """
    return (whole >= alike.whole) & (answers >= alike.answers)


@rule("DF532", Severity.INFO)
def says_something_else(same_keys: bool, answers: Similarity, alike: Alike) -> bool:
    """Near duplicates were kept, since they differ in meaning.

    Evidence: {count} {count:|conversation is|conversations are} nearly like another one and
    {count:|was|were} kept, since numbers, names, negations, calls, instructions or answers differ.
    Why: several answers to one question, and one answer with another number, are each worth
    learning, unless one of them is wrong.
    Fix: look at the examples, and remove what is wrong.
    """
    return not same_keys or bool((answers < alike.answers).any())


class Member(NamedTuple):
    """A row that was sketched: which part it is of, which row of it, and where it came from."""

    part: int
    row: int
    origin: Origin


class Groups:
    """Shown the sketches of each part of the data; tells afterwards which rows are not needed.

    One that continues an earlier line is always kept, since it is not sketched.
    """

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        self._sketches: list[Sketches] = []
        self._parts: list[tuple[int, str, int]] = []

    def add(self, sketches: Sketches, path: str, before: int = 0) -> None:
        """Take in the next part, whose rows stand in `path` behind so many lines."""
        self._sketches.append(sketches)
        self._parts.append((len(sketches.row), path, before))

    def dropped(self, part: int) -> dict[int, tuple[Member, Member]]:
        """The rows of a part that go, in order, each as itself and the one that stays for it."""
        gone = np.fromiter(self._dropped, np.int64, len(self._dropped))
        first, after = np.searchsorted(gone, self._offsets[part : part + 2])
        pairs = [
            (self._member(row), self._member(self._dropped[row]))
            for row in gone[first:after].tolist()
        ]
        return {one.row: (one, kept) for one, kept in pairs}

    def hits(self) -> Iterator[Hit]:
        """What was dropped, and what was kept although it is nearly alike."""
        if self._dropped:
            sizes = Counter(self._dropped.values())
            yield Hit(
                rule=says_the_same,
                count=len(self._dropped),
                rows=len(self._dropped),
                examples=self._examples("→", list(self._dropped.items())),
                data={"kept": len(sizes), "most": max(sizes.values()) + 1},
            )
        if self._differing:
            rows = len({row for pair in self._differing for row in pair})
            examples = self._examples("≠", self._differing)
            yield Hit(rule=says_something_else, count=rows, rows=rows, examples=examples)

    @cached_property
    def _all(self) -> Sketches:
        whole = joined(self._sketches or [nothing(None)])
        self._sketches.clear()
        return whole

    @cached_property
    def _offsets(self) -> Int64:
        """The number of the first row of each part, and of all rows."""
        return np.cumsum([0, *(count for count, _, _ in self._parts)])

    @cached_property
    def _likeness(self) -> Likeness:
        return likeness(self._all)

    @cached_property
    def _links(self) -> Int64:
        return self._likeness.links(self._alike.whole)

    @cached_property
    def _dropped(self) -> dict[int, int]:
        """The rows that go, in order, each with the row that stays for it."""
        leaders: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        kept: Counter[int] = Counter()
        dropped: dict[int, int] = {}
        for group, row in self._by_quality():
            if not len(chain := self._chain(row)):
                continue
            leader = self._leader(row, leaders[group, chain[-1]])
            if leader is None:
                for key in chain:
                    leaders[group, key].append(row)
            elif kept[leader] + 1 < self._alike.most:
                kept[leader] += 1
            else:
                dropped[row] = leader
        return dict(sorted(dropped.items()))

    @cached_property
    def _differing(self) -> list[tuple[int, int]]:
        """Pairs of rows that are nearly alike and stay, since they do not say the same."""
        return [
            (first, second)
            for first, second in self._links.tolist()
            if first not in self._dropped
            and second not in self._dropped
            and says_something_else(
                self._same_keys(first, second),
                self._likeness.answers(first, np.array([second])),
                self._alike,
            )
        ]

    def _by_quality(self) -> Iterator[tuple[int, int]]:
        """All rows that are like another one, with their group; in each group the best first."""
        first, second = self._links.T
        qualities = self._all.quality
        label = groups(first, second, len(qualities))
        rows = np.unique(self._links)
        order = np.lexsort((rows, *qualities[rows].T[::-1], label[rows]))
        yield from zip(label[rows][order].tolist(), rows[order].tolist(), strict=True)

    def _leader(self, row: int, among: Sequence[int]) -> int | None:
        """The best of some rows with the same key information that says the same as `row`."""
        if not among:
            return None
        rows = np.array(among[:LEADERS])
        same = says_the_same(
            self._likeness.whole(row, rows), self._likeness.answers(row, rows), self._alike
        )
        return int(rows[same.argmax()]) if same.any() else None

    def _chain(self, row: int) -> list[int]:
        """The key chain of a row (see `meaning.key_chains`)."""
        begin, end = self._chain_ends[row : row + 2]
        return [int(key) for key in self._all.keys[begin:end]]

    @cached_property
    def _chain_ends(self) -> Int64:
        return np.concatenate(([0], np.cumsum(self._all.answers)))

    def _same_keys(self, one: int, other: int) -> bool:
        """Whether one says all that the other says at its beginning, by its key information."""
        chain, longer = sorted((self._chain(one), self._chain(other)), key=len)
        return bool(chain) and longer[len(chain) - 1] == chain[-1]

    def _member(self, row: int) -> Member:
        part = int(np.searchsorted(self._offsets, row, "right")) - 1
        _, path, before = self._parts[part]
        line = int(self._all.line[row])
        return Member(part, int(self._all.row[row]), Origin(path, line + before))

    def _examples(self, sign: str, pairs: Sequence[tuple[int, int]]) -> list[Example]:
        return [
            Example(
                where=str(self._member(one).origin), excerpt=f"{sign} {self._member(other).origin}"
            )
            for one, other in pairs[:EXAMPLES]
        ]

"""Drawing rows that stand for all in one pass, where some must not be missing.

Each row gets a random number, and of each stratum the rows of the smallest numbers are kept, as
many as could be wanted at most; how many of each are taken is decided when all have been seen. So a
row of a stratum is as likely to be taken as any other of it, and a larger sample holds most of a
smaller one. What is kept waits in a file; memory holds four numbers for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heappushpop
from random import Random
from typing import IO, Generic, NamedTuple, TypeVar

Stratum = TypeVar("Stratum", bound=tuple[int, ...])


class Kept(NamedTuple):
    """A row in the file: the smaller its rank, the sooner it gives way. `order` is from 0."""

    rank: float
    order: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Extreme(Generic[Stratum]):
    """The shortest or the longest row, and where it came from."""

    row: Kept
    stratum: Stratum
    where: str


class Drawing(Generic[Stratum]):
    """Takes in lines with their stratum, and draws `rows` of them, fewer where there are fewer.

    From two rows on the shortest and the longest are among them, and one of each stratum where
    `rows` is enough for that. Same lines and seed, same draw.
    """

    def __init__(self, rows: int, seed: int, spool: IO[bytes]) -> None:
        self.rows = rows
        self.counts: dict[Stratum, int] = {}
        self.shortest: Extreme[Stratum] | None = None
        self.longest: Extreme[Stratum] | None = None
        self._random = Random(seed)
        self._spool = spool
        self._end = 0
        self._kept: dict[Stratum, list[Kept]] = {}

    def add(self, line: bytes, stratum: Stratum, where: str) -> None:
        """Take in the next line."""
        row = Kept(-self._random.random(), self.seen, self._end, len(line))
        self.counts[stratum] = self.counts.get(stratum, 0) + 1
        kept = self._kept.setdefault(stratum, [])
        wanted = len(kept) < self.rows or row > kept[0]
        if wanted:
            (heappush if len(kept) < self.rows else heappushpop)(kept, row)
        if self.shortest is None or row.size < self.shortest.row.size:
            self.shortest, wanted = Extreme(row, stratum, where), True
        if self.longest is None or row.size > self.longest.row.size:
            self.longest, wanted = Extreme(row, stratum, where), True
        if wanted:
            self._spool.write(line)
            self._end += len(line)

    @property
    def seen(self) -> int:
        """How many lines were taken in."""
        return sum(self.counts.values())

    def shares(self) -> dict[Stratum, int]:
        """How many are drawn of each stratum."""
        must = Counter(each.stratum for each in self._extremes())
        return allot(self.counts, self.rows, must)

    def drawn(self) -> Iterator[tuple[int, bytes]]:
        """The lines that are drawn, in their order, each with its place among all, from 0."""
        taken = [row for stratum, n in self.shares().items() for row in self._first(stratum, n)]
        for row in sorted(taken, key=lambda row: row.order):
            self._spool.seek(row.start)
            yield row.order, self._spool.read(row.size)

    def _first(self, stratum: Stratum, count: int) -> list[Kept]:
        extremes = [each.row for each in self._extremes() if each.stratum == stratum]
        others = sorted(set(self._kept[stratum]).difference(extremes), reverse=True)
        return [*extremes, *others][:count]

    def _extremes(self) -> list[Extreme[Stratum]]:
        """The longest and the shortest, once where they are the same row."""
        found = {each.row: each for each in (self.longest, self.shortest) if each is not None}
        return list(found.values())


def allot(
    counts: Mapping[Stratum, int], rows: int, must: Mapping[Stratum, int]
) -> dict[Stratum, int]:
    """Parts `rows` among strata: first what they `must` have, then one each, then by their size.

    Every further row goes to the stratum that is furthest behind its share (Webster's method). All
    are taken where there are no more than `rows`; where these are too few, the larger come first.
    """
    taken = dict.fromkeys(sorted(counts), 0)
    spare = min(rows, sum(counts.values()))
    for least in (must, dict.fromkeys(counts, 1)):
        for stratum in sorted(taken, key=lambda s: (-counts[s], s)):
            more = min(max(0, least.get(stratum, 0) - taken[stratum]), spare)
            taken[stratum] += more
            spare -= more
    behind = [(-counts[s] / (n + 0.5), s) for s, n in taken.items() if n < counts[s]]
    heapify(behind)
    for _ in range(spare):
        _, stratum = heappop(behind)
        taken[stratum] += 1
        if taken[stratum] < counts[stratum]:
            heappush(behind, (-counts[stratum] / (taken[stratum] + 0.5), stratum))
    return taken

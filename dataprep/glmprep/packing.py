"""Packing: which lengths share a row, decided over the histogram of lengths alone.

Items of one length are alike, so they are placed by the thousand: the work grows with the number of
different lengths and not with the number of items.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
WORD = 10
"""Bits of a place within one of the numbers that rooms are marked in."""


Run = tuple[int, int, int]
"""Neighbouring bins that are filled alike: the first, how many, and the items in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Placements in columns, those of the longest items first, and the number of `bins`.

    `runs` bins from `first` on each take `each` items, of one length, behind the `items` in them.
    """

    first: Int64
    runs: Int64
    items: Int64
    each: Int64
    bins: int

    @property
    def seats(self) -> Int64:
        """The items of each placement."""
        return self.runs * self.each

    def sizes(self) -> Int32:
        """How many items each bin holds."""
        change = np.zeros(self.bins + 1, np.int32)
        np.add.at(change, self.first, self.each)
        np.subtract.at(change, self.first + self.runs, self.each)
        return np.cumsum(change[:-1], dtype=np.int32)


def best_fit_decreasing(histogram: Int64, capacity: int) -> Packing:
    """Longest items first, each into the fullest bin that has room for it.

    `histogram[n]` items have length n, from 1 to `capacity`. Bins become as full as by best-fit
    decreasing item by item (Johnson 1973): the fullest bin with room takes items of a length until
    it has no room for another one, so all bins with as much room can be filled in one go.
    """
    placed = array("q")
    rooms, opened = Rooms(), 0
    for length in np.flatnonzero(histogram)[::-1].tolist():
        left = int(histogram[length])
        while left:
            room, run = rooms.take(length) or (capacity, None)
            each = room // length
            if run is None:
                run = (opened, -(-left // each), 0)
                opened += run[1]
            for first, bins, taken in _shared_out(left, run[0], run[1], each):
                if taken:
                    placed.extend((first, bins, run[2], taken))
                    left -= bins * taken
                rooms.put(room - taken * length, (first, bins, run[2] + taken))
    first_of, runs, items, taken_by = np.array(placed, np.int64).reshape(-1, 4).T
    return Packing(first=first_of, runs=runs, items=items, each=taken_by, bins=opened)


def _shared_out(left: int, first: int, bins: int, each: int) -> Iterator[Run]:
    """The bins in parts by what each gets: `each` items, then what is left in one, then none."""
    full = min(bins, left // each)
    if full:
        yield first, full, each
    more = left - full * each if full < bins else 0
    if more:
        yield first + full, 1, more
        full += 1
    if full < bins:
        yield first + full, bins - full, 0


@dataclass(slots=True)
class Rooms:
    """The runs of bins by the room that is left in them; finds the least room that suffices.

    A set of numbers as bits in two levels, since a search passes over a thousand of them at once.
    """

    _runs: dict[int, list[Run]] = field(default_factory=dict)
    _words: dict[int, int] = field(default_factory=dict)
    _used: int = 0

    def take(self, least: int) -> tuple[int, Run] | None:
        """A run out of those with the least room that is at least `least`."""
        room = self._next(least)
        if room is None:
            return None
        runs = self._runs[room]
        run = runs.pop()
        if not runs:
            word = room >> WORD
            self._words[word] ^= 1 << (room & _LOW)
            if not self._words[word]:
                self._used ^= 1 << word
        return room, run

    def put(self, room: int, run: Run) -> None:
        """Add a run of bins with so much room; full ones are done with."""
        if not room:
            return
        runs = self._runs.setdefault(room, [])
        if not runs:
            word = room >> WORD
            self._words[word] = self._words.get(word, 0) | 1 << (room & _LOW)
            self._used |= 1 << word
        runs.append(run)

    def _next(self, least: int) -> int | None:
        word = least >> WORD
        here = self._words.get(word, 0) >> (least & _LOW)
        if here:
            return least + _lowest(here)
        above = self._used >> (word + 1)
        if not above:
            return None
        word += 1 + _lowest(above)
        return (word << WORD) + _lowest(self._words[word])


_LOW = (1 << WORD) - 1


def _lowest(bits: int) -> int:
    """The place of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1


def least_bins(histogram: Int64, capacity: int) -> int:
    """A number of bins that no packing can go below: the bound L2 of Martello and Toth (1990).

    For each a up to half the capacity: items longer than `capacity - a` are alone among those of at
    least a; other items longer than half have a bin each; those from a to half go into what room
    these leave, and the rest needs bins of its own.
    """
    counts, sums = (
        np.concatenate(([0], np.cumsum(column)))
        for column in (histogram, histogram * np.arange(len(histogram)))
    )
    half = capacity // 2 + 1  # the first length of which two do not fit
    least = np.arange(half)
    long = capacity - least + 1
    paired = counts[long] - counts[half]
    room = paired * capacity - (sums[long] - sums[half])
    bins = (
        counts[-1] - counts[half] + np.maximum(0, -(-(sums[half] - sums[least] - room) // capacity))
    )
    return int(bins.max())

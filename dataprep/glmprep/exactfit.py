"""Packing by exact fits, for lengths of which few are short: best-fit decreasing leaves gaps there.

Where three or four conversations fill a row, the fullest row that has room is seldom full. Here a
row takes its longest items and ends with two that add up to what is left. Such ends are found for
all lengths at once, with the lengths as bits of a number: bit n of `here` stands for length n, and
a mirrored number, shifted, has bit n where what is left beside n is there too.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from glmprep.packing import Int64, Packing

SLACK = 4096
"""A row may miss one in so many of its tokens, and one token, to count as filled exactly."""


def exact_fit(histogram: Int64, capacity: int) -> Packing:
    """Rows, one pattern of lengths after the other, each as often as there are items for it.

    `histogram[n]` items have length n, from 1 to `capacity`.
    """
    stock = _Stock(histogram, capacity)
    placed, opened = array("q"), 0
    while stock.here:
        row = stock.take_row()
        needed = Counter(row)
        times = 1 + min(stock.counts[length] // number for length, number in needed.items())
        for length, number in needed.items():
            stock.take(length, (times - 1) * number)
        for place, length in enumerate(row):
            placed.extend((length, opened, times, place))
        opened += times
    columns = np.array(placed, np.int64).reshape(-1, 4)
    columns = columns[np.argsort(-columns[:, 0], kind="stable")]  # the longest items first
    _, first, runs, items = columns.T
    return Packing(first=first, runs=runs, items=items, each=np.ones_like(first), bins=opened)


@dataclass(slots=True, init=False)
class _Stock:
    """The items that are left: how many of each length, and which lengths there are."""

    counts: list[int]
    here: int
    mirrored: int
    capacity: int
    slack: int

    def __init__(self, histogram: Int64, capacity: int) -> None:
        occurring = np.flatnonzero(histogram).tolist()
        self.counts, self.capacity = histogram.tolist(), capacity
        self.here = sum(1 << length for length in occurring)
        self.mirrored = sum(1 << (capacity - length) for length in occurring)
        self.slack = max(1, capacity // SLACK)

    def take(self, length: int, number: int = 1) -> None:
        """Remove items of a length."""
        self.counts[length] -= number
        if not self.counts[length]:
            self.here &= ~(1 << length)
            self.mirrored &= ~(1 << (self.capacity - length))

    def take_row(self) -> list[int]:
        """The longest items that fit, until one or two fill the row; their lengths."""
        row: list[int] = []
        room = self.capacity
        while fitting := self.here & ((2 << room) - 1):
            end = self._end(room) if row else None
            for length in end or (fitting.bit_length() - 1,):
                self.take(length)
                row.append(length)
                room -= length
            if end:
                break
        return row

    def _end(self, room: int) -> tuple[int, ...] | None:
        """One or two lengths that fill the room."""
        for filled in range(room, max(0, room - self.slack - 1), -1):
            if self.here >> filled & 1:
                return (filled,)
            if pair := self._pair(filled):
                return pair
        return None

    def _pair(self, filled: int) -> tuple[int, int] | None:
        """Two lengths that make a sum, as like each other as can be: short ones are kept."""
        half = (filled + 1) // 2
        longer = (self.here & (self.mirrored >> (self.capacity - filled))) >> half
        if 2 * half == filled and self.counts[half] == 1:
            longer &= ~1
        if not longer:
            return None
        length = half + (longer & -longer).bit_length() - 1
        return length, filled - length

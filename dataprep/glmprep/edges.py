"""The padded lengths of buckets: those that need the least padding in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.integer[Any]]
MULTIPLE = 64
"""Padded lengths are multiples of this: matrix units work on tiles of that order."""
CHUNK = 1 << 20
"""Rows that are looked at together, so that what is made of them stays small."""


def best_edges(lengths: Lengths, buckets: int, max_length: int) -> Int64:
    """At most `buckets` padded lengths, ascending, that need the least padding in all.

    Exact, by a dynamic programme over the padded lengths that occur. `lengths` lie in 1 to
    `max_length`; without any, the only edge is `max_length`.
    """
    sizes, rows = _padded_sizes(lengths, max_length)
    if not len(sizes):
        return np.array([max_length])
    best = (sizes * rows).tolist()
    layers = []
    for _ in range(min(buckets, len(sizes)) - 1):
        best, below = _one_more_edge(best, sizes.tolist(), rows.tolist())
        layers.append(below)
    edge, edges = len(sizes) - 1, [len(sizes) - 1]
    for below in reversed(layers):
        if (edge := below[edge]) < 0:
            break
        edges.append(edge)
    return sizes[sorted(edges)]


def histogram(lengths: Lengths, longest: int) -> Int64:
    """How many rows there are of each length from 0 to `longest`."""
    counts = np.zeros(longest + 1, np.int64)
    for start in range(0, len(lengths), CHUNK):
        counts += np.bincount(lengths[start : start + CHUNK], minlength=longest + 1)
    return counts


def _padded_sizes(lengths: Lengths, max_length: int) -> tuple[Int64, Int64]:
    """The padded lengths that occur, and of each the number of rows that are no longer."""
    counts = histogram(lengths, max_length)
    occurring = np.flatnonzero(counts)
    padded = np.minimum(-(-occurring // MULTIPLE) * MULTIPLE, max_length)
    sizes, first = np.unique(padded, return_index=True)
    rows = np.add.reduceat(counts[occurring], first) if len(sizes) else counts[:0]
    return sizes, np.cumsum(rows)


def _one_more_edge(
    best: Sequence[int], sizes: Sequence[int], rows: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The least padded size of the rows up to each edge, with one edge more than in `best`.

    Also the edge below each, -1 for none. Edge j above edge i costs best[i] + sizes[j] * (rows[j] -
    rows[i]). For each i that is a line in sizes[j], ever flatter as i grows, so the lowest lines
    form a hull along which both i and j only go up.
    """
    hull: list[tuple[int, int, int]] = [(0, 0, -1)]  # rows[i], best[i], i
    least, below, at = [], [], 0
    for j, (size, count) in enumerate(zip(sizes, rows, strict=True)):
        at = min(at, len(hull) - 1)
        while at + 1 < len(hull) and _value(hull[at + 1], size) <= _value(hull[at], size):
            at += 1
        least.append(_value(hull[at], size) + size * count)
        below.append(hull[at][2])
        line = (count, best[j], j)
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], line):
            hull.pop()
        hull.append(line)
    return least, below


def _value(line: tuple[int, int, int], size: int) -> int:
    return line[1] - line[0] * size


def _is_above(
    left: tuple[int, int, int], middle: tuple[int, int, int], right: tuple[int, int, int]
) -> bool:
    """Whether the middle line is nowhere below both others; their slopes fall."""
    return (right[1] - left[1]) * (middle[0] - left[0]) <= (middle[1] - left[1]) * (
        right[0] - left[0]
    )

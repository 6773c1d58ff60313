"""Rows to batches of a token budget, and batches to steps in which all ranks have as much to do.

Only lengths come in and only indices go out: a trainer makes the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from glmprep.edges import Lengths
from glmprep.order import Order
from glmprep.shape import GLM4_9B, attention_flops, linear_flops

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
ATTENTION = attention_flops(GLM4_9B, 1) / linear_flops(GLM4_9B, 1)
"""What a pair of tokens costs in attention, in tokens: at 50,000 tokens a row it is half of all."""

PART = 1 << 16
"""Batches that are moved together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Batch b holds `rows[offsets[b]:offsets[b + 1]]`; step s on rank r is batch s * ranks + r.

    Only where there are fewer rows than ranks is a batch empty.
    """

    rows: Int32
    offsets: Int32
    ranks: int = 1

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same for all ranks."""
        return (len(self.offsets) - 1) // self.ranks

    def of_rank(self, rank: int) -> list[Int32]:
        """The rows of each step on this rank."""
        bounds = self.offsets.tolist()
        chosen = range(rank, len(bounds) - 1, self.ranks)
        return [self.rows[bounds[batch] : bounds[batch + 1]] for batch in chosen]


def token_batches(
    lengths: Lengths,
    group: Lengths,
    padded: Lengths,
    *,
    tokens: int,
    seed: int | Sequence[int],
    ranks: int = 1,
    order: Order | None = None,
    squares: Lengths | None = None,
) -> Batches:
    """Batches of at most `tokens` tokens, padding included, for so many ranks.

    Rows of one group share a batch, as many as the budget holds if each were padded to
    `padded[group]`, and at least one; they are spread evenly over the batches of the group. A step
    takes batches that cost nearly the same, in tokens computed and in attention: `squares` is the
    sum of the squared lengths of a row's segments, the squared length of the row if None. Which
    rows meet follows from the seed alone, and the steps come in `order`.
    """
    random = np.random.default_rng(seed)
    rows, counts = _shuffled_groups(group, len(padded), random)
    most = np.maximum(1, tokens // padded)
    batches = _divisible(counts, -(-counts // most), ranks)
    offsets = _even_offsets(counts, batches)
    length, work = np.repeat(padded, batches), np.zeros(len(offsets) - 1)
    if ranks > 1:
        work = _work(rows, offsets, lengths, squares)
        empty = -len(work) % ranks
        offsets, length = np.pad(offsets, (0, empty), "edge"), np.pad(length, (0, empty))
        work = np.pad(work, (0, empty))
    steps = np.argsort(work, kind="stable").reshape(-1, ranks)
    steps = random.permuted(steps, axis=1)  # else the first rank would always have least to do
    steps = steps[(order or Order()).of(length[steps].max(axis=1), random)]
    return _in_order(steps.ravel(), rows, offsets, ranks)


def _shuffled_groups(
    group: Lengths, groups: int, random: np.random.Generator
) -> tuple[Int32, Int64]:
    """The rows of each group in random order, one group after the other; and their numbers."""
    rows, end = np.empty(len(group), np.int32), 0
    counts = np.zeros(groups, np.int64)
    for each in range(groups):
        members = np.flatnonzero(group == each)
        start, end = end, end + len(members)
        rows[start:end] = members
        random.shuffle(rows[start:end])
        counts[each] = len(members)
    return rows, counts


def _divisible(rows: Int64, batches: Int64, ranks: int) -> Int64:
    """The batches of each group, some more so that the ranks divide them, if the rows allow it.

    They are added where there are most, so that each becomes only a little smaller.
    """
    batches = batches.copy()
    missing = -int(batches.sum()) % ranks
    for each in np.argsort(-batches, kind="stable").tolist():
        more = min(missing, int(rows[each] - batches[each]))
        batches[each] += more
        missing -= more
    return batches


def _even_offsets(rows: Int64, batches: Int64) -> Int32:
    """Where each batch begins, and the end: rows of a group in so many batches of like size."""
    group = np.repeat(np.arange(len(rows)), batches)
    within = np.arange(len(group)) - (np.cumsum(batches) - batches)[group]
    starts = (np.cumsum(rows) - rows)[group] + within * rows[group] // batches[group]
    return np.append(starts, rows.sum()).astype(np.int32)


def _work(rows: Int32, offsets: Int32, lengths: Lengths, squares: Lengths | None) -> Float64:
    """What each batch costs, in tokens."""
    if not len(rows):
        return np.zeros(0)
    lengths = lengths[rows]
    pairs = lengths.astype(np.float64) ** 2 if squares is None else squares[rows].astype(np.float64)
    longest = np.maximum.reduceat(lengths, offsets[:-1])
    return np.diff(offsets) * longest + ATTENTION * np.add.reduceat(pairs, offsets[:-1])


def _in_order(order: Int64, rows: Int32, offsets: Int32, ranks: int) -> Batches:
    """The batches in this order."""
    starts, sizes = offsets[:-1][order], np.diff(offsets)[order]
    ends = np.append(np.int32(0), np.cumsum(sizes, dtype=np.int32))
    ordered = np.empty_like(rows)
    parts = np.unique([*range(0, len(order), PART), len(order)])
    for first, last in pairwise(parts.tolist()):
        begin, end = ends[first], ends[last]
        moved = np.repeat(starts[first:last] - ends[first:last], sizes[first:last])
        ordered[begin:end] = rows[moved + np.arange(begin, end)]
    return Batches(rows=ordered, offsets=ends, ranks=ranks)

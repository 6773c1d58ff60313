"""Which conversations share a row, and to which length a row is padded.

Only lengths come in and only indices go out, so that a plan is small: beside the lengths, packing
needs 4 bytes a conversation and 20 a row, which may lie on disk (`scratch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt

from glmprep.batching import token_batches
from glmprep.edges import CHUNK, Lengths, best_edges, histogram
from glmprep.errors import UsageError
from glmprep.exactfit import exact_fit
from glmprep.order import Order
from glmprep.packing import Packing, best_fit_decreasing, least_bins

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
ENOUGH = 0.999
"""Rows that no packing can go below, as a share of those there are, that needs no second try."""
MOST = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Row r holds the conversations `members[offsets[r]:offsets[r + 1]]` and has `bucket[r]`."""

    members: Int32
    offsets: Int32
    bucket: Int32

    def __len__(self) -> int:
        return len(self.bucket)


def bucketed(
    lengths: Lengths,
    *,
    buckets: int,
    max_length: int,
    seed: int,
    tokens: int | None = None,
    order: Order | None = None,
) -> Plan:
    """One conversation a row, in buckets of similar length.

    The padded lengths are those, at most `buckets` of them, that need the least padding. The rows
    of a batch of `tokens` (one of the longest rows, if None) stand together, and the batches come
    in `order`, so that a trainer which reads from front to back finds them ready.
    """
    _check(lengths, max_length)
    edges = best_edges(lengths, buckets, max_length)
    group = _group(lengths, edges)
    budget = tokens or max_length
    batches = token_batches(lengths, group, edges, tokens=budget, seed=seed, order=order)
    return Plan(
        members=batches.rows,
        offsets=np.arange(len(lengths) + 1, dtype=np.int32),
        bucket=edges.astype(np.int32)[group[batches.rows]],
    )


def packed(lengths: Lengths, *, capacity: int, seed: int, scratch: Path | None = None) -> Plan:
    """Several conversations a row, none cut, in few rows (see `fewest_rows`); in random order.

    Conversations of one length are shuffled a million at a time, rows all together. With `scratch`
    the members lie in a nameless file in that folder instead of in memory.
    Raises UsageError for a conversation that is longer than a row.
    """
    _check(lengths, capacity)
    counts = histogram(lengths, capacity)
    packing = fewest_rows(counts, capacity)
    random = np.random.default_rng(seed)
    row_of = np.arange(packing.bins, dtype=np.int32)
    random.shuffle(row_of)
    sizes = np.empty_like(row_of)
    sizes[row_of] = packing.sizes()
    offsets = np.zeros(packing.bins + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    members = _empty(len(lengths), scratch)
    seats = _Seats(counts, packing)
    for start in (random.permutation(-(-len(lengths) // CHUNK)) * CHUNK).tolist():
        chunk = lengths[start : start + CHUNK]
        rows = random.permutation(len(chunk))
        rows = rows[np.argsort(chunk[rows], kind="stable")]
        bins, places = seats.take(chunk[rows])
        members[offsets[row_of[bins]] + places] = start + rows
    return Plan(members=members, offsets=offsets, bucket=np.full(packing.bins, capacity, np.int32))


def fewest_rows(counts: Int64, capacity: int) -> Packing:
    """How items, `counts[n]` of length n, are packed: by best-fit decreasing, or else exact fits.

    The second is tried where the first may be far from what can be reached at all.
    """
    packing = best_fit_decreasing(counts, capacity)
    if least_bins(counts, capacity) >= ENOUGH * packing.bins:
        return packing
    return min(packing, exact_fit(counts, capacity), key=lambda each: each.bins)


class _Seats:
    """Gives to items, as they come, the next seats that the packing has for their length."""

    def __init__(self, counts: Int64, packing: Packing) -> None:
        self._packing = packing
        self._starts = np.cumsum(packing.seats) - packing.seats
        self._next = counts[::-1].cumsum()[::-1] - counts  # longer items have the seats before

    def take(self, ascending: Lengths) -> tuple[Int64, Int64]:
        """The bin of each of these items, shortest first, and its place in the bin."""
        first = np.flatnonzero(np.diff(ascending, prepend=0))
        kinds, counts = ascending[first], np.diff(first, append=len(ascending))
        seats = np.arange(len(ascending)) + np.repeat(self._next[kinds] - first, counts)
        self._next[kinds] += counts
        at = np.searchsorted(self._starts, seats, side="right") - 1
        packing = self._packing
        bins, places = np.divmod(seats - self._starts[at], packing.each[at])
        return bins + packing.first[at], places + packing.items[at]


def _group(lengths: Lengths, edges: Int64) -> Lengths:
    """The place of the edge at or above each length, in as few bytes as it needs."""
    places = np.searchsorted(edges, np.arange(edges[-1] + 1))
    return places.astype(np.min_scalar_type(len(edges)))[lengths]


def _empty(count: int, folder: Path | None) -> Int32:
    """Room for so many numbers, in memory or in a file of the folder that has no name."""
    if folder is None or not count:
        return np.empty(count, np.int32)
    with TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.int32, "w+", shape=(count,))


def _check(lengths: Lengths, longest: int) -> None:
    if len(lengths) > MOST:
        raise UsageError(f"{len(lengths)} conversations, but one folder holds at most {MOST}")
    if len(lengths) and int(lengths.max()) > longest:
        raise UsageError(f"a conversation of {lengths.max()} tokens in rows of {longest}")
    if len(lengths) and int(lengths.min()) < 1:
        raise ValueError("a conversation without tokens")

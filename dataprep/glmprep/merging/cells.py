"""Vectors that are close, among very many: each is compared with those around the same centres.

The centres are vectors of the data itself; a vector belongs to the two that are nearest to it, so
that two close ones nearly always meet in one (the inverted file of Jégou, Douze and Schmid 2011,
Product quantization for nearest neighbor search, without its compression).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from glmprep.labels import Int64
from glmprep.semantics.embedder import Float32

Float16 = npt.NDArray[np.float16]
CELL = 4096
"""Vectors that are compared with one another; fuller cells are parted in the order of the data."""
AT_ONCE = 1024


def near_pairs(vectors: Float16, least: float) -> Int64:
    """Pairs (n x 2, the earlier first) of vectors of length 1 whose dot product is `least` or more.

    For each vector the first of a cell that is close to it, and the last one before it. A million
    vectors make a thousand cells of about two thousand: half a teraflop for a hundred dimensions.
    """
    said = np.flatnonzero(vectors.any(axis=1))
    found = [_close(cell, vectors, least) for cell in _cells(said, vectors)]
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)


def _cells(said: Int64, vectors: Float16) -> Iterator[Int64]:
    """The vectors around each centre, in order, no more than CELL at a time."""
    if len(said) <= CELL:
        yield said
        return
    count = int(np.sqrt(len(said)))
    chosen = said[np.linspace(0, len(said) - 1, count).astype(np.int64)]
    centres = vectors[chosen].astype(np.float32).T
    nearest = np.concatenate(
        [_nearest(vectors[part], centres) for part in np.array_split(said, len(said) // AT_ONCE)]
    )
    members = np.repeat(said, 2)
    order = np.argsort(nearest.reshape(-1), kind="stable")
    sizes = np.bincount(nearest.reshape(-1), minlength=count)
    for cell in np.split(members[order], np.cumsum(sizes)[:-1]):
        yield from (cell[at : at + CELL] for at in range(0, len(cell), CELL))


def _nearest(vectors: Float16, centres: Float32) -> Int64:
    """The two centres that are nearest to each vector."""
    products = vectors.astype(np.float32) @ centres
    return np.argpartition(-products, 1, axis=1)[:, :2]


def _close(cell: Int64, vectors: Float16, least: float) -> Int64:
    """Pairs of a cell: each with the first that is close to it, and with the last before it."""
    inside = vectors[cell].astype(np.float32)
    pairs = [np.zeros((0, 2), np.int64)]
    for at in range(0, len(cell), AT_ONCE):
        block = inside[at : at + AT_ONCE]
        end = at + len(block)
        close = np.tril(block @ inside[:end].T >= least, k=at - 1)
        rows = np.flatnonzero(close.any(axis=1))
        first = close[rows].argmax(axis=1)
        last = end - 1 - close[rows, ::-1].argmax(axis=1)
        for earlier in (first, last):
            pairs.append(np.column_stack((cell[earlier], cell[rows + at])))
    return np.concatenate(pairs)

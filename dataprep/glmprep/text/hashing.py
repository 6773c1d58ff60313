"""64-bit hashes in numpy, many at a time. They hold within one run and are no secret."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

UInt64 = npt.NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(numbers: UInt64) -> UInt64:
    """Each number scattered over 64 bits, one to one (the finalizer of SplitMix64)."""
    mixed = numbers ^ (numbers >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_runs(numbers: UInt64, offsets: npt.NDArray[np.int64]) -> UInt64:
    """One hash of each run `numbers[offsets[i]:offsets[i + 1]]`, no run being empty."""
    starts = offsets[:-1]
    place = np.arange(len(numbers)) - np.repeat(starts, np.diff(offsets))
    return np.add.reduceat(mix(mix(numbers) + place.astype(np.uint64) * GOLDEN), starts)


def hash_texts(texts: Sequence[str | None]) -> pl.Series:
    """One hash of each text, null for None."""
    column = pl.Series(texts, dtype=pl.String)
    return pl.select(pl.when(column.is_not_null()).then(column.hash(seed=0))).to_series()

"""Conversations that are nearly alike: MinHash signatures, compared where a band of them agrees.

Signatures estimate the Jaccard similarity of two sets of shingles, here of three tokens in a row
(Broder 1997); two that agree in one band of them at least are candidates (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, 3.4). With 21 bands of 6, a pair of similarity 0.8 becomes a
candidate with a probability of 0.998, one of 0.5 with 0.28.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from rensa import RMinHash

from glmprep.families.piece import NO_TURN
from glmprep.labels import Int64, TokenBatch, ranges
from glmprep.records import Conversation
from glmprep.text.hashing import UInt64, hash_runs, mix

UInt16 = npt.NDArray[np.uint16]
SIZE = 128
BANDS, BAND = 21, 6
SEED = 1
SHINGLE = 3
NOTHING = np.uint16(0xFFFF)
"""Every value in the signature of a text that is shorter than a shingle."""
AT_ONCE = 1 << 16


def signatures(rows: Sequence[Conversation], tokens: TokenBatch, chosen: Sequence[int]) -> UInt16:
    """Signatures (len(chosen) x SIZE) of what is said in the chosen rows of a batch.

    System messages and tools are left out: many conversations share them. Of each 32-bit value
    the low half is kept, which is enough to tell whether two are equal.
    """
    turns = np.fromiter((len(row.messages) for row in rows), np.int64, len(rows))
    said = np.fromiter(
        (message.role != "system" for row in rows for message in row.messages), np.bool_
    )
    rank = np.full(len(rows), -1)
    rank[list(chosen)] = np.arange(len(chosen))
    begins = np.cumsum(turns) - turns
    kept = (rank[tokens.row] >= 0) & (tokens.turn != NO_TURN)
    kept[kept] = said[(begins[tokens.row] + tokens.turn)[kept]]
    widths = (tokens.end - tokens.start)[kept]
    ids = tokens.ids[ranges(tokens.start[kept], widths)]
    shingles, lengths = _shingles(ids, np.repeat(rank[tokens.row[kept]], widths), len(chosen))
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets, SIZE, SEED)
    return np.array(matrix.to_rows(), np.uint32).astype(np.uint16).reshape(-1, SIZE)


def _shingles(ids: npt.NDArray[np.int32], row: Int64, rows: int) -> tuple[UInt64, Int64]:
    """Hashes of SHINGLE tokens in a row of the same conversation, and how many each has."""
    count = max(0, len(ids) - SHINGLE + 1)
    packed = np.zeros(count, np.uint64)
    for place in range(SHINGLE):
        packed = (packed << np.uint64(21)) | ids[place : place + count].astype(np.uint64)
    same = row[:count] == row[SHINGLE - 1 :]
    return mix(packed[same]), np.bincount(row[:count][same], minlength=rows)


def similar(table: UInt16, known: int | None = None) -> pl.DataFrame:
    """Signatures that may be alike, as `first` < `second`, and their estimated `similarity`.

    Among those that agree in a band each is compared with the first of them and with the last one
    before it, so that a thousand copies make two thousand pairs and not half a million. With
    `known` that is the last one before it among the `known` signatures at the front.
    """
    known = len(table) if known is None else known
    found = np.concatenate([np.zeros((0, 2), np.int64), *_candidates(table, known)])
    first, second = np.unique(found, axis=0).T
    parts = [slice(at, at + AT_ONCE) for at in range(0, len(first), AT_ONCE)]
    similarity = [(table[first[part]] == table[second[part]]).mean(axis=1) for part in parts]
    return pl.DataFrame(
        {"first": first, "second": second, "similarity": np.concatenate([np.zeros(0), *similarity])}
    )


def _candidates(table: UInt16, known: int) -> Iterator[Int64]:
    """Pairs (n x 2, the earlier first) that agree in a band, band by band."""
    sound = np.flatnonzero((table != NOTHING).any(axis=1))
    offsets = np.arange(len(sound) + 1) * BAND
    for band in range(BANDS if len(sound) else 0):
        values = table[sound, band * BAND : (band + 1) * BAND].astype(np.uint64)
        keys = hash_runs(values.reshape(-1), offsets)
        order = np.argsort(keys, kind="stable")
        new = np.concatenate(([True], keys[order][1:] != keys[order][:-1]))
        starts = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        last = np.maximum.accumulate(np.where(sound[order] < known, np.arange(len(order)), -1))
        later = np.flatnonzero(~new)
        for earlier in (last[later - 1], starts[later]):
            linked = earlier >= starts[later]
            yield sound[np.column_stack((order[earlier[linked]], order[later[linked]]))]


def groups(first: Int64, second: Int64, count: int) -> Int64:
    """For each of `count` items the smallest of those it is linked to through pairs."""
    label = np.arange(count)
    while True:
        least = np.minimum(label[first], label[second])
        before = label.copy()
        np.minimum.at(label, first, least)
        np.minimum.at(label, second, least)
        label = label[label]
        if np.array_equal(label, before):
            return label

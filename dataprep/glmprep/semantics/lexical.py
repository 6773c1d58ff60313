"""Vectors from the words of texts alone: the encoder that needs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glmprep.semantics.embedder import Embedder, Float32, unit
from glmprep.semantics.terms import rarity, terms
from glmprep.text.ngrams import Int64

Float64 = npt.NDArray[np.float64]
DIMS = 512
ROOM = 1 << 24
"""Numbers of a table of vectors that may have more dimensions than DIMS."""
AT_ONCE = 4096
"""Texts that are summed at a time."""


class Lexical(Embedder):
    """Words and pairs of ideographs, each by the logarithm of how often it occurs in a text."""

    name = f"lexical-{DIMS}"
    dims = DIMS

    def embed(self, texts: Sequence[str]) -> Float32:
        """The vectors of texts, each term hashed to one signed place.

        Terms that share a place cancel out on average (Weinberger and others 2009, Feature
        Hashing); `comparable` loses less.
        """
        found = terms(texts)
        sign = np.where(found.hashed & 1, 1.0, -1.0)
        place = (found.hashed >> np.uint32(1)).astype(np.int64) % DIMS
        weight = sign * (1 + np.log(found.count))
        return unit(_summed(found.text, place, weight, (len(texts), DIMS)))

    def comparable(self, texts: Sequence[str]) -> Float32:
        """Vectors of texts whose dot products are cosines; words that most have weigh little.

        (Term frequency times inverse document frequency.) There are as many dimensions as terms
        that two texts share, where memory allows: then the cosines are exact.
        """
        found = terms(texts)
        number, frequency = found.numbered()
        weight = (1 + np.log(found.count)) * rarity(len(texts), frequency)[number]
        place, sign, dims = _places(frequency, len(texts))
        vectors = _summed(found.text, place[number], sign[number] * weight, (len(texts), dims))
        # Terms of no other text have no place, but they count in the length of their text.
        whole = np.bincount(found.text, weight**2, len(texts))
        shared = np.bincount(found.text, (sign[number] * weight) ** 2, len(texts))
        share = np.sqrt(shared / np.where(whole > 0, whole, 1))
        return unit(vectors) * share.astype(np.float32)[:, None]


def _places(frequency: Int64, texts: int) -> tuple[Int64, Float64, int]:
    """For each term its place and sign (0 for one that no two texts share), and how many places.

    Where there are more terms than places, those that tell most get one of their own.
    """
    worth = (frequency - 1) * rarity(texts, frequency) ** 2
    rank = np.empty(len(frequency), np.int64)
    rank[np.argsort(-worth, kind="stable")] = np.arange(len(frequency))
    shared = int((frequency > 1).sum())
    dims = max(1, min(shared, max(DIMS, ROOM // max(1, texts))))
    own = shared if shared <= dims else dims // 2
    turn, place = np.divmod(np.maximum(rank - own, 0), max(1, dims - own))
    place = np.where(rank < own, rank, (own + place) % dims)
    return place, np.where(frequency > 1, 1.0 - 2 * (turn % 2), 0), dims


def _summed(text: Int64, place: Int64, weight: Float64, shape: tuple[int, int]) -> Float32:
    """A table of `shape` with the weights added up, each in the row `text` (ascending)."""
    texts, dims = shape
    table = np.zeros(shape, np.float32)
    for first in range(0, texts, AT_ONCE):
        rows = min(AT_ONCE, texts - first)
        part = slice(*np.searchsorted(text, (first, first + rows)))
        at = (text[part] - first) * dims + place[part]
        table[first : first + rows] = np.bincount(at, weight[part], rows * dims).reshape(rows, dims)
    return table

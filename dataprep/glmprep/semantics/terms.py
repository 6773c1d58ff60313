"""The terms of texts and how often each occurs: words by their beginning, pairs of ideographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glmprep.text.ngrams import Int64, occurrences

UInt32 = npt.NDArray[np.uint32]
LEAST = 2
"""Letters of the shortest word that is a term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The different terms of each text, by text and then by term: parallel arrays.

    `hashed` tells terms apart; two may share one of its 32-bit hashes, which is rare enough.
    """

    texts: int
    text: Int64
    hashed: UInt32
    count: Int64

    def numbered(self) -> tuple[Int64, Int64]:
        """The number of each term among all different ones, and in how many texts each of them is.

        (One number for each entry, in the order of the hashes; one count for each different term.)
        """
        order = np.argsort(self.hashed, kind="stable")
        new = np.ones(len(order), np.bool_)
        new[1:] = self.hashed[order[1:]] != self.hashed[order[:-1]]
        rank = np.cumsum(new) - 1
        number = np.empty(len(order), np.int64)
        number[order] = rank
        return number, np.bincount(rank)


def terms(texts: Sequence[str]) -> Terms:
    """The terms of the texts, read in full."""
    text, found = occurrences(texts, LEAST)
    keys = (text.astype(np.uint64) << np.uint64(32)) | (found >> np.uint64(32))
    keys.sort()
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    count = np.diff(np.append(starts, len(keys)))
    keys = keys[starts]
    text = (keys >> np.uint64(32)).astype(np.int64)
    return Terms(texts=len(texts), text=text, hashed=keys.astype(np.uint32), count=count)


def rarity(texts: int, frequency: Int64) -> npt.NDArray[np.float64]:
    """How much a term that is in `frequency` of the texts says of one (inverse document frequency).

    Never negative (the form of Robertson and Zaragoza 2009 with 1 added before the logarithm).
    """
    return np.log1p((texts - frequency + 0.5) / (frequency + 0.5))

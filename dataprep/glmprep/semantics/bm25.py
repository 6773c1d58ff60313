"""Which texts answer a query best, by the words they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glmprep.semantics.terms import rarity, terms

K1 = 1.2
"""How soon a term that is repeated says no more."""
B = 0.75
"""How much a long text is held back: 0 not at all, 1 in full."""


class BM25:
    """Okapi BM25 over texts in memory; terms are words by their beginning, pairs of ideographs.

    (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond.)
    """

    def __init__(self, texts: Sequence[str]) -> None:
        found = terms(texts)
        number, frequency = found.numbered()
        length = np.bincount(found.text, found.count, len(texts))
        mean = length.sum() / max(1, len(texts))
        held = K1 * (1 - B + B * length / max(mean, 1))[found.text]
        weight = rarity(len(texts), frequency)[number] * found.count * (K1 + 1)
        order = np.argsort(number, kind="stable")
        self._texts = len(texts)
        self._hashed = found.hashed[order]
        self._text = found.text[order]
        self._weight = (weight / (found.count + held))[order]

    def scores(self, query: str) -> npt.NDArray[np.float64]:
        """How well each text answers the query, 0 where they share no term."""
        scores = np.zeros(self._texts)
        asked = terms([query])
        first = np.searchsorted(self._hashed, asked.hashed, "left")
        last = np.searchsorted(self._hashed, asked.hashed, "right")
        for begin, end, count in zip(first, last, asked.count, strict=True):
            scores[self._text[begin:end]] += count * self._weight[begin:end]
        return scores

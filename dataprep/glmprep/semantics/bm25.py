"""Which texts answer a query best, by the words they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glmprep.semantics.terms import Terms, rarity, terms
from glmprep.text.ngrams import Int64

Float64 = npt.NDArray[np.float64]
K1 = 1.2
"""How soon a term that is repeated says no more."""
B = 0.75
"""How much a long text is held back: 0 not at all, 1 in full."""


class BM25:
    """Okapi BM25 over texts in memory; terms are words by their beginning, pairs of ideographs."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._terms = terms(texts)

    def scores(self, query: str) -> Float64:
        """How well each text answers the query, 0 where they share no term."""
        return bm25(self._terms, np.arange(self._terms.texts), terms([query]))


def bm25(found: Terms, document: Int64, query: Terms) -> Float64:
    """How well documents that are made up of texts answer a query, 0 where they share no term.

    `found` are the terms of the texts, `document` is the rising number of each text's document,
    `query` has the terms of one text. (Robertson and Zaragoza 2009, The Probabilistic Relevance
    Framework: BM25 and Beyond.)
    """
    count = int(document.max(initial=-1)) + 1
    lengths = np.bincount(document[found.text], found.count, count)
    here = np.flatnonzero(np.isin(found.hashed, query.hashed))
    key = document[found.text[here]] * query.hashed.size
    key += np.searchsorted(query.hashed, found.hashed[here])
    keys, entry = np.unique(key, return_inverse=True)
    times = np.bincount(entry, found.count[here], len(keys))
    at, term = keys // query.hashed.size, keys % query.hashed.size
    held = K1 * (1 - B + B * lengths[at] / max(1.0, lengths.sum() / max(1, count)))
    frequency = np.bincount(term, minlength=query.hashed.size)
    weight = rarity(count, frequency)[term] * query.count[term]
    scores = np.bincount(at, weight * times * (K1 + 1) / (times + held), count)
    return scores.astype(np.float64)

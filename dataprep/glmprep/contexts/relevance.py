"""How close the earlier turns are to what is asked: in words and in meaning, near and far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glmprep.contexts.earlier import Earlier
from glmprep.semantics.bm25 import Float64, bm25
from glmprep.semantics.embedder import Embedder
from glmprep.semantics.terms import terms

QUESTION = 2000
"""Characters of a question that are looked at, from its end: there it is asked."""
QUESTIONS = 16
"""Questions that are looked at, the first ones: they are the nearest to the note."""
PASSAGES = 64
"""Passages that are compared by vectors: what an encoder has to read stays within bounds."""
WORDY = 8
"""Different terms from which on a piece says something of its own; `OK then` hardly does."""


class Relevance:
    """Scores the pieces of a conversation by BM25 and by vectors.

    A piece counts for its own words, and as much for the passage that it stands in: an answer
    seldom repeats the words of the question. Passages are compared by BM25, the best of them also
    by vectors; the two scores, each scaled to 1, are added (Bruch and others 2023, An Analysis of
    Fusion Functions for Hybrid Retrieval). Half of what a passage counts is its neighbourhood's.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def scores(self, earlier: Earlier, questions: Sequence[str]) -> Float64:
        """How close each piece is to the questions, from 0 to 1; all 0 where nothing is."""
        asked = [question[-QUESTION:] for question in questions[:QUESTIONS]]
        query = terms(["\n".join(asked)])
        near = scaled(bm25(earlier.terms, np.arange(len(earlier)), query))
        far = scaled(smooth(scaled(bm25(earlier.terms, earlier.passage, query))))
        alike = scaled(smooth(scaled(self._alike(earlier, far, asked))))
        return (near + ((far + alike) / 2)[earlier.passage]) / 2 * wordiness(earlier)

    def _alike(self, earlier: Earlier, scores: Float64, asked: Sequence[str]) -> Float64:
        """For the passages with the best scores, the similarity to the closest question.

        Among equals the latest are taken; 0 for all others.
        """
        later = np.arange(len(scores))
        chosen = np.sort(np.lexsort((-later, -scores))[:PASSAGES])
        texts = [earlier.passage_text(passage) for passage in chosen]
        vectors = self._embedder.comparable([*texts, *asked])
        alike = np.zeros(len(scores))
        alike[chosen] = (vectors[: len(texts)] @ vectors[len(texts) :].T).max(axis=1).clip(0)
        return alike


def wordiness(earlier: Earlier) -> Float64:
    """How much each piece can say: 1 from `WORDY` different terms on, less below."""
    different = np.bincount(earlier.terms.text, minlength=len(earlier))
    return np.minimum(1, different / WORDY)


def scaled(scores: Float64) -> Float64:
    """Scores with 1 as the highest."""
    highest = scores.max(initial=0)
    return scores / highest if highest > 0 else scores


def smooth(scores: Float64) -> Float64:
    """Each score and, as much, the mean of it and its two neighbours."""
    padded = np.pad(scores, 1, mode="edge")
    return (scores + (padded[:-2] + scores + padded[2:]) / 3) / 2

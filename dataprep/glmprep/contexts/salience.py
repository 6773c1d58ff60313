"""Which pieces of a conversation are its key sentences, whatever is asked."""

from __future__ import annotations

import numpy as np

from glmprep.contexts.earlier import Earlier, Int64
from glmprep.contexts.relevance import wordiness
from glmprep.semantics.bm25 import Float64
from glmprep.semantics.terms import rarity

OPENING = 0.15
FACT = 0.15
"""What the first sentence of a turn counts more, and one with a number, name, call or result."""


def salience(earlier: Earlier) -> Float64:
    """How much each piece says of what its passage is about, by the words of both.

    The cosine of a piece's terms and its passage's (centroid-based extraction, Radev and others
    2004), more for the opening of a turn and for facts, less for the few words of a nod.
    """
    first = np.diff(earlier.saying, prepend=-1) > 0
    more = 1 + OPENING * first + FACT * earlier.facts
    return centrality(earlier, earlier.passage) * more * wordiness(earlier)


def centrality(earlier: Earlier, group: Int64) -> Float64:
    """The cosine between the terms of each piece and those of its group of pieces."""
    found = earlier.terms
    groups, pieces = int(group[-1]) + 1, len(earlier)
    number, in_pieces = found.numbered()
    width = max(1, len(in_pieces))
    key, entry = np.unique(group[found.text] * width + number, return_inverse=True)
    weight = rarity(groups, np.bincount(key % width, minlength=width))
    times = np.bincount(entry, found.count, len(key))
    whole = (1 + np.log(times)) * weight[key % width]
    part = (1 + np.log(found.count)) * weight[number]
    size = np.sqrt(np.bincount(key // width, whole**2, groups))[group]
    size *= np.sqrt(np.bincount(found.text, part**2, pieces))
    shared = np.bincount(found.text, part * whole[entry], pieces)
    cosine: Float64 = np.divide(shared, size, out=np.zeros(pieces), where=size > 0)
    return cosine

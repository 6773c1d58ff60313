"""How well a stretch of talk holds together: what it says again, weighed against its length.

All tables here have a row for each last block and a column for each number of blocks before it:
`table[last, back]` is about the blocks `last - back` to `last`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glmprep.segmenters.commonwords import common
from glmprep.segmenters.stretch import Int64
from glmprep.semantics.embedder import Float32
from glmprep.text.ngrams import occurrences

Float64 = npt.NDArray[np.float64]
PRIOR = 0.5
"""Times that each word counts as said before a segment begins."""
EXACT = 64
"""Repetitions of a word that are weighed one by one; of more, a 64th at a time, as if together."""
CONCENTRATION = 30.0
"""How much the vector of a piece counts, in nats; words alone find topics better than it does."""


def word_cohesion(texts: Sequence[str], block: Int64, width: int) -> Float64:
    """How much better its own words tell each segment than all words alike do, in nats.

    `block` is the block that each text is in, from 0 on; no segment has more than `width` blocks.
    A segment draws its words from a distribution that is its own and not known: the likelihood of
    that (Dirichlet-multinomial) is highest where it repeats itself and its neighbours say other
    things (Utiyama and Isahara 2001; Eisenstein and Barzilay 2008, without their sampling).
    """
    at, word, words = _words(texts)
    place = block[at]
    blocks = int(block[-1]) + 1
    count = np.bincount(place, minlength=blocks)
    before = np.concatenate((np.zeros(width, np.int64), [0], np.cumsum(count)))
    # A segment's likelihood is a product over its words, each given those before it:
    # (PRIOR + times it was said) / (PRIOR * words + words said). The second of these first.
    falling = np.concatenate(
        ([0], np.cumsum(np.log1p(np.arange(len(at)) / (PRIOR * max(words, 1)))))
    )
    said = (
        before[width + 1 :, None]
        - np.lib.stride_tricks.sliding_window_view(before[1:-1], width)[:, ::-1]
    )
    table = _squares(_repeats(place, word, blocks, width))
    table -= falling[said]
    return table


def vector_cohesion(vectors: Float32, block: Int64, weight: Float64, width: int) -> Float64:
    """How much one direction has in common with the vectors of each segment, in nats.

    `vectors` and `weight` are those of the units, `block` as above. The likelihood of directions
    around a segment's own mean (von Mises and Fisher), less what is alike for all segments: the
    length of the sum of its weighted vectors.
    """
    blocks = int(block[-1]) + 1
    sums = np.zeros((blocks + 1, vectors.shape[1]))
    np.add.at(sums, block + 1, vectors * weight[:, None])
    sums = np.cumsum(sums, axis=0)
    table = np.zeros((blocks, width))
    for back in range(width):
        table[back:, back] = np.linalg.norm(sums[back + 1 :] - sums[: blocks - back], axis=1)
    return CONCENTRATION * table


def _words(texts: Sequence[str]) -> tuple[Int64, Int64, int]:
    """Where the words are that say something and occur again: text, number, different ones.

    They are in the order of their numbers, and each word's in that of the texts.
    """
    at, found = occurrences(texts)
    telling = ~np.isin(found, common())
    at, found = at[telling], found[telling]
    order = np.argsort(found, kind="stable")
    _, number, times = np.unique(found[order], return_inverse=True, return_counts=True)
    again = times[number] > 1
    return at[order][again], number[again], int((times > 1).sum())


def _repeats(place: Int64, word: Int64, blocks: int, width: int) -> Float64:
    """What the repetitions between each two blocks add to the likelihood of a segment of both."""
    table = np.zeros((blocks, width))
    later = np.arange(len(word))
    times = 1
    while True:
        later = later[later >= times]
        earlier = later - times
        near = (word[later] == word[earlier]) & (place[later] - place[earlier] < width)
        later, earlier = later[near], earlier[near]
        if not len(later):
            break
        step = max(1, times // EXACT)
        gain = np.log1p(step / (PRIOR + times - 1))
        np.add.at(table, (place[later], place[later] - place[earlier]), gain)
        times += step
    return table


def _squares(pairs: Float64) -> Float64:
    """The sum over all pairs of blocks of each segment, given that of each pair."""
    total = np.ascontiguousarray(pairs.T)
    for back in range(1, len(total)):
        total[back] += total[back - 1]
        total[back, 1:] += total[back - 1, :-1]
        if back > 1:
            total[back, 1:] -= total[back - 2, :-1]
    return np.ascontiguousarray(total.T)

"""Cuts where the talk turns: the cheapest way through the legal boundaries, by dynamic programme.

A segment is cheap when it holds together (`cohesion`), repeats little and fills its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from glmprep.segmenters.cohesion import Float64, vector_cohesion, word_cohesion
from glmprep.segmenters.greedy import greedy
from glmprep.segmenters.pieces import pieces
from glmprep.segmenters.stretch import Int64, Stretch
from glmprep.semantics.embedder import Embedder
from glmprep.semantics.lexical import Lexical

CELLS = 1 << 22
"""Segments that are weighed, about; where more are possible, units are taken in blocks."""
SEGMENT = 40.0
"""What each segment costs, in nats, besides what it repeats."""
REPLAY = 100.0
"""What a segment costs that only repeats, by the share of the limit that this takes."""
EMPTY = 30.0
"""What a segment costs that leaves the whole limit empty, by the square of the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Semantic:
    """A segmenter that reads: words, and the vectors of an encoder beside them if there is one.

    `count` asks for so many segments, or as near to it as can be.
    """

    embedder: Embedder | None = None
    count: int | None = None

    def __call__(self, stretch: Stretch) -> list[int]:
        """The first unit of each segment (see `Segmenter`)."""
        if len(stretch) < 2:
            return list(range(len(stretch)))
        starts = _blocks(stretch)
        costs = _costs(stretch, starts, self.embedder)
        chosen = _cheapest(costs) if self.count is None else _exactly(costs, self.count)
        return [int(starts[block]) for block in chosen]


def _blocks(stretch: Stretch) -> Int64:
    """The units at which a segment may begin: all, or if those are too many, some of them.

    Those at which `greedy` begins one are always among them, so there is a way that keeps the
    limit.
    """
    units = np.arange(len(stretch))
    total = int(stretch.tokens[~stretch.alone].sum())
    if len(stretch) * int((stretch.reach() - units).max()) <= CELLS:
        return units
    grain = ceil(sqrt(total * min(stretch.limit, total) / CELLS))
    bins = (np.cumsum(stretch.tokens) - stretch.tokens) // max(grain, 1)
    begins = np.append(True, bins[1:] != bins[:-1]) | stretch.alone
    begins[1:] |= stretch.alone[:-1]
    begins[greedy(stretch)] = True
    return np.flatnonzero(begins)


def _costs(stretch: Stretch, starts: Int64, embedder: Embedder | None) -> Float64:
    """What each segment costs, by its last block and the blocks before that in it.

    (blocks x the most blocks in a segment); infinite where it is over the limit.
    """
    numbers = np.arange(len(starts))
    edges = np.append(starts, len(stretch))
    ends = np.searchsorted(edges, stretch.reach()[starts], "right") - 1
    width = int((ends - numbers).max())
    costs = -_cohesion(stretch, np.repeat(numbers, np.diff(edges)), width, embedder)
    first = numbers[:, None] - np.arange(width)
    inside = first >= 0
    first = np.maximum(first, 0)
    sums = np.append(0, np.cumsum(np.add.reduceat(stretch.tokens, starts)))
    before = stretch.before[starts]
    room = stretch.limit - (before - sums[:-1])[first] - sums[1:, None]
    costs += (SEGMENT + REPLAY * before / stretch.limit)[first]
    costs += EMPTY * np.square(np.maximum(room, 0) / stretch.limit)
    costs[~inside | (ends[first] <= numbers[:, None])] = np.inf
    return costs


def _cohesion(stretch: Stretch, block: Int64, width: int, embedder: Embedder | None) -> Float64:
    """How well the segments hold together, by their words and what an encoder makes of them."""
    table = word_cohesion(stretch.texts, block, width)
    # The vectors of `Lexical` are made of the same words.
    if embedder is not None and not isinstance(embedder, Lexical):
        piece, texts = pieces(stretch)
        tokens = np.bincount(piece, stretch.tokens)
        weight = stretch.tokens / np.maximum(tokens, 1)[piece]
        table += vector_cohesion(embedder.comparable(texts)[piece], block, weight, width)
    return table


def _cheapest(costs: Float64) -> list[int]:
    """The first block of each segment of the cheapest way."""
    blocks, width = costs.shape
    best = np.full(width + blocks, np.inf)
    best[width - 1] = 0
    taken = np.empty(blocks, np.int64)
    backwards = costs[:, ::-1]
    for last in range(blocks):
        ways = best[last : last + width] + backwards[last]
        taken[last] = place = int(ways.argmin())
        best[last + width] = ways[place]
    return _path([width - 1 - taken] * blocks, blocks)


def _exactly(costs: Float64, count: int) -> list[int]:
    """The same with `count` segments, or with the number nearest to it that there is a way for."""
    blocks, width = costs.shape
    backwards = costs[:, ::-1]
    best = np.full(width + blocks, np.inf)
    best[width - 1] = 0
    taken: list[Int64] = []
    while len(taken) < min(count, blocks) or not np.isfinite(best[-1]):
        ways = np.lib.stride_tricks.sliding_window_view(best[:-1], width) + backwards
        place = ways.argmin(axis=1)
        ended = ways[np.arange(blocks), place]
        if taken and np.isfinite(best[-1]) and not np.isfinite(ended[-1]):
            break
        taken.append(width - 1 - place)
        best = np.concatenate((np.full(width, np.inf), ended))
    return _path(taken[::-1], blocks)


def _path(back: list[Int64], end: int) -> list[int]:
    """The first blocks of the segments, the last one found by the first of `back`."""
    starts = []
    for taken in back:
        if not end:
            break
        end -= int(taken[end - 1]) + 1
        starts.append(end)
    return starts[::-1]

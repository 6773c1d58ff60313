"""Cuts evenly: the fewest segments, the longest of them as short as it can be, the others alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from glmprep.segmenters.greedy import greedy
from glmprep.segmenters.stretch import Int64, Stretch


def balanced(stretch: Stretch) -> list[int]:
    """The first unit of each segment (see `Segmenter`): as many as `greedy` makes.

    No segment is longer than the longest of `greedy`, units that are alone over the limit aside.
    """
    filled = greedy(stretch)
    lengths = stretch.lengths(filled)
    kept = lengths[lengths <= stretch.limit]
    if len(filled) < 2 or not len(kept):
        return filled
    least = _least_limit(stretch, int(kept.max()), len(filled))
    spread = _even(replace(stretch, limit=least), len(filled))
    # Where `before` differs between units, fewer tokens a segment can make a single one longer.
    longest = stretch.lengths(spread)
    return spread if longest[longest <= stretch.limit].max() <= kept.max() else filled


def _least_limit(stretch: Stretch, high: int, count: int) -> int:
    """The smallest limit under which `greedy` makes at most `count` segments; `high` is one."""
    units = stretch.before + stretch.tokens
    low = min(high, int(units[~stretch.alone].max(initial=0)))
    while low < high:
        middle = (low + high) // 2
        if len(greedy(replace(stretch, limit=middle))) <= count:
            high = middle
        else:
            low = middle + 1
    return low


def _even(stretch: Stretch, count: int) -> list[int]:
    """At most `count` segments, each as near to its share of what is left as the limit allows."""
    sums = np.concatenate(([0], np.cumsum(stretch.tokens)))
    reach = stretch.reach()
    needed = _needed(reach)
    starts = [0]
    while len(starts) < count:
        place, left = starts[-1], count - len(starts)
        ends = np.arange(place + 1, reach[place] + 1)
        ends = ends[needed[ends] <= left]
        share = sums[place] + (sums[-1] - sums[place]) / (left + 1)
        end = int(ends[np.abs(sums[ends] - share).argmin()])
        if end == len(stretch):
            break
        starts.append(end)
    return starts


def _needed(reach: Int64) -> Int64:
    """How many segments it takes from each unit to the end when each is filled; 0 at the end."""
    needed = [0] * (len(reach) + 1)
    for place in range(len(reach) - 1, -1, -1):
        needed[place] = needed[reach[place]] + 1
    return np.array(needed)

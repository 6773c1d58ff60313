"""Cuts as late as possible: each segment takes as many units as fit, which makes the fewest."""

from __future__ import annotations

import numpy as np

from glmprep.segmenters.stretch import Stretch


def greedy(stretch: Stretch) -> list[int]:
    """The first unit of each segment (see `Segmenter`)."""
    ends = np.concatenate(([0], np.cumsum(stretch.tokens)))
    starts, place = [], 0
    while place < len(stretch):
        starts.append(place)
        room = stretch.limit - int(stretch.before[place])
        place = max(place + 1, int(np.searchsorted(ends, ends[place] + room, "right")) - 1)
    return starts

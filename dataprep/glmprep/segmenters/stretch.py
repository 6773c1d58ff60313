"""A conversation as segmenters see it: units in a row, which may be parted but not cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """n units (exchanges of a conversation, turns of a meeting) with what a segment of them costs.

    A segment of the units `first` to `last - 1` takes `before[first] + sum(tokens[first:last])`
    tokens: `before` is what it repeats (system messages, tools, context). `texts` are what the
    units say, for segmenters that read.
    """

    tokens: Int64
    before: Int64
    limit: int
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def alone(self) -> npt.NDArray[np.bool_]:
        """Units that are longer than the limit: each is a segment of its own."""
        return np.asarray(self.before + self.tokens > self.limit)

    def reach(self) -> Int64:
        """Where the longest segment from each unit on ends; one unit has to be in it."""
        sums = np.concatenate(([0], np.cumsum(self.tokens)))
        ends = np.searchsorted(sums, sums[:-1] + self.limit - self.before, "right") - 1
        return np.maximum(ends, np.arange(1, len(self) + 1))

    def lengths(self, starts: Sequence[int]) -> Int64:
        """The tokens of each segment, what it repeats included."""
        return np.asarray(self.before[starts] + np.add.reduceat(self.tokens, starts))


class Segmenter(Protocol):
    """Chooses where segments begin."""

    def __call__(self, stretch: Stretch) -> Sequence[int]:
        """The first unit of each segment, in order, from 0 on.

        Each segment keeps the limit or is one unit that is longer than it.
        """

"""In which order things of different sizes come: shuffled, short to long, or evenly mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from glmprep.errors import UsageError

Sizes = npt.NDArray[np.integer[Any]]
Int64 = npt.NDArray[np.int64]
Kind = Literal["shuffled", "short-first", "length-mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`mixing` is the share that stands at random places where the rest goes from short to long.

    shuffled: any order is as likely as another. short-first: a curriculum, over again in each
    epoch, as Pouransari et al. (Dataset Decomposition, 2024) found to train well. length-mixed:
    every stretch holds each size in its share, so that steps of many batches are alike.
    """

    kind: Kind = "shuffled"
    mixing: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"--order {self.kind}: one of {', '.join(get_args(Kind))}")
        if not 0 <= self.mixing <= 1:
            raise UsageError(f"--mixing {self.mixing}: from 0 to 1")
        if self.mixing and self.kind != "short-first":
            raise UsageError(f"--mixing goes with --order short-first, not with {self.kind}")

    def of(self, sizes: Sizes, random: np.random.Generator) -> Int64:
        """The places of the things with these sizes, in this order; like sizes are shuffled."""
        shuffled = random.permutation(len(sizes))
        if self.kind == "shuffled":
            return shuffled
        ascending = shuffled[np.argsort(sizes[shuffled], kind="stable")]
        if self.kind == "short-first":
            return self._mixed(ascending, random)
        return ascending[np.argsort(_even_places(sizes[ascending], random), kind="stable")]

    def _mixed(self, ascending: Int64, random: np.random.Generator) -> Int64:
        count = round(self.mixing * len(ascending))
        places = random.choice(len(ascending), count, replace=False)
        ascending[np.sort(places)] = ascending[places]
        return ascending


def _even_places(ascending: Sizes, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Places in 0 to 1, at even distances for each size."""
    _, first, counts = np.unique(ascending, return_index=True, return_counts=True)
    within = np.arange(len(ascending)) - np.repeat(first, counts)
    return (within + np.repeat(random.random(len(counts)), counts)) / np.repeat(counts, counts)

"""How well segments agree with annotated ones: Pk, WindowDiff, and means with their intervals.

Segments are given by the first unit of each, in order, from 0 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
DRAWS = 10_000
SEED = 0


def window(reference: Sequence[int], units: int) -> int:
    """Units between the two that are compared: half of a mean annotated segment."""
    return min(max(2, round(units / len(reference) / 2)), units - 1)


def pk(reference: Sequence[int], guess: Sequence[int], units: int) -> float:
    """How often two units `window` apart are together in one and parted in the other.

    Beeferman, Berger and Lafferty 1999. 0 is best; about 0.5 is chance.
    """
    true, seen = _crossed(reference, guess, units)
    return float(np.mean((true > 0) != (seen > 0)))


def window_diff(reference: Sequence[int], guess: Sequence[int], units: int) -> float:
    """How often another number of segments begins between two units `window` apart.

    Pevzner and Hearst 2002.
    """
    true, seen = _crossed(reference, guess, units)
    return float(np.mean(true != seen))


def _crossed(
    reference: Sequence[int], guess: Sequence[int], units: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Beginnings of segments between each two units `window` apart, in both."""
    apart = window(reference, units)
    places = np.arange(units)
    numbers = [np.searchsorted(starts, places, "right") for starts in (reference, guess)]
    true, seen = (number[apart:] - number[:-apart] for number in numbers)
    return true, seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over meetings and its 95 % interval (percentiles of bootstrap means)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean(values: Float64) -> Mean:
    """The mean of one value for each meeting; meetings are drawn again with a fixed seed."""
    drawn = np.random.default_rng(SEED).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Mean(mean=float(values.mean()), low=float(low), high=float(high))

"""Robust statistics of a series that is read once: streaming, in constant memory.

Losses are compared by the logarithm of `loss + FLOOR`: noise between batches grows with the loss,
and differences far below FLOOR nats matter to nobody. The robust limits (medians and median
absolute deviations in place of means and standard deviations) follow Rousseeuw and Croux,
"Alternatives to the median absolute deviation", JASA 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

FLOOR = 0.2  # nats; a loss that moves from 0.01 to 0.05 is noise of a model that knows the data
HISTORY = 20  # losses needed before one can be called unusual
ROBUST = 1.4826  # makes the median absolute deviation of normal noise its standard deviation
LONE_SIGMAS = 10.0  # a single batch may stand out: one row makes a batch, rows have heavy tails
MOST_STRETCHES = 32  # of a whole run: enough to see a trend, few enough to look at often
FEWEST_PERIODS = 3.0  # what comes back twice may be chance
CORRELATED = 0.6  # of a series with itself a period later: more than a third of its variance


def scaled(loss: float) -> float:
    """A loss as the logarithm in which losses are compared."""
    return math.log(max(loss, 0.0) + FLOOR)


def unscaled(value: float) -> float:
    """The loss of a logarithm."""
    return math.exp(value) - FLOOR


@dataclass(slots=True)
class Streak:
    """How long something has held without a break, and since which step."""

    since: int = 0
    length: int = 0

    def update(self, holds: bool, step: int) -> None:
        """Lengthen or break the streak."""
        if not holds:
            self.length = 0
            return
        if not self.length:
            self.since = step
        self.length += 1


@dataclass(slots=True)
class Trend:
    """Least-squares line through all losses (logarithms) by running sums, and where it began."""

    n: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    sxx: float = 0.0
    sxy: float = 0.0
    syy: float = 0.0
    start: float = 0.0  # mean of the first HISTORY losses

    def add(self, y: float) -> None:
        """Take the next loss; Welford's update keeps the sums accurate over millions of steps."""
        dx, dy = self.n - self.mean_x, y - self.mean_y
        self.n += 1
        self.mean_x += dx / self.n
        self.mean_y += dy / self.n
        self.sxx += dx * (self.n - 1 - self.mean_x)
        self.sxy += dx * (y - self.mean_y)
        self.syy += dy * (y - self.mean_y)
        if self.n <= HISTORY:
            self.start = self.mean_y

    @property
    def fall(self) -> float:
        """By how much the line falls from the first loss to the last, as a logarithm."""
        return -self.sxy / self.sxx * (self.n - 1)

    @property
    def uncertainty(self) -> float:
        """Two standard errors of `fall`."""
        residual = max(self.syy - self.sxy**2 / self.sxx, 0.0) / (self.n - 2)
        return 2 * math.sqrt(residual / self.sxx) * (self.n - 1)

    @property
    def early_fall(self) -> float:
        """How far the first losses lie above the average, beyond two standard errors."""
        return self.start - self.mean_y - 2 * math.sqrt(self.syy / self.n / HISTORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Where a window of losses (logarithms) lies: median, quartiles, robust deviation."""

    step: int
    middle: float
    low: float
    high: float
    deviation: float

    @staticmethod
    def of(values: Sequence[float], step: int) -> Level:
        """The level of at least two values."""
        ordered = sorted(values)
        middle = _quantile(ordered, 0.5)
        distances = sorted([abs(value - middle) for value in ordered])
        return Level(
            step=step,
            middle=middle,
            low=_quantile(ordered, 0.25),
            high=_quantile(ordered, 0.75),
            deviation=ROBUST * _quantile(distances, 0.5),
        )

    @property
    def loss(self) -> float:
        """The median as a loss."""
        return unscaled(self.middle)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    index = int(place)
    if index + 1 == len(ordered):
        return ordered[index]
    return ordered[index] + (place - index) * (ordered[index + 1] - ordered[index])


@dataclass(slots=True, kw_only=True)
class Excursion:
    """A stretch of losses that lie far above what came before; `height` is in robust deviations."""

    since: int
    before: float
    peak: float = 0.0
    height: float = 0.0
    length: int = 0

    def add(self, loss: float, height: float) -> None:
        """Take one more loss of the stretch."""
        self.peak, self.height = max(self.peak, loss), max(self.height, height)
        self.length += 1

    @property
    def is_spike(self) -> bool:
        """Whether this is more than one odd batch."""
        return self.length > 1 or self.height > LONE_SIGMAS


@dataclass(slots=True)
class Stretches:
    """A whole series as at most MOST_STRETCHES equal stretches, each told by its mean and minimum.

    When there are too many stretches, neighbours become one and the stretches twice as long.
    """

    means: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    size: int = 1
    _count: int = 0
    _sum: float = 0.0
    _low: float = math.inf
    _since: int = 0

    def add(self, value: float, step: int) -> None:
        """Take the next value."""
        if not self._count:
            self._since = step
        self._count += 1
        self._sum += value
        if value < self._low:
            self._low = value
        if self._count == self.size:
            self._close()

    def _close(self) -> None:
        self.means.append(self._sum / self._count)
        self.lows.append(self._low)
        self.starts.append(self._since)
        self._count, self._sum, self._low = 0, 0.0, math.inf
        if len(self.means) == MOST_STRETCHES:
            pairs = range(0, MOST_STRETCHES, 2)
            self.means = [(self.means[i] + self.means[i + 1]) / 2 for i in pairs]
            self.lows = [min(self.lows[i : i + 2]) for i in pairs]
            self.starts = self.starts[::2]
            self.size *= 2


def rising(values: Sequence[float]) -> float:
    """The share of pairs, an earlier and a later one, of which the later is greater (Kendall)."""
    pairs = [later > value for i, value in enumerate(values) for later in values[i + 1 :]]
    return sum(pairs) / len(pairs) if pairs else 0.5


def period(values: Sequence[float]) -> int | None:
    """After how many values a series repeats itself; None where it does not.

    The first peak of the autocorrelation that is nearly as high as the highest. It is taken by a
    Fourier transform (Wiener-Khinchin), so that it costs n log n.
    """
    series = np.asarray(values, dtype=float)
    series = series - series.mean()
    n = len(series)
    if n < 2 * FEWEST_PERIODS or not series.any():
        return None
    spectrum = np.fft.rfft(series, 2 * n)
    products = np.fft.irfft(spectrum * spectrum.conj())[: int(n / FEWEST_PERIODS) + 1]
    correlation = products / products[0] * n / (n - np.arange(len(products)))
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner > correlation[:-2]) & (inner >= correlation[2:])) + 1
    peaks = peaks[peaks >= 2]
    if not len(peaks) or (best := correlation[peaks].max()) < CORRELATED:
        return None
    return int(peaks[correlation[peaks] > 0.9 * best][0])

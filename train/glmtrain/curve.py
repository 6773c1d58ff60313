"""What is remembered of a training log while it is read: constant memory, however long the run.

Losses are compared by the logarithm of `loss + FLOOR`: noise between batches grows with the loss,
and differences far below FLOOR nats matter to nobody.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

FLOOR = 0.2  # nats; a loss that moves from 0.01 to 0.05 is noise of a model that knows the data
WINDOW = 30  # logged steps that stand for "lately": enough for quartiles, short against a run
CALM = 100  # losses that set the level: fewer make the deviation itself too noisy
HISTORY = 20  # losses needed before one can be called unusual; short trial runs stay unjudged
REFRESH = 5  # levels are taken anew every so many losses; each loss would cost five times as much
ROBUST = 1.4826  # makes the median absolute deviation of normal noise its standard deviation
SIGMAS = 6.0  # robust deviations that no two batches in succession exceed by chance
LONE_SIGMAS = 10.0  # a single batch may: one row makes a batch, and rows have heavy tails
RISE = math.log(1.5)  # less than half as much again is not worth a person's time
ZERO_LOSS = 1e-3  # next-token loss below this means certainty about every token
ALIVE_LOSS = 0.1  # a loss that was above this has no honest way to ZERO_LOSS within a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One logged training step.

    `loss` is None where none was logged; `nonfinite` then says "nan" or "inf" if that is why.
    `event` is what the trainer noted, "overflow" for a step that loss scaling skipped.
    """

    step: int
    loss: float | None
    grad_norm: float | None = None
    learning_rate: float | None = None
    nonfinite: str | None = None
    event: str | None = None

    @property
    def finite_loss(self) -> float | None:
        """The loss, unless it is missing, not finite, or a NaN that was logged as 0.0."""
        finite = self.loss is not None and math.isfinite(self.loss)
        return self.loss if finite and not self.hidden else None

    @property
    def broken(self) -> str | None:
        """Why the loss is not a number: "nan", "inf" or "-inf"; None when it is one."""
        if self.nonfinite:
            return self.nonfinite
        return None if self.loss is None or math.isfinite(self.loss) else str(self.loss)

    @property
    def hidden(self) -> bool:
        """Whether a loss of exactly 0.0 comes with a gradient that cannot belong to it."""
        impossible = self.grad_norm is not None and (
            self.grad_norm == 0.0 or not math.isfinite(self.grad_norm)
        )
        return self.loss == 0.0 and impossible


@dataclass(slots=True)
class Streak:
    """How long something has held without a break, and since which step."""

    since: int = 0
    length: int = 0

    def update(self, holds: bool, step: int) -> None:
        """Lengthen or break the streak."""
        if holds and not self.length:
            self.since = step
        self.length = self.length + 1 if holds else 0


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
        low, middle, high = quantiles(values, n=4, method="inclusive")
        deviation = ROBUST * median(abs(value - middle) for value in values)
        return Level(step=step, middle=middle, low=low, high=high, deviation=deviation)

    @property
    def loss(self) -> float:
        """The median as a loss."""
        return math.exp(self.middle) - FLOOR


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
class Rate:
    """The learning rate so far: its top, and how often it was zero."""

    count: int = 0
    zeros: int = 0
    top: float = 0.0
    losses_since_top: int = 0
    zero: Streak = field(default_factory=Streak)

    def add(self, rate: float, step: int) -> None:
        """Take the next learning rate."""
        self.count += 1
        self.zeros += rate == 0.0
        self.zero.update(rate == 0.0, step)
        if rate > self.top:
            self.top, self.losses_since_top = rate, 0


@dataclass(slots=True)
class Losses:
    """The finite losses so far, in their order.

    `calm` are the last ones that do not stand out and set the `level`; `latest` the last ones of
    all, which set `now`; `lowest` is the lowest that `now` ever was.
    """

    count: int = 0
    trend: Trend = field(default_factory=Trend)
    calm: deque[float] = field(default_factory=lambda: deque(maxlen=CALM))
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    level: Level | None = None
    now: Level | None = None
    lowest: Level | None = None
    high: Excursion | None = None
    spike: Excursion | None = None

    def add(self, loss: float, step: int) -> None:
        """Take the next loss."""
        y = _scaled(loss)
        self.count += 1
        self.trend.add(y)
        self.latest.append(y)
        self._follow(y, loss, step)
        if self.count % REFRESH == 0:
            self._refresh(step)

    @property
    def before(self) -> float:
        """The median of the last few losses; needs one."""
        return math.exp(median(list(self.latest)[-3:])) - FLOOR

    def _follow(self, y: float, loss: float, step: int) -> None:
        """Tell a loss that stands out from the calm ones."""
        self.spike = None
        rise = y - self.level.middle if self.level else 0.0
        height = rise / max(self.level.deviation, RISE / SIGMAS) if self.level else 0.0
        if self.level is None or height <= SIGMAS:
            self.spike, self.high = self.high, None
            self.calm.append(y)
            return
        self.high = self.high or Excursion(since=step, before=self.level.loss)
        self.high.add(loss, height)
        if self.high.length == WINDOW:  # the new level is here to stay
            self.high = None
            self.calm.clear()
            self.calm.extend(self.latest)
            self._refresh(step)

    def _refresh(self, step: int) -> None:
        if len(self.calm) >= HISTORY:
            self.level = Level.of(self.calm, step)
        if len(self.latest) == WINDOW:
            self.now = Level.of(self.latest, step)
            if self.lowest is None or self.now.middle < self.lowest.middle:
                self.lowest = self.now


@dataclass(slots=True)
class Curve:
    """All that the detectors look at; `add` takes one step after the other."""

    first: int | None = None
    last: int = -1
    ended: bool = False
    value: str | None = None
    grad_norm: float | None = None
    broken: Streak = field(default_factory=Streak)
    hidden: Streak = field(default_factory=Streak)
    nothing: Streak = field(default_factory=Streak)
    no_gradient: Streak = field(default_factory=Streak)
    wild_gradient: Streak = field(default_factory=Streak)
    rate: Rate = field(default_factory=Rate)
    losses: Losses = field(default_factory=Losses)
    was_alive: bool = True

    def add(self, step: Step) -> None:
        """Take the next logged step."""
        self.first = step.step if self.first is None else self.first
        self.last, self.value, self.grad_norm = step.step, step.broken, step.grad_norm
        self.broken.update(step.broken is not None, step.step)
        self.hidden.update(step.hidden, step.step)
        if step.learning_rate is not None:
            self.rate.add(step.learning_rate, step.step)
        if step.finite_loss is not None:
            self._add_gradient(step)
            self._add_loss(step.finite_loss, step.step)

    @property
    def collapsed(self) -> bool:
        """Whether the loss is about nothing, and was much more just before or began so."""
        return self.nothing.length > 0 and self.was_alive

    def _add_gradient(self, step: Step) -> None:
        if step.grad_norm is not None:
            self.no_gradient.update(step.grad_norm == 0.0, step.step)
            self.wild_gradient.update(not math.isfinite(step.grad_norm), step.step)

    def _add_loss(self, loss: float, step: int) -> None:
        if not self.nothing.length:
            self.was_alive = not self.losses.count or self.losses.before > ALIVE_LOSS
        self.nothing.update(loss < ZERO_LOSS, step)
        if not self.collapsed:
            self.losses.add(loss, step)
            self.rate.losses_since_top += 1


def _scaled(loss: float) -> float:
    return math.log(max(loss, 0.0) + FLOOR)

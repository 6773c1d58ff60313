"""What is remembered of the learning rate and of the gradient."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from glmtrain.detectors.levels import HISTORY, Streak, Stretches
from glmtrain.detectors.losses import START, WINDOW, Losses

ENDED = 1e-3  # of its top; a cosine is below this for its last fiftieth, no schedule for longer
JUMP = 2.0  # no schedule that falls, and none that warms up beyond its second step, doubles
OVER_TOP = 3.0  # times the top so far: beyond every warm-up that is under way
ANEW = 5  # logged rates between a fall and the rise behind it
UNDER_WAY = 0.1  # of the top: a schedule at its end halves its rate from step to step
FULL = 0.9  # of the top: from here on a rate counts as warmed up
VANISHED = 1e-4  # of the first norms: gradients of a loss that is still there do not shrink so far
SMALLEST = 1e-8  # a norm below this is what rounding leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A learning rate that went up at once, and the loss just before.

    `anew` says that it first fell at once from a rate under way: a schedule that begins again with
    its warm-up, which no schedule does by itself.
    """

    step: int
    before: float
    after: float
    losses: int
    loss: float
    anew: bool


@dataclass(slots=True)
class Rate:
    """The learning rate so far: its top, how often it was zero, where it jumped or ended.

    `warm` counts the logged steps before it was first near the top.
    """

    count: int = 0
    zeros: int = 0
    top: float = 0.0
    now: float = 0.0
    first: float = 0.0
    fell: bool = False
    warm: int = 0
    since_top: int = 0
    losses_since_top: int = 0
    zero: Streak = field(default_factory=Streak)
    low: Streak = field(default_factory=Streak)
    jump: Jump | None = None
    dropped: int = -ANEW - 1

    def add(self, rate: float, step: int, losses: Losses) -> None:
        """Take the next learning rate; `losses` came before it."""
        self.count += 1
        self.zeros += rate == 0.0
        if rate == 0.0 or self.zero.length:
            self.zero.update(rate == 0.0, step)
        low = 0.0 <= rate <= ENDED * self.top
        if low or self.low.length:
            self.low.update(low, step)
        if self.count == 1:
            self.first = rate
        elif self._jumps(rate):
            loss = losses.before if losses.count else math.nan
            self.jump = Jump(
                step=step,
                before=self.now,
                after=rate,
                losses=losses.count,
                loss=loss,
                anew=0 <= self.count - self.dropped <= ANEW,
            )
        if rate * JUMP < self.now and self.now > UNDER_WAY * self.top:
            self.dropped = self.count
        if rate > self.top:
            self.warm = self.warm if rate * FULL <= self.top else self.count - 1
            self.top, self.losses_since_top, self.since_top = rate, 0, 0
        self.since_top += 1
        self.fell = self.fell or rate < FULL * self.top
        self.now = rate

    def _jumps(self, rate: float) -> bool:
        if self.jump is not None:
            return False
        again = self.fell and rate > JUMP * self.now and rate > 0.1 * self.top
        return again or (self.count > START and self.now > 0 and rate > OVER_TOP * self.top)


@dataclass(slots=True)
class Gradients:
    """The gradient norms so far.

    `nans` counts those that are NaN beside a finite loss and were not said to be an overflow;
    `start` is the median of the first ones, `stretches` follow the logarithm over the whole run.
    """

    count: int = 0
    nans: int = 0
    nan_step: int = 0
    infinite: int = 0
    first: list[float] = field(default_factory=list)
    start: float = 0.0
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    stretches: Stretches = field(default_factory=Stretches)
    zero: Streak = field(default_factory=Streak)
    wild: Streak = field(default_factory=Streak)
    faint: Streak = field(default_factory=Streak)
    limit: float | None = None

    def add(self, norm: float, step: int, *, scaled: bool) -> None:
        """Take the next norm beside a finite loss; `scaled` where an overflow may be its reason."""
        self.count += 1
        finite = math.isfinite(norm)
        if norm == 0.0 or self.zero.length:
            self.zero.update(norm == 0.0, step)
        if not finite or self.wild.length:
            self.wild.update(not finite, step)
        if not finite:
            self._add_wild(norm, step, scaled)
            return
        if len(self.first) < HISTORY:
            self.first.append(norm)
            self.start = median(self.first)
        faint = 0 < norm <= max(SMALLEST, VANISHED * self.start)
        if faint or self.faint.length:
            self.faint.update(faint, step)
        if norm > 0:
            self.latest.append(norm)
            self.stretches.add(math.log(norm), step)

    @property
    def lately(self) -> float:
        """The median of the last norms above 0; 0 without any."""
        return median(self.latest) if self.latest else 0.0

    def _add_wild(self, norm: float, step: int, scaled: bool) -> None:
        if not math.isnan(norm):
            self.infinite += 1
        elif not scaled:
            self.nan_step = self.nan_step or step
            self.nans += 1

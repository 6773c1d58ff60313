"""What is remembered of memory and speed, and of loss scaling."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from glmtrain.detectors.levels import Stretches, period
from glmtrain.detectors.step import Step

SPAN = 512  # steps in which a rhythm is looked for; at least FEWEST_PERIODS of it must fit
LEAST_SPAN = 24  # values: four turns of six steps
MOST_BUCKETS = 32  # lengths that are followed apart; what comes beyond is not compared
WASTED = 0.5  # of a batch; rows of one bucket waste a tenth
SETTLING = 20  # logged steps in which loss scaling finds its scale and memory its first level


@dataclass(slots=True)
class Resource:
    """Memory, or speed, over the run.

    `recent` holds the last values with their steps and buckets. `stretches` follows what the length
    does not explain: each value over the first one of its bucket, as a logarithm. Of a resource
    that is `even`, rather than noisy, a bucket that comes late takes its place at what has changed
    until then.
    """

    even: bool = False
    count: int = 0
    top: float = 0.0
    recent: deque[tuple[int, float, float]] = field(default_factory=lambda: deque(maxlen=SPAN))
    stretches: Stretches = field(default_factory=Stretches)
    _first: dict[float, float] = field(default_factory=dict)

    def add(self, value: float, step: int, bucket: float | None) -> None:
        """Take the next value, which must be above 0."""
        self.count += 1
        self.top = max(self.top, value)
        key = math.nan if bucket is None else bucket
        self.recent.append((step, value, key))
        if self.count <= 2:  # a run's first steps are unlike all others
            return
        if bucket is None:
            key = 0.0
        if key not in self._first:
            if len(self._first) == MOST_BUCKETS:
                return
            means = self.stretches.means if self.even else ()
            self._first[key] = value / math.exp(means[-1]) if means else value
        self.stretches.add(math.log(value / self._first[key]), step)

    @property
    def swing(self) -> float:
        """How far the recent values vary, the 5th to the 95th percentile, over their median."""
        values = self.values
        low, high = np.quantile(values, [0.05, 0.95])
        return float(high - low) / median(values)

    @property
    def values(self) -> Sequence[float]:
        """The recent values."""
        return [value for _, value, _ in self.recent]

    @property
    def explained(self) -> float:
        """The share of the recent variance that the length explains; 0 where it is not known."""
        lengths = np.array([bucket for _, _, bucket in self.recent])
        if np.isnan(lengths).any() or len(set(lengths.tolist())) < 2:
            return 0.0
        values = np.array(self.values)
        rest = values.copy()
        for bucket in np.unique(lengths):
            rest[lengths == bucket] -= values[lengths == bucket].mean()
        return 1.0 - float(rest.var() / values.var()) if values.var() > 0 else 0.0

    @property
    def rhythm(self) -> int | None:
        """After how many steps it repeats itself."""
        if len(self.recent) < LEAST_SPAN:
            return None
        turns = period(self.values)
        steps = [step for step, _, _ in self.recent]
        return None if turns is None else round(turns * (steps[-1] - steps[0]) / (len(steps) - 1))


@dataclass(slots=True)
class Padding:
    """The share of padding in batches: `wasted` were half padding, the first of them at `since`."""

    count: int = 0
    wasted: int = 0
    since: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=SPAN))

    def add(self, share: float, step: int) -> None:
        """Take the next share, from 0 to 1."""
        self.count += 1
        self.recent.append(share)
        if share >= WASTED:
            self.since = self.since or step
            self.wasted += 1


@dataclass(slots=True)
class Scale:
    """The scale of fp16 losses so far, and the steps that it lost.

    `falls` counts how often it fell since it last rose; `lost` are overflows since the first
    SETTLING steps, of `steps` logged since then; `search` are the overflows that the log begins
    with, in succession.
    """

    now: float | None = None
    top: float = 0.0
    falls: int = 0
    since: int = 0
    steps: int = 0
    seen: int = 0
    search: int = 0
    lost: int = 0
    lost_since: int = 0

    def add(self, step: Step) -> None:
        """Take a step, with or without a scale."""
        self.seen += 1
        if self.search == self.seen - 1 and _overflowed(step):
            self.search = self.seen
        if self.seen > SETTLING:
            self.steps += 1
            if step.event == "overflow":
                self.lost_since = self.lost_since or step.step
                self.lost += 1
        if step.loss_scale is None or not math.isfinite(step.loss_scale):
            return
        if self.now is not None and step.loss_scale < self.now:
            self.since = self.since if self.falls else step.step
            self.falls += 1
        elif self.now is not None and step.loss_scale > self.now:
            self.falls = 0
        self.now = step.loss_scale
        self.top = max(self.top, step.loss_scale)


def _overflowed(step: Step) -> bool:
    """Whether loss scaling lost the step, as far as the log tells."""
    norm = step.grad_norm
    return step.event == "overflow" or (norm is not None and not math.isfinite(norm))

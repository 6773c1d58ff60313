"""What is remembered of the losses of a run: constant memory, however long the run."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from glmtrain.detectors.levels import (
    HISTORY,
    Excursion,
    Level,
    Stretches,
    Trend,
    scaled,
    unscaled,
)

WINDOW = 30  # logged steps that stand for "lately": enough for quartiles, short against a run
CALM = 100  # losses that set the level: fewer make the deviation itself too noisy
REFRESH = 5  # levels are taken anew every so many losses; each loss would cost five times as much
LONG_RUN = 2000  # losses; from here on levels move slowly, and are taken anew a fifth as often
SIGMAS = 6.0  # robust deviations that no two batches in succession exceed by chance
RISE = math.log(1.5)  # less than half as much again is not worth a person's time
START = 5  # losses that tell where a run began
SEEN = 60  # losses among which equal ones are counted


@dataclass(slots=True)
class Losses:
    """The finite losses so far, in their order.

    `calm` are the last ones that do not stand out and set the `level`; `latest` the last ones of
    all, which set `now`; `lowest` is the lowest that `now` ever was; `first` are the first ones,
    with their steps; `repeats` counts those among the latest that equal another one exactly.
    """

    count: int = 0
    trend: Trend = field(default_factory=Trend)
    calm: deque[float] = field(default_factory=lambda: deque(maxlen=CALM))
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    stretches: Stretches = field(default_factory=Stretches)
    first: list[float] = field(default_factory=list)
    first_step: int = 0
    repeats: int = 0
    repeats_since: int = 0
    level: Level | None = None
    now: Level | None = None
    lowest: Level | None = None
    high: Excursion | None = None
    spike: Excursion | None = None
    spikes: int = 0
    _seen: deque[float] = field(default_factory=deque)
    _times: dict[float, int] = field(default_factory=dict)

    def add(self, loss: float, step: int) -> None:
        """Take the next loss."""
        y = scaled(loss)
        if not self.count:
            self.first_step = step
        if len(self.first) < START:
            self.first.append(loss)
        self.count += 1
        self.trend.add(y)
        self.stretches.add(y, step)
        self.latest.append(y)
        self._compare(loss, step)
        self._follow(y, loss, step)
        if self.count % (REFRESH if self.count < LONG_RUN else 5 * REFRESH) == 0:
            self._refresh(step)

    @property
    def before(self) -> float:
        """The median of the last few losses; needs one."""
        return unscaled(self.recent)

    @property
    def recent(self) -> float:
        """The median of the last few losses as a logarithm; needs one."""
        latest = self.latest
        if len(latest) < 3:
            return latest[0] if len(latest) == 1 else (latest[0] + latest[1]) / 2
        a, b, c = latest[-1], latest[-2], latest[-3]
        if a > b:
            a, b = b, a
        return a if c < a else b if c > b else c

    @property
    def start(self) -> float:
        """The median of the first few losses; needs one."""
        return median(self.first)

    @property
    def lately(self) -> float:
        """The median of the last ten losses; needs one."""
        return unscaled(median(list(self.latest)[-10:]))

    @property
    def seen(self) -> int:
        """How many losses `repeats` looks at."""
        return len(self._seen)

    def _compare(self, loss: float, step: int) -> None:
        """Count exactly equal losses within the last SEEN ones."""
        seen, times = self._seen, self._times
        seen.append(loss)
        if loss in times:
            times[loss] += 1
            if not self.repeats:
                self.repeats_since = step
            self.repeats += 1
        else:
            times[loss] = 1
        if len(seen) > SEEN:
            old = seen.popleft()
            if times[old] == 1:
                del times[old]
            else:
                times[old] -= 1
                self.repeats -= 1

    def _follow(self, y: float, loss: float, step: int) -> None:
        """Tell a loss that stands out from the calm ones."""
        level = self.level
        rise = 0.0 if level is None else y - level.middle
        height = 0.0
        if rise > RISE and level is not None:
            height = rise / max(level.deviation, RISE / SIGMAS)
        if level is None or height <= SIGMAS:
            self.spike, self.high = self.high, None
            if self.spike is not None:
                self.spikes += self.spike.is_spike
            self.calm.append(y)
            return
        self.spike = None
        self.high = self.high or Excursion(since=step, before=level.loss)
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

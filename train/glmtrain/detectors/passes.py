"""What is remembered of evaluations and of the passes over the data."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from glmtrain.detectors.levels import Level
from glmtrain.detectors.step import Step

PHASES = 8  # parts of a pass whose losses are compared from one pass to the next
EDGE = 5  # losses on either side of a pass's end
LEAST_PASS = 8  # losses in a pass, one in each of its parts
MOST_EVALUATIONS = 64  # of which the steps are kept
MOST_PASSES = 32  # that are remembered; more than that repeat themselves
SAMPLE = 128  # last losses of a pass that tell how far they scatter
ROUNDING = 1e-3  # of a pass
WHOLE = 0.99  # of a pass: what trainers round an epoch to


@dataclass(slots=True)
class Evaluations:
    """Losses on held-out rows: the best, the last, and the loss in training at both times."""

    count: int = 0
    first: float = math.nan
    last: float = math.nan
    best: float = math.inf
    best_step: int = 0
    best_epoch: float = math.nan
    train_at_best: float = math.nan
    since_best: int = 0
    steps: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_EVALUATIONS))

    def add(self, loss: float, step: int, train: float, epoch: float | None) -> None:
        """Take an evaluation; `train` is the loss in training lately."""
        if not math.isfinite(loss):
            return
        self.first = loss if not self.count else self.first
        self.count += 1
        self.last = loss
        self.since_best += 1
        self.steps.append(step)
        if loss < self.best:
            self.best, self.best_step, self.train_at_best, self.since_best = loss, step, train, 0
            self.best_epoch = math.nan if epoch is None else epoch

    @property
    def every(self) -> float:
        """Steps from one evaluation to the next; NaN with fewer than three."""
        steps = list(self.steps)
        return float(np.median(np.diff(steps))) if len(steps) > 2 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A whole pass over the data: each row once, so that its mean is that of the same rows again.

    `loss` is the mean, `exact` if it is by trained tokens, which not every log has; `norm` the
    geometric mean of the gradient norms, 0 without any. `gap` is how far the highest loss lies
    above the next one and `height` above the middle, both in robust deviations; `peaked` whether
    its gradient was the pass's greatest, None without gradients.
    """

    loss: float
    exact: bool
    norm: float
    top_step: int
    top_loss: float
    gap: float
    height: float
    peaked: bool | None


@dataclass(slots=True)
class Running:
    """The pass that is under way."""

    weight: float = 0.0
    loss: float = 0.0
    norms: int = 0
    norm: float = 0.0
    top: tuple[float, int, float] = (-math.inf, 0, 0.0)  # logarithm, step, loss
    second: float = -math.inf
    top_norm: tuple[float, int] = (0.0, 0)
    sample: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLE))

    def add(self, loss: float, y: float, step: Step) -> None:
        """Take a step with its loss, also as a logarithm."""
        weight = step.supervised_tokens or 1.0
        self.weight += weight
        self.loss += weight * loss
        self.sample.append(y)
        if y > self.top[0]:
            self.second = self.top[0]
            self.top = (y, step.step, loss)
        elif y > self.second:
            self.second = y
        norm = step.grad_norm
        if norm is not None and 0 < norm < math.inf:
            self.norms += 1
            self.norm += math.log(norm)
            if norm > self.top_norm[0]:
                self.top_norm = (norm, step.step)

    def over(self) -> Pass:
        """What is kept of it; needs two losses."""
        level = Level.of(self.sample, self.top[1])
        deviation = max(level.deviation, 1e-9)
        return Pass(
            loss=self.loss / self.weight,
            exact=self.weight > len(self.sample),
            norm=math.exp(self.norm / self.norms) if self.norms else 0.0,
            top_step=self.top[1],
            top_loss=self.top[2],
            gap=(self.top[0] - self.second) / deviation,
            height=(self.top[0] - level.middle) / deviation,
            peaked=self.top_norm[1] == self.top[1] if self.norms else None,
        )


@dataclass(slots=True)
class Passes:
    """Passes over the data (epochs): how the loss falls at their ends and moves within them.

    `drops` are falls from the end of a pass to the begin of the next, `within` falls inside a pass,
    both of logarithms; `alike` are correlations of a pass's course with that of the one before, and
    `swings` how far the course moves up and down in both.
    """

    last: float = 0.0
    drops: list[float] = field(default_factory=list)
    within: list[float] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)
    swings: list[float] = field(default_factory=list)
    first_end: int = 0
    lengths: set[float] = field(default_factory=set)
    done: list[Pass] = field(default_factory=list)
    _running: Running = field(default_factory=Running)
    _number: int = 0
    _head: list[float] = field(default_factory=list)
    _tail: deque[float] = field(default_factory=lambda: deque(maxlen=EDGE))
    _end: float | None = None
    _sums: list[float] = field(default_factory=lambda: [0.0] * PHASES)
    _counts: list[int] = field(default_factory=lambda: [0] * PHASES)
    _course: list[float] | None = None

    def add(self, loss: float, y: float, epoch: float, step: Step) -> None:
        """Take a loss, also as a logarithm; `epoch` is how often the data were seen, in parts."""
        number = math.ceil(epoch - ROUNDING) - 1 if epoch > ROUNDING else 0
        if number > self._number:
            self._finish(step.step)
            self._number = number
        self.last = epoch
        if step.bucket is not None and len(self.lengths) < 2:
            self.lengths.add(step.bucket)
        self._running.add(loss, y, step)
        if len(self._head) < EDGE:
            self._head.append(y)
            if len(self._head) == EDGE and self._end is not None and len(self.drops) < PHASES:
                self.drops.append(self._end - median(self._head))
        self._tail.append(y)
        phase = min(int((epoch - number) * PHASES), PHASES - 1)
        self._sums[phase] += y
        self._counts[phase] += 1

    @property
    def whole(self) -> list[Pass]:
        """The passes that were finished, the last one too if it ends with the log."""
        done, running = list(self.done), self._running
        if self.last - self._number >= WHOLE and len(running.sample) >= LEAST_PASS:
            done.append(running.over())
        return done

    def _finish(self, step: int) -> None:
        """The end of a pass."""
        if len(self._running.sample) >= LEAST_PASS and len(self.done) < MOST_PASSES:
            self.done.append(self._running.over())
        self._running = Running()
        self.first_end = self.first_end or step
        long = sum(self._counts) >= LEAST_PASS
        self._end = median(self._tail) if long else None
        if long and len(self.within) < PHASES:
            self.within.append(median(self._head) - median(self._tail))
        self._compare(long and all(self._counts))
        self._head, self._sums, self._counts = [], [0.0] * PHASES, [0] * PHASES
        self._tail.clear()

    def _compare(self, whole: bool) -> None:
        """A pass's course, without its slope, beside that of the pass before."""
        before, self._course = self._course, None
        if not whole:
            return
        means = np.array([s / n for s, n in zip(self._sums, self._counts, strict=True)])
        x = np.arange(PHASES)
        self._course = list(means - np.polyval(np.polyfit(x, means, 1), x))
        if before is None or len(self.alike) == PHASES or not (any(before) and any(self._course)):
            return
        self.alike.append(float(np.corrcoef(before, self._course)[0, 1]))
        self.swings.append(float(min(np.ptp(before), np.ptp(self._course))))

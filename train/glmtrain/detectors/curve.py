"""All that the rules look at: a run so far, in constant memory."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from math import isfinite
from statistics import median

from glmtrain.detectors.levels import Streak, scaled
from glmtrain.detectors.losses import START, Losses
from glmtrain.detectors.passes import Evaluations, Passes
from glmtrain.detectors.rates import Gradients, Rate
from glmtrain.detectors.resources import Padding, Resource, Scale
from glmtrain.detectors.step import Step
from glmtrain.detectors.thrown import Thrown

ZERO_LOSS = 1e-3  # next-token loss below this means certainty about every token
ALIVE_LOSS = 0.1  # a loss that was above this has no honest way to ZERO_LOSS within a step
ALIVE = scaled(ALIVE_LOSS)
KEPT = 256  # steps before a resume that are remembered; it seldom goes back further
SIDE = 10  # losses on either side of a resume that are compared
EARLY = 30  # losses in which a run that is thrown back is thrown back, and is seen to stay there

Kept = tuple[int, float | None, float | None, float | None]
Early = tuple[float, float]
"""A loss and its gradient norm."""


@dataclass(slots=True, kw_only=True)
class Resume:
    """A run that was gone on with: what was before it, and the first losses after it."""

    step: int
    last: int
    loss: float
    spread: float
    rate: float | None = None
    norm: float | None = None
    rate_after: float | None = None
    norms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def repeated(self) -> int:
        """Steps that were done again."""
        return max(0, self.last - self.step + 1)


@dataclass(slots=True)
class Curve:
    """All that the detectors look at; `add` takes one step after the other."""

    first: int | None = None
    last: int = -1
    ended: bool = False
    value: str | None = None
    grad_norm: float | None = None
    epoch: float | None = None
    planned: int | None = None
    oom: Step | None = None
    crash: Step | None = None
    interval: int = 1
    resume: Resume | None = None
    broken: Streak = field(default_factory=Streak)
    hidden: Streak = field(default_factory=Streak)
    nothing: Streak = field(default_factory=Streak)
    exact: Streak = field(default_factory=Streak)
    blanks: int = 0
    blank_step: int = 0
    rate: Rate = field(default_factory=Rate)
    losses: Losses = field(default_factory=Losses)
    gradients: Gradients = field(default_factory=Gradients)
    scale: Scale = field(default_factory=Scale)
    memory: Resource = field(default_factory=lambda: Resource(even=True))
    speed: Resource = field(default_factory=Resource)
    evaluations: Evaluations = field(default_factory=Evaluations)
    passes: Passes = field(default_factory=Passes)
    padding: Padding = field(default_factory=Padding)
    thrown: Thrown = field(default_factory=Thrown)
    early: list[Early] = field(default_factory=list)
    was_alive: bool = True
    kept: deque[Kept] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, step: Step) -> None:
        """Take the next logged step."""
        number, loss = step.step, step.finite_loss
        if self.first is None:
            self.first = number
        self.interval = number - self.last if self.last >= 0 else self.interval
        self.last, self.planned = number, step.planned or self.planned
        if step.epoch is not None:
            self.epoch = step.epoch
        if step.loss is not None or step.nonfinite:
            self._see(step, number)
        if step.learning_rate is not None:
            self.rate.add(step.learning_rate, number, self.losses)
        self.scale.add(step)
        if loss is not None:
            self._add_gradient(step)
            self._add_loss(loss, step)
        self._add_rest(step)

    def _see(self, step: Step, number: int) -> None:
        """Whether the loss is a number."""
        self.value, self.grad_norm = step.broken, step.grad_norm
        if self.value is not None or self.broken.length:
            self.broken.update(self.value is not None, number)
        if step.loss == 0.0 or self.hidden.length:
            self.hidden.update(step.hidden, number)
        self.oom = self.crash = None  # it went on

    def follows(self, before: Curve, step: Step) -> None:
        """To be told of the curve before, where the steps go back; `step` is the first one."""
        self.kept, self.last, self.planned = before.kept, before.last, before.planned
        self.resumed(step)
        self.kept, self.last = deque(maxlen=KEPT), -1

    def resumed(self, step: Step) -> None:
        """To be told before the first step after a resume is added."""
        before = [kept for kept in self.kept if kept[0] < step.step][-SIDE:] or list(self.kept)
        losses = [loss for _, loss, _, _ in before if loss is not None]
        if not losses:
            return
        middle = median(losses)
        # The rate is compared with that of the step before, on the same schedule.
        self.resume = Resume(
            step=step.step,
            last=self.last,
            loss=middle,
            spread=median(abs(loss - middle) for loss in losses),
            # The first steps of a warm-up double the rate from one to the next.
            rate=before[-1][2] if len(before) == SIDE else None,
            norm=median([n for _, _, _, n in before if n is not None] or [math.nan]),
        )

    @property
    def urgent(self) -> bool:
        """Whether something is so unusual, or so early, that it is looked at at every step."""
        losses, norms = self.losses, self.gradients
        return bool(
            losses.count <= START
            or losses.high
            or losses.spike
            or self.nothing.length
            or self.broken.length
            or self.hidden.length
            or self.exact.length
            or norms.zero.length
            or norms.wild.length
        )

    @property
    def collapsed(self) -> bool:
        """Whether the loss is about nothing, and was much more just before or began so."""
        return self.nothing.length > 0 and self.was_alive

    def _add_gradient(self, step: Step) -> None:
        if step.max_grad_norm is not None:
            self.gradients.limit = step.max_grad_norm
        if step.grad_norm is not None:
            overflow = step.event == "overflow" or step.loss_scale is not None
            self.gradients.add(step.grad_norm, step.step, scaled=overflow)

    def _add_loss(self, loss: float, step: Step) -> None:
        number = step.step
        if not self.nothing.length:
            self.was_alive = not self.losses.count or self.losses.recent > ALIVE
        if loss < ZERO_LOSS or self.nothing.length:
            self.nothing.update(loss < ZERO_LOSS, number)
        if not loss or self.exact.length:
            self._add_blank(loss, number)
        if self.collapsed:
            return
        self.losses.add(loss, number)
        self.thrown.add(loss, number)
        self.rate.losses_since_top += 1
        self.kept.append((number, loss, step.learning_rate, step.grad_norm))
        if step.epoch is not None and 0 <= step.epoch < math.inf:
            self.passes.add(loss, self.losses.latest[-1], step.epoch, step)
        if len(self.early) < EARLY and step.grad_norm is not None and isfinite(step.grad_norm):
            self.early.append((loss, step.grad_norm))
        if self.resume is not None and len(self.resume.losses) < SIDE:
            self._add_resumed(self.resume, loss, step)

    def _add_blank(self, loss: float, number: int) -> None:
        """Losses of exactly 0.0: in a row, or alone among others."""
        if not self.exact.length and not loss:
            self.blank_step = self.blank_step or number
        self.exact.update(loss == 0.0 and self.was_alive, number)
        self.blanks += loss == 0.0 and self.was_alive

    def _add_resumed(self, resume: Resume, loss: float, step: Step) -> None:
        resume.losses.append(loss)
        if resume.rate_after is None:
            resume.rate_after = step.learning_rate
        if step.grad_norm is not None:
            resume.norms.append(step.grad_norm)

    def _add_rest(self, step: Step) -> None:
        if step.memory is not None and 0 < step.memory < math.inf:
            self.memory.add(step.memory, step.step, step.bucket)
        speed = step.speed
        if speed is not None and 0 < speed < math.inf:
            self.speed.add(speed, step.step, step.bucket)
        if step.padding is not None and 0 <= step.padding <= 1:
            self.padding.add(step.padding, step.step)
        if step.eval_loss is not None:
            near = self.losses.lately if self.losses.count else math.nan
            self.evaluations.add(step.eval_loss, step.step, near, step.epoch or self.epoch)
        if step.event == "oom":
            self.oom = step
        elif step.event == "crash":
            self.crash = step

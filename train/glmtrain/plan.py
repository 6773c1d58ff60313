"""What follows from settings, model and data, decided once, said at the start, and kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from glmprep.errors import UsageError
from glmprep.findings import Finding
from glmreport.text import Text

from glmtrain import flops
from glmtrain.course import Course
from glmtrain.derive import Decision
from glmtrain.precision import Precision
from glmtrain.rules import setting_without_effect
from glmtrain.schedule import warmup_steps
from glmtrain.settings import Config

EVALUATIONS, LEAST_APART = 10, 20
"""How often a run looks at held-out rows unless told otherwise, and steps between at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A configuration without gaps, and the course of the run that follows from it.

    `peak` is what the device computes in a second at most, None where that is not known.
    `on_cpu` says that the device is a CPU.
    """

    config: Config
    decisions: tuple[Decision, ...]
    steps_per_epoch: int
    steps: int
    peak: float | None = None
    on_cpu: bool = True

    def check_goes_on(self, done: int) -> None:
        """Raise UsageError where nothing is left to do after step `done`."""
        if done >= self.steps:
            raise UsageError(
                f"the run is at step {done} of {self.steps} already; raise --max-steps or --epochs"
            )


def make(
    config: Config, decisions: Sequence[Decision], *, course: Course, precision: Precision
) -> Plan:
    """The plan of a configuration whose gaps were filled by `decisions`, save what depends on the
    number of steps."""
    config = replace(config, precision=replace(config.precision, dtype=precision.name))
    per_epoch, steps = course.steps_in(0), _total(config, course)
    warmup = warmup_steps(config.schedule, steps)
    epochs = Text(
        "train.reason.steps", epochs=steps / per_epoch, per_epoch=per_epoch, warmup=warmup
    )
    made = [
        *decisions,
        Decision(setting="dtype", value=precision.name, reason=precision.reason),
        Decision(setting="steps", value=str(steps), reason=epochs),
    ]
    if config.evaluation.every is None:
        every = max(math.ceil(steps / EVALUATIONS), LEAST_APART) if config.data.validation else 0
        config = replace(config, evaluation=replace(config.evaluation, every=every))
        if every:
            reason = Text("train.reason.evaluations")
            made.append(Decision(setting="evaluation.every", value=str(every), reason=reason))
    return Plan(
        config=config,
        decisions=tuple(made),
        steps_per_epoch=per_epoch,
        steps=steps,
        peak=flops.peak(precision.device, precision.dtype),
        on_cpu=precision.device.type == "cpu",
    )


def without_effect(given: Collection[str], plan: Plan) -> list[Finding]:
    """One finding for each setting that was given in vain."""
    return [
        setting_without_effect.finding(found["setting"], **found)
        for found in setting_without_effect(given, plan)
    ]


def _total(config: Config, course: Course) -> int:
    """Optimiser steps of the run: the smaller of both limits."""
    limits = [config.run.max_steps] if config.run.max_steps is not None else []
    limits += [course.steps(config.run.epochs)] if config.run.epochs is not None else []
    return min(limits)

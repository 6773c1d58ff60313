"""The same rows computed in other ways that must not matter: what comes out must be the same.

How much is the same is measured. A format rounds, and another order of sums rounds otherwise, by
about as much as the format is off from a more precise one on these very rows; a fault is orders of
magnitude above that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from glmprep.errors import UsageError, first_line

from glmdiag.preflight.formats import Formats
from glmdiag.preflight.passes import Pass, compute, distance, evaluating, gradients, relative
from glmdiag.preflight.trial import EPSILON, Format, Made, Trial

Name: TypeAlias = Literal[
    "twice", "order", "padding", "future", "packing", "accumulation", "checkpointing"
]
REPEATED = 64
"""Units in the last place that the same computation may differ by: atomic sums on GPUs do."""
ROOM = 8
"""Times the measured noise: both sides round, and losses and gradients are taken together."""
MOST = 1024
"""Units in the last place that noise may be held to be, so that no fault excuses itself."""
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariance:
    """How far two ways to compute the same are apart, relatively, and how far they may be.

    `gradients` is None where they are not compared; `problem` says why nothing was.
    """

    name: Name
    losses: float = math.nan
    gradients: float | None = None
    allowed: float = math.nan
    problem: str | None = None

    @property
    def worst(self) -> float:
        """The larger difference, inf where one is not a number."""
        found = max(self.losses, self.gradients or 0.0)
        return found if math.isfinite(self.losses + (self.gradients or 0.0)) else math.inf

    @property
    def holds(self) -> bool:
        """Whether the difference is what rounding makes; true where nothing was compared."""
        return self.problem is not None or self.worst <= self.allowed

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"holds": self.holds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariances:
    """All of them, in the format in which they were computed, and the noise that was measured."""

    format: Format
    noise: float
    found: tuple[Invariance, ...]

    def of(self, name: Name) -> Invariance:
        """One by its name."""
        return next(each for each in self.found if each.name == name)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = [each.as_json() for each in self.found]
        return {"format": self.format, "noise": self.noise, "found": found}


def check(trial: Trial, formats: Formats) -> Invariances:
    """All of them, in fp32 if the run's own attention computes in it, else in the run's format."""
    name: Format = trial.dtype if _needs_half(trial, formats) else "fp32"
    with trial.made(name) as made:
        return of(made, trial, formats)


def of(made: Made, trial: Trial, formats: Formats) -> Invariances:
    """All of them with a model that is there; `formats` tell its distance from exact numbers."""
    rows, strategy = trial.rows, made.strategy
    unit = EPSILON[made.name]
    with evaluating(strategy):
        plain = compute(strategy, [rows.together()])
        again = compute(strategy, [rows.together()])
        order = list(reversed(range(len(rows))))
        turned = _in_order(compute(strategy, [rows.together(order)]), trial, order)
        apart = [distance(each, plain).worst for each in (again, turned)]
        if formats.exact is not None:
            apart.append(distance(plain, formats.exact).gradients)
        noise = min(MOST * unit, max(unit, *apart))
        allowed = ROOM * noise
        first = _compared("twice", again, plain, REPEATED * unit)
        found = [
            first,
            _compared("order", turned, plain, allowed),
            _compared("padding", compute(strategy, list(rows.alone())), plain, allowed),
            _future(made, trial, allowed),
            _compared("packing", compute(strategy, [rows.packed()]), plain, allowed),
            _accumulation(made, trial, plain, allowed),
        ]
    found.append(_checkpointing(made, trial, allowed))
    return Invariances(format=made.name, noise=noise, found=tuple(found))


def _needs_half(trial: Trial, formats: Formats) -> bool:
    """Whether fp32 would not fit, or would run another attention than the run."""
    fp32 = formats.of("fp32")
    asked, on_cpu = trial.config.model.attention, trial.place.device.type == "cpu"
    other = not on_cpu and asked not in ("sdpa", "eager") and trial.dtype != "fp32"
    return other or fp32 is None or fp32.problem is not None


def _compared(name: Name, one: Pass, other: Pass, allowed: float) -> Invariance:
    found = distance(one, other)
    return Invariance(name=name, losses=found.losses, gradients=found.gradients, allowed=allowed)


def _in_order(found: Pass, trial: Trial, order: list[int]) -> Pass:
    """A pass of rows in another order, with its losses in the first one."""
    parts = torch.split(found.losses, [int(trial.rows.labels[row]) for row in order])
    back = [parts[order.index(row)] for row in range(len(order))]
    return replace(found, losses=torch.cat(back))


def _future(made: Made, trial: Trial, allowed: float) -> Invariance:
    """Another last token must not change what is said of those before it."""
    with torch.no_grad():
        plain, other = (
            made.strategy.model(inputs, "each").double().cpu()
            for inputs in (trial.rows.without_ending(), trial.rows.other_ending())
        )
    return Invariance(name="future", losses=relative(other, plain), allowed=allowed)


def _accumulation(made: Made, trial: Trial, plain: Pass, allowed: float) -> Invariance:
    """Through the strategy, as a step does it: parts that are divided by the labels of all."""
    strategy, parts = made.strategy, list(trial.rows.alone())
    labels, total = sum(part.supervised for part in parts), 0.0
    for number, part in enumerate(parts):
        with strategy.accumulating(last=number == len(parts) - 1):
            loss = strategy.model(part) / labels
            strategy.backward(loss)
        total += float(loss.detach())
    whole = gradients(strategy, strategy.loss_scale or 1.0)
    losses = abs(total - plain.loss) / abs(plain.loss) if plain.loss else math.inf
    apart = distance(replace(plain, gradients=whole), plain).gradients
    return Invariance(name="accumulation", losses=losses, gradients=apart, allowed=allowed)


def _checkpointing(made: Made, trial: Trial, allowed: float) -> Invariance:
    """In training mode, the same random numbers each time."""
    causal, inputs = made.learner.causal, trial.rows.together()
    asked = made.config.model.gradient_checkpointing
    try:
        _switch(causal, on=False)
        plain = _seeded(lambda: compute(made.strategy, [inputs]))
        _switch(causal, on=True)
        found = _seeded(lambda: compute(made.strategy, [inputs]))
    except (ValueError, UsageError) as error:
        return Invariance(name="checkpointing", problem=first_line(error)[:200])
    finally:
        _switch(causal, on=asked)
    # Losses are measured without a gradient, where nothing is checkpointed, so by themselves.
    return replace(
        _compared("checkpointing", found, plain, allowed),
        losses=abs(found.loss - plain.loss) / abs(plain.loss) if plain.loss else math.inf,
    )


def _switch(causal: Any, *, on: bool) -> None:
    if on:
        causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        causal.gradient_checkpointing_disable()


def _seeded(run: Callable[[], Pass]) -> Pass:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return run()

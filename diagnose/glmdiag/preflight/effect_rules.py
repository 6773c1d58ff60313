"""Rules on what is switched on: it takes effect, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from glmprep.findings import Example, Finding, Severity, rule

if TYPE_CHECKING:
    from glmdiag.preflight.effects import Effect
    from glmdiag.preflight.whole import Preflight

OF_ITS_OWN = ("learning", "frozen", "evaluation")
"""Effects that nobody asks for, with a rule of their own each."""


@rule("CF141", Severity.ERROR)
def without_effect(found: Preflight) -> Iterator[Finding]:
    """A setting takes no effect in the model.

    Evidence: {setting} = {asked}, but it is seen in {seen} of {places} places in a step of the
    model.
    Why: a run that ignores what was asked for looks as if it had been tried.
    Fix: leave {setting} out, or find out why the model does not take it.
    """
    for each in _failed(found, others=True):
        yield without_effect.finding(
            each.setting,
            examples=_missing(each),
            setting=each.setting,
            asked=each.asked,
            seen=each.seen,
            places=each.of,
        )


@rule("CF142", Severity.ERROR)
def no_gradient(found: Preflight) -> Iterator[Finding]:
    """Weights that should learn get no gradient.

    Evidence: {count} of {places} weights that learn have no gradient, or one that is zero or not a
    number, after a batch.
    Why: they stay as they are for the whole run, and nothing says so.
    Fix: look at the names: leave such layers out of lora.target_modules, or mend the model's code.
    """
    for each in _failed(found, "learning"):
        count = each.of - each.seen
        yield no_gradient.finding(
            "model", examples=_missing(each), count=count or 1, places=each.of
        )


@rule("CF143", Severity.ERROR)
def frozen_moves(found: Preflight) -> Iterator[Finding]:
    """Weights that should stay as they are get a gradient.

    Evidence: {count} weights that do not learn have a gradient after a batch.
    Why: memory is spent on them, and an optimiser that holds them changes the base model.
    Fix: look for code of the model that sets requires_grad.
    """
    for each in _failed(found, "frozen"):
        yield frozen_moves.finding("model", examples=_missing(each), count=each.of - each.seen)


@rule("CF144", Severity.ERROR)
def random_in_evaluation(found: Preflight) -> Iterator[Finding]:
    """Dropout or noise stays on in evaluation.

    Evidence: {count} {count:|place|places} of the model are random in evaluation mode.
    Why: validation losses and generated answers are those of a damaged model.
    Fix: look at the names; such a module does not follow model.eval().
    """
    for each in _failed(found, "evaluation"):
        count = each.of - each.seen
        yield random_in_evaluation.finding("model", examples=_missing(each), count=count)


EFFECT_RULES = (without_effect, no_gradient, frozen_moves, random_in_evaluation)


def _failed(found: Preflight, name: str = "", *, others: bool = False) -> Iterator[Effect]:
    for each in found.effects:
        if not each.took and (each.name not in OF_ITS_OWN if others else each.name == name):
            yield each


def _missing(each: Effect) -> tuple[Example, ...]:
    return tuple(Example(where=place) for place in each.missing)

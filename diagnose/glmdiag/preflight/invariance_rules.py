"""Rules on what must not matter: padding, packing, order, parts, checkpointing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from glmprep.findings import Finding, Rule, Severity, rule

if TYPE_CHECKING:
    from glmdiag.preflight.invariances import Name
    from glmdiag.preflight.whole import Preflight


@rule("CF131", Severity.ERROR)
def not_repeatable(found: Preflight) -> Iterator[Finding]:
    """The same rows give another result each time in evaluation.

    Evidence: computed twice, losses differ by {losses:.2g} and gradients by {gradients:.2g};
    rounding allows {allowed:.2g}.
    Why: dropout that stays on in evaluation spoils every measurement, and answers with it.
    Fix: look for dropout that is called as a function without training=self.training in the model's
    code.
    """
    yield from _broken(found, "twice", not_repeatable)


@rule("CF132", Severity.ERROR)
def order_matters(found: Preflight) -> Iterator[Finding]:
    """Rows of a batch see each other: their order matters.

    Evidence: with the rows in another order, losses differ by {losses:.2g} and gradients by
    {gradients:.2g}; rounding allows {allowed:.2g}.
    Why: a loss that depends on the neighbours in a batch is not the model's loss on the text.
    Fix: look for what mixes along the first dimension in the model's code; train with one row in a
    batch until it is mended.
    """
    yield from _broken(found, "order", order_matters)


@rule("CF133", Severity.ERROR)
def padding_matters(found: Preflight) -> Iterator[Finding]:
    """Padding changes the result.

    Evidence: each row alone and all together with padding differ in losses by {losses:.2g} and in
    gradients by {gradients:.2g}; rounding allows {allowed:.2g}.
    Why: the model attends to padding, or counts positions from it: it learns a text that nobody
    will send.
    Fix: take another attention (model.attention = "sdpa"), or batches of one row.
    """
    yield from _broken(found, "padding", padding_matters)


@rule("CF134", Severity.ERROR)
def sees_the_future(found: Preflight) -> Iterator[Finding]:
    """Tokens see those that come after them.

    Evidence: another last token changes the losses before it by {losses:.2g}; rounding allows
    {allowed:.2g}.
    Why: a model that sees the answer while it is asked for it reaches a loss near 0 and learns
    nothing of use.
    Fix: look for a mask that is not causal; use the transformers edition of the model (-hf).
    """
    yield from _broken(found, "future", sees_the_future)


@rule("CF135", Severity.ERROR)
def packing_matters(found: Preflight) -> Iterator[Finding]:
    """Conversations that are packed into one row see each other.

    Evidence: packed and alone, losses differ by {losses:.2g} and gradients by {gradients:.2g};
    rounding allows {allowed:.2g}.
    Why: answers would be learned from the text of other conversations.
    Fix: make the shards with glmprep bucket --layout buckets, or take another attention
    (model.attention = "sdpa").
    """
    severity = Severity.ERROR if found.packed else Severity.INFO
    yield from _broken(found, "packing", packing_matters, severity)


@rule("CF136", Severity.ERROR)
def accumulation_matters(found: Preflight) -> Iterator[Finding]:
    """Batches that are accumulated do not add up to the full batch.

    Evidence: row by row and all at once, losses differ by {losses:.2g} and gradients by
    {gradients:.2g}; rounding allows {allowed:.2g}.
    Why: where each part is divided by its own labels, short answers weigh more than long ones, and
    the result depends on how rows are batched.
    Fix: divide the summed loss by the labels of the whole step: glmtrain run does so.
    """
    yield from _broken(found, "accumulation", accumulation_matters)


@rule("CF137", Severity.ERROR)
def checkpointing_matters(found: Preflight) -> Iterator[Finding]:
    """Gradient checkpointing changes the gradients.

    Evidence: with and without it, losses differ by {losses:.2g} and gradients by {gradients:.2g};
    rounding allows {allowed:.2g}.
    Why: what is computed again on the way back is not what was computed before, so the gradients
    are those of another model.
    Fix: leave model.gradient_checkpointing out; take smaller batches instead.
    """
    severity = Severity.ERROR if found.checkpointing else Severity.INFO
    yield from _broken(found, "checkpointing", checkpointing_matters, severity)


INVARIANCE_RULES = (
    not_repeatable,
    order_matters,
    padding_matters,
    sees_the_future,
    packing_matters,
    accumulation_matters,
    checkpointing_matters,
)


def _broken(
    found: Preflight, name: Name, each: Rule[Any], severity: Severity | None = None
) -> Iterator[Finding]:
    if found.invariances is None:
        return
    broken = found.invariances.of(name)
    # What is random by itself breaks every other comparison, too.
    if broken.holds or (name != "twice" and not found.invariances.of("twice").holds):
        return
    yield each.finding(
        "model",
        severity=severity,
        losses=broken.losses,
        gradients=broken.gradients or 0.0,
        allowed=broken.allowed,
    )

"""Rules on a trial before a run: each takes a `Preflight` and yields its findings.

These are about number formats, the data and memory; see also `invariance_rules`, `effect_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2
from typing import TYPE_CHECKING

from glmprep.findings import Example, Finding, Severity, rule

from glmdiag.preflight.effect_rules import EFFECT_RULES
from glmdiag.preflight.invariance_rules import INVARIANCE_RULES

if TYPE_CHECKING:
    from glmdiag.preflight.whole import Preflight

WASTED = 0.05  # of the gradients may vanish at the loss scale that a run begins with
FULL = 0.9  # of a device's memory: fragmentation and other processes need the rest


@rule("CF121", Severity.ERROR)
def overflows(found: Preflight) -> Iterator[Finding]:
    """Numbers overflow in the format of the run.

    Evidence: in {format} {share:percent} of activations and gradients are inf or NaN; the largest
    finite activation is {largest:.3g}; {other} gives finite numbers on the same rows.
    Why: a loss that is NaN teaches nothing, and trainers that filter it show 0 instead.
    Fix: train with --dtype {advised}.
    """
    tried = found.formats.of(found.formats.chosen)
    reference = found.formats.reference
    if tried is None or tried.problem or tried.finite or reference is None:
        return
    yield overflows.finding(
        "precision.dtype",
        examples=tuple(
            Example(where=f"layer {layer.name}", excerpt=f"{layer.overflowed:.2%}")
            for layer in sorted(tried.layers, key=lambda one: -one.overflowed)[:5]
            if layer.overflowed
        ),
        format=tried.name,
        share=tried.overflowed,
        largest=tried.largest,
        other=reference,
        advised=found.formats.advised,
    )


@rule("CF122", Severity.WARNING)
def vanish(found: Preflight) -> Iterator[Finding]:
    """Gradients vanish in fp16 at the loss scale that the run begins with.

    Evidence: at a loss scale of {scale:g}, {lost:percent} of the gradients are below the smallest
    number of fp16 and become zero; {least:.3g} would lose a twentieth.
    Why: weights whose gradients are rounded to zero do not learn, and the loss does not tell.
    Fix: set precision.initial_loss_scale to {better:g}, or train with --dtype bf16 or fp32.
    """
    room = found.formats.headroom
    if found.formats.chosen != "fp16" or room is None or room.lost <= WASTED:
        return
    if room.least > room.most:
        return  # no scale would do, which is told by another rule
    better = _power(room.least)
    yield vanish.finding(
        "precision.initial_loss_scale",
        scale=room.scale,
        lost=room.lost,
        least=room.least,
        better=better,
    )


@rule("CF123", Severity.INFO)
def scale_too_large(found: Preflight) -> Iterator[Finding]:
    """The loss scale of fp16 begins too large.

    Evidence: gradients overflow above a loss scale of {most:.3g}, and the run begins with
    {scale:g}: its first {count} {count:|step|steps} will be skipped.
    Why: every skipped step halves the scale; the learning rate's warm-up goes on meanwhile.
    Fix: set precision.initial_loss_scale to {better:g}.
    """
    room = found.formats.headroom
    if found.formats.chosen == "fp16" and room is not None and room.least <= room.most < room.scale:
        yield scale_too_large.finding(
            "precision.initial_loss_scale",
            most=room.most,
            scale=room.scale,
            count=room.halvings,
            better=_power(room.most) / 2,
        )


@rule("CF124", Severity.ERROR)
def no_scale_fits(found: Preflight) -> Iterator[Finding]:
    """No loss scale suits fp16.

    Evidence: above a loss scale of {most:.3g} the largest gradients overflow in fp16, and below
    {least:.3g} more than a twentieth of them becomes zero.
    Why: whatever scale is found while training, a part of the model is not trained.
    Fix: train with --dtype {advised}.
    """
    room = found.formats.headroom
    if found.formats.chosen == "fp16" and room is not None and room.least > room.most:
        yield no_scale_fits.finding(
            "precision.dtype",
            most=room.most,
            least=room.least,
            advised="bf16" if found.formats.safe("bf16") else "fp32",
        )


@rule("CF125", Severity.WARNING)
def imprecise(found: Preflight) -> Iterator[Finding]:
    """The format of the run computes gradients that are far from exact ones.

    Evidence: in {format} gradients are off by {error:percent} from those in {reference} (cosine
    {cosine:.3f}); halves of the same batch differ by {noise:percent}.
    Why: rounding that is small beside the chance of which rows come into a batch does no harm; this
    one is not small beside it.
    Fix: train with --dtype {advised}, and look in the table of layers for where it begins.
    """
    formats = found.formats
    tried = formats.of(formats.chosen)
    if tried is None or tried.against is None or not tried.finite or formats.reference is None:
        return
    if tried.against.gradients <= formats.harmless:
        return
    yield imprecise.finding(
        "precision.dtype",
        format=tried.name,
        error=tried.against.gradients,
        reference=formats.reference,
        cosine=tried.against.cosine,
        noise=formats.noise,
        advised=formats.advised,
    )


@rule("CF126", Severity.ERROR)
def nowhere_finite(found: Preflight) -> Iterator[Finding]:
    """Loss or gradients are not numbers, whatever the format.

    Evidence: in {formats} the loss or the gradients of {segments} short conversations are NaN or
    inf.
    Why: every step would be skipped, or worse, shown as a loss of 0.
    Fix: fetch the model again; with an adapter to go on from, begin without it; look at the rows
    with glmprep show.
    """
    seen = [each.name for each in found.formats.tried if each.problem is None]
    if found.formats.reference is None and seen:
        yield nowhere_finite.finding("model", formats=", ".join(seen), segments=found.segments)


@rule("CF127", Severity.ERROR)
def other_tokenizer(found: Preflight) -> Iterator[Finding]:
    """The shards were made with another tokenizer than the model's.

    Evidence: the tokenizer in {model} is not the one of the shards ({tokenizer}).
    Why: ids that mean other words are as good as random text; the loss falls all the same.
    Fix: make the shards again: glmprep bucket --tokenizer {model}.
    """
    if found.tokenizer is not None:
        yield other_tokenizer.finding("data", model=found.model, tokenizer=found.tokenizer)


@rule("CF128", Severity.INFO)
def knows_nothing(found: Preflight) -> Iterator[Finding]:
    """The model predicts these rows no better than by guessing.

    Evidence: the loss is {loss:.2f}; guessing evenly among all tokens gives {guess:.2f}.
    Why: a trained model begins at 1 to 4. This one was never trained, or it reads other tokens than
    those that it was trained with.
    Fix: for a model that was trained, compare its tokenizer with that of the shards.
    """
    reference = found.formats.reference
    exact = None if reference is None else found.formats.of(reference)
    if not found.untrained and exact is not None and exact.loss > found.formats.guess:
        yield knows_nothing.finding("model", loss=exact.loss, guess=found.formats.guess)


@rule("CF145", Severity.ERROR)
def does_not_fit(found: Preflight) -> Iterator[Finding]:
    """A batch does not fit into memory.

    Evidence: {what} does not fit on {device}: {rows} x {length} tokens.
    Why: the run would end when such a batch comes, often hours later.
    Fix: halve --tokens-per-batch, add --gradient-checkpointing, or take --method qlora; a single
    row that is too long has to be cut: glmprep segment --max-length.
    """
    longest, chosen = found.longest, found.formats.of(found.formats.chosen)
    if longest is not None and longest.memory is None:
        yield does_not_fit.finding(
            "data",
            what="the largest batch",
            device=found.device,
            rows=longest.rows,
            length=longest.length,
        )
    elif chosen is not None and chosen.problem is not None:
        yield does_not_fit.finding(
            "model",
            what=f"a small batch ({chosen.problem})",
            device=found.device,
            rows=found.segments,
            length=found.length,
        )


@rule("CF146", Severity.WARNING)
def nearly_full(found: Preflight) -> Iterator[Finding]:
    """The largest batch nearly fills the device's memory.

    Evidence: a step with it takes {share:percent} of the memory of {device}.
    Why: memory falls to pieces over hours, and evaluation or another process needs some too.
    Fix: take a smaller --tokens-per-batch, or --gradient-checkpointing.
    """
    memory = None if found.longest is None else found.longest.memory
    if memory is not None and memory.available and memory.measured > FULL * memory.available:
        share = memory.measured / memory.available
        yield nearly_full.finding("data", share=share, device=found.device)


TRIAL_RULES = (
    overflows,
    vanish,
    scale_too_large,
    no_scale_fits,
    imprecise,
    nowhere_finite,
    other_tokenizer,
    knows_nothing,
    *INVARIANCE_RULES,
    *EFFECT_RULES,
    does_not_fit,
    nearly_full,
)


def judge(found: Preflight) -> list[Finding]:
    """All findings on a trial, those of the trainer's own checks too."""
    return [*found.own, *(finding for each in TRIAL_RULES for finding in each(found))]


def _power(value: float) -> float:
    """The power of two at or above a value."""
    return float(2.0 ** ceil(log2(value)))

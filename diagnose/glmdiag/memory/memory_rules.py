"""Rules on what a run is predicted to need of a card's memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmprep.findings import Example, Finding, Severity, rule

from glmdiag.memory.changes import Change, smallest
from glmdiag.memory.prediction import GIB, MARGIN, Prediction

MOST_OF_IT = 0.3
"""Share of the peak from which logits, or experts kept twice, are worth a word."""


@rule("CF301", Severity.ERROR)
def bucket_does_not_fit(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """A bucket does not fit.

    Evidence: {rows} {rows:|row|rows} of {length} tokens {rows:|needs|need} {need:.1f} GiB, and
    {memory:.1f} GiB are there ({card}); so {count} of {of} {of:|bucket|buckets}.
    Why: training stops with an out-of-memory error, at the first batch of that bucket, which may
    come hours after the start.
    Fix: {change}; then {then:.1f} GiB are needed. Nothing less of a change fits.
    """
    if change is None or not change.fits or change.cut:
        return
    yield bucket_does_not_fit.finding(
        _where(prediction),
        examples=_examples(prediction),
        change=" ".join(change.options),
        then=change.prediction.largest.total / GIB,
        **_facts(prediction),
    )


@rule("CF302", Severity.WARNING)
def little_margin(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """All fits, with little room left.

    Evidence: {rows} {rows:|row|rows} of {length} tokens {rows:|needs|need} {need:.1f} of
    {memory:.1f} GiB ({card}), with {allowance:.1f} GiB of it allowed for the context and for
    fragmentation.
    Why: others on the card, a longer row or more fragmentation end the run.
    Fix: measure before the run, with glmtrain run --dry-run, or lower --tokens-per-batch.
    """
    setup, largest = prediction.setup, prediction.largest
    if setup.memory is None or not prediction.fits:
        return
    if largest.total > (1 - MARGIN) * setup.memory:
        facts = {**_facts(prediction), "allowance": largest.allowance / GIB}
        yield little_margin.finding(_where(prediction), **facts)


@rule("CF303", Severity.WARNING)
def logits_dominate(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """Logits take much of the memory.

    Evidence: the loss of {tokens} tokens over a vocabulary of {vocabulary} takes {loss:.1f} GiB,
    {share:.0%} of the peak: three copies of all logits in fp32.
    Why: logits of prompts and padding are made only to be ignored; this is where most runs of GLM
    under Hugging Face's Trainer run out of memory.
    Fix: take a loss in pieces, as this suite's trainer has it, or Liger's fused linear
    cross-entropy; else smaller batches.
    """
    largest = prediction.largest
    share = largest.step.loss / largest.step.peak
    if prediction.setup.loss == "naive" and largest.step.moment == "forward" and share > MOST_OF_IT:
        yield logits_dominate.finding(
            _where(prediction),
            severity=Severity.INFO if prediction.fits else Severity.WARNING,
            tokens=largest.batch.tokens,
            vocabulary=prediction.setup.shape.vocabulary,
            loss=largest.step.loss / GIB,
            share=share,
        )


@rule("CF304", Severity.WARNING)
def others_do_not_fit(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """A step fits, but evaluating, answering or resuming does not.

    Evidence: {what} needs {need:.1f} GiB, {memory:.1f} GiB are there ({card}); a step needs
    {step:.1f} GiB.
    Why: the run stops when it first gets there, after all the steps before.
    Fix: lower --tokens-per-batch for evaluation, shorten answers, or resume with the state sliced
    (--zero 2).
    """
    memory = prediction.setup.memory
    if memory is None or not prediction.fits:
        return
    for what in ("evaluation", "generation", "resume"):
        need = prediction.with_allowance(getattr(prediction, what))
        if need > memory:
            yield others_do_not_fit.finding(
                what,
                what=what,
                need=need / GIB,
                memory=memory / GIB,
                card=prediction.setup.card,
                step=prediction.largest.total / GIB,
            )


@rule("CF305", Severity.WARNING)
def experts_twice(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """Adapters make every layer keep all its experts once more.

    Evidence: {layers} layers keep {each:.1f} GiB of experts each until their backward pass,
    {total:.1f} GiB in all.
    Why: peft adds an adapter of fused experts to the weight itself, and a base in four bits is
    unpacked; without checkpointing all these copies are there at once.
    Fix: add --checkpointing, which keeps those of one layer at a time.
    """
    setup = prediction.setup
    training = setup.training
    if training.checkpointing or training.method not in ("lora", "qlora"):
        return
    blocks = [block for block in setup.shape.blocks if block.experts is not None]
    layers = sum(block.count for block in blocks)
    each = max((training.width * block.expert_parameters for block in blocks), default=0)
    if layers * each > MOST_OF_IT * prediction.largest.step.peak:
        yield experts_twice.finding(
            _where(prediction), layers=layers, each=each / GIB, total=layers * each / GIB
        )


@rule("CF306", Severity.ERROR)
def only_shorter_rows_fit(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """Only shorter rows fit.

    Evidence: {rows} {rows:|row|rows} of {length} tokens {rows:|needs|need} {need:.1f} GiB, and
    {memory:.1f} GiB are there ({card}), and no other change is enough.
    Why: the longest conversations have to be cut to pieces, or trained on a larger card.
    Fix: {change}: {cut:.1%} of the rows are longer than that; then {then:.1f} GiB are needed.
    """
    if change is not None and change.fits and change.cut:
        yield only_shorter_rows_fit.finding(
            _where(prediction),
            change=" ".join(change.options),
            cut=change.cut,
            then=change.prediction.largest.total / GIB,
            **_facts(prediction),
        )


@rule("CF307", Severity.ERROR)
def nothing_fits(prediction: Prediction, change: Change | None) -> Iterator[Finding]:
    """No change makes it fit.

    Evidence: {rows} {rows:|row|rows} of {length} tokens {rows:|needs|need} {need:.1f} GiB, and
    {memory:.1f} GiB are there ({card}); what comes nearest ({change}) needs {then:.1f} GiB.
    Why: the weights alone, in the smallest form that can be trained, are too large for this card.
    Fix: take a larger card, more of them (--gpus N --zero 3), or a smaller model.
    """
    if change is not None and not change.fits:
        yield nothing_fits.finding(
            _where(prediction),
            change=" ".join(change.options),
            then=change.prediction.largest.total / GIB,
            **_facts(prediction),
        )


MEMORY_RULES = (
    bucket_does_not_fit,
    little_margin,
    logits_dominate,
    others_do_not_fit,
    experts_twice,
    only_shorter_rows_fit,
    nothing_fits,
)


def judge(prediction: Prediction, change: Change | None = None) -> list[Finding]:
    """All findings; the smallest change is looked for here unless it is given."""
    found = smallest(prediction.setup) if change is None else change
    return [finding for each in MEMORY_RULES for finding in each(prediction, found)]


def _where(prediction: Prediction) -> str:
    return f"bucket {prediction.largest.bucket}"


def _facts(prediction: Prediction) -> dict[str, Any]:
    """What the rules say of the bucket that needs most."""
    largest, memory = prediction.largest, prediction.setup.memory or 0
    return {
        "rows": largest.batch.rows,
        "length": largest.batch.length,
        "need": largest.total / GIB,
        "memory": memory / GIB,
        "card": prediction.setup.card,
        "count": sum(need.total > memory for need in prediction.needs),
        "of": len(prediction.needs),
    }


def _examples(prediction: Prediction) -> tuple[Example, ...]:
    """The buckets that do not fit, largest first."""
    memory = prediction.setup.memory or 0
    large = sorted(prediction.needs, key=lambda need: -need.total)
    return tuple(
        Example(
            where=f"bucket {need.bucket}",
            excerpt=f"{need.batch.rows} x {need.batch.length}: {need.total / GIB:.1f} GiB",
        )
        for need in large
        if need.total > memory
    )

"""Rules on where a run begins, and how it goes on after a resume."""

from __future__ import annotations

import math
from statistics import median

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import ZERO_LOSS, Curve
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import FLOOR, scaled
from glmtrain.detectors.losses import RISE, START

REPEATED = 3  # losses that tell where a run began
CHANCE = math.log(151_552)  # GLM-4's vocabulary
NEAR_CHANCE = 0.9 * CHANCE  # a pretrained model is never here, random weights always are
ABOVE_CHANCE = math.log(262_144) + 1  # the largest vocabulary in use; one nat is a factor of e
FREQUENCIES = 8.0  # nats; text costs about 7.5 if only how often each token comes is known
RANDOM = 10.0  # nats; from here on weights are random, with any usual vocabulary
LOW_LOSS = 0.03  # nats a token: 97 of 100 tokens guessed with certainty
ENOUGH = (
    40  # losses; by chance the first of so many is the lowest once in forty runs that learn nothing
)
HIGHER = 1.25  # times the first loss: chance that is not
SAID_SOMETHING = 0.5  # nats; below it the model knew its rows
FIRST_STEPS = 20  # a log whose first step is later is not seen from its begin
RESUMED = 5  # losses after a resume that are compared with those before
SEAM = 4.0  # times the median distance of the losses before: a median of five is within two
RATE_SEAM = 2.0  # times; a schedule that goes on changes by a few percent from step to step


@rule("LG038", Severity.WARNING)
def first_loss_above_chance(curve: Curve) -> Data:
    """The first loss is at or above that of guessing.

    Evidence: The first losses are about {loss:.4g} from step {step} on; guessing among 151,552
    tokens costs {chance:.4g}.
    Why: a pretrained model begins far below guessing. At that level its weights are random or were
    not loaded; above it, the ids are not those of its vocabulary or the weights are broken.
    Fix: check that the base model's files are whole and were all loaded, and that the tokenizer is
    its own: glmprep show SHARDS prints a row. For a model with random weights this is expected.
    """
    losses = curve.losses
    if losses.count != REPEATED or curve.resume or losses.start < NEAR_CHANCE:
        return None
    severity = Severity.WARNING if losses.start > ABOVE_CHANCE else Severity.INFO
    return {
        "step": losses.first_step,
        "severity": severity,
        "loss": losses.start,
        "chance": CHANCE,
    }


@rule("LG047", Severity.WARNING)
def first_loss_above_frequencies(curve: Curve) -> Data:
    """The first loss is above that of a model that knows nothing but word frequencies.

    Evidence: The first losses are about {loss:.3g} from step {step} on; a model that only knows how
    often each token comes pays about 7.5 nats for one, and one that reads text 1 to 4.
    Why: a pretrained model is sure of something, and what it is sure of is not what the labels ask
    for: the ids are of another vocabulary, the labels stand one place off, or the template is not
    the model's.
    Fix: check that the tokenizer is the model's own and look at a row and its labels with
    glmprep show SHARDS; check the labels with glmdiag labels SHARDS. With random weights and a
    small vocabulary this is expected.
    """
    losses = curve.losses
    begun = curve.first is not None and curve.first <= FIRST_STEPS and not curve.resume
    if losses.count != START or not begun or not FREQUENCIES <= losses.start < RANDOM:
        return None
    return {"step": losses.first_step, "loss": losses.start}


@rule("LG048", Severity.WARNING)
def never_as_low_again(curve: Curve) -> Data:
    """No loss is as low as the first one.

    Evidence: The first loss, at step {step}, is {first:.3g}; the lowest of the {count} after it is
    {least:.3g}.
    Why: the first loss is that of the untouched model. A model that learns goes below it sooner or
    later; one that was thrown off by its first steps never does.
    Fix: lower --lr to a third or less, warm up over more steps (--warmup), and begin anew.
    """
    thrown = curve.thrown
    if not curve.ended or curve.resume or thrown.count < ENOUGH or thrown.first < SAID_SOMETHING:
        return None
    if thrown.least < HIGHER * thrown.first:
        return None
    found = {"first": thrown.first, "least": thrown.least}
    return {"step": thrown.step, "count": thrown.count - 1, **found}


@rule("LG049", Severity.WARNING)
def thrown_off(curve: Curve) -> Data:
    """The model was thrown off: its loss rose above that of a guess by word frequencies.

    Evidence: The loss began at {first:.3g} and came to {most:.3g}, the second time close by at step
    {step}; who only knows how often each token comes pays about 7.5.
    Why: an update was so large that the model lost what it knew. It may learn again from there, but
    not what it knew.
    Fix: lower --lr to a third or less, warm up over more steps (--warmup), and begin anew.
    """
    thrown = curve.thrown
    if thrown.wrecked is None or curve.resume or thrown.first >= FREQUENCIES:
        return None
    return {"step": thrown.wrecked, "first": thrown.first, "most": thrown.most}


@rule("LG039", Severity.WARNING)
def first_loss_too_low(curve: Curve) -> Data:
    """The loss is implausibly low from the first step on.

    Evidence: The first losses are about {loss:.2g} from step {step} on.
    Why: text that a model has not seen costs more than {limit:g} nats a token. Either the answers
    stand in the input, or the labels are of what repeats in every row, or the model has been
    trained on these rows before.
    Fix: look at what is trained with glmprep show SHARDS, and at the share of labels with
    glmdiag labels SHARDS.
    """
    losses = curve.losses
    begun = curve.first is not None and curve.first <= FIRST_STEPS and not curve.resume
    if losses.count != START or not begun or not ZERO_LOSS <= losses.start < LOW_LOSS:
        return None
    return {"step": losses.first_step, "loss": losses.start, "limit": LOW_LOSS}


@rule("LG037", Severity.WARNING)
def resume_lost_something(curve: Curve) -> Data:
    """The run went on after a resume with something lost.

    Evidence: The run was resumed at step {step}, and {repeated} steps were done again. The loss was
    {before:.3g} before and {after:.3g} after; the learning rate {rate_before:.2e} and
    {rate_after:.2e}; the gradient norm {norm_before:.3g} and {norm_after:.3g}.
    Why: a run that goes on as it was shows no seam. A loss that jumps means that weights or the
    optimiser's memory were not restored; a rate that jumps, that the schedule began anew.
    Fix: resume with glmtrain run --resume, which restores weights, optimiser and schedule and
    refuses other settings; check the checkpoint's folder for all of its files.
    """
    resume = curve.resume
    if resume is None or (len(resume.losses) < RESUMED and not curve.ended) or not resume.losses:
        return None
    after = median(resume.losses[:RESUMED])
    jump = scaled(after) - scaled(resume.loss)
    spread = SEAM * resume.spread / (resume.loss + FLOOR)
    jumped = jump > max(RISE, spread) and len(resume.losses) >= RESUMED
    # A rate that is higher is that of a longer plan; one that fell is in its warm-up again.
    again = bool(resume.rate) and (resume.rate_after or 0.0) * RATE_SEAM < (resume.rate or 0.0)
    if not jumped and not again:
        return None
    return {
        "step": resume.step,
        "repeated": resume.repeated,
        "before": resume.loss,
        "after": after,
        "rate_before": known(resume.rate),
        "rate_after": known(resume.rate_after),
        "norm_before": known(resume.norm),
        "norm_after": known(median(resume.norms) if resume.norms else None),
        "severity": Severity.ERROR if jumped and jump > math.log(2) else Severity.WARNING,
    }

"""Rules on the run as a whole: its passes over the data, its evaluations, and its end."""

from __future__ import annotations

import math
from statistics import median

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import Curve
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import scaled

EVALUATIONS = 3  # a best one, and two that are worse
WORSE = math.log(1.1)  # a tenth above the best is not noise: the same rows are read each time
SLIGHTLY = math.log(1.03)  # what runs of several passes reach by their end
DROP = math.log(1.15)  # at the end of a pass; fresh rows would change nothing there
EDGE_NOISE = 0.8  # deviations: that of the difference of two medians of five
SURE = 3.0  # times its own deviation
MOSTLY_AT_ENDS = 1.5  # times what the loss falls within a pass
ALIKE = 0.8  # correlation of the courses of two passes; of noise in eight parts 0.8 is 1 in 60
WAVE = math.log(1.25)  # how far the loss moves up and down in each pass
PASSES = 2  # pairs of passes that are alike


@rule("LG015", Severity.WARNING)
def overfits(curve: Curve) -> Data:
    """The model is learning its training rows by heart.

    Evidence: The loss on held-out rows was lowest at step {step} ({best:.3g}, after {epoch:.2f}
    passes) and is {last:.3g} now, {rise:.0%} above; in training it went on from {train_then:.3g} to
    {train_now:.3g}.
    Why: from step {step} on, what is learned holds for the training rows alone.
    Fix: take the checkpoint nearest to step {step}; train fewer passes (--epochs), with a lower
    --lr or a smaller adapter, or on more rows. glmtrain run stops by itself
    with --set evaluation.patience=3.
    """
    seen = curve.evaluations
    if seen.count < EVALUATIONS or seen.since_best < EVALUATIONS - 1 or not curve.losses.count:
        return None
    rise = scaled(seen.last) - scaled(seen.best)
    train = scaled(curve.losses.lately) - scaled(seen.train_at_best)
    if rise < (SLIGHTLY if curve.ended else WORSE) or not train < SLIGHTLY:
        return None
    return {
        "step": seen.best_step,
        "severity": Severity.WARNING if rise >= WORSE else Severity.INFO,
        "best": seen.best,
        "last": seen.last,
        "rise": seen.last / seen.best - 1 if seen.best > 0 else math.inf,
        "epoch": known(seen.best_epoch),
        "train_then": seen.train_at_best,
        "train_now": curve.losses.lately,
    }


@rule("LG020", Severity.INFO)
def ended_early(curve: Curve) -> Data:
    """The log ends before the planned last step.

    Evidence: The last logged step is {last} of {planned} planned ones, with a loss of {loss:.3g}.
    The log begins at step {step}.
    Why: the run was stopped or failed, or it is still going on; its weights are those of a schedule
    that never came to its end.
    Fix: look at the end of the run's own output; go on with glmtrain run --resume.
    """
    planned = curve.planned
    if not curve.ended or not planned or curve.oom or curve.crash or not curve.losses.count:
        return None
    if curve.last >= planned - max(curve.interval, 1):
        return None
    return {
        "step": curve.first,
        "last": curve.last,
        "planned": planned,
        "loss": curve.losses.lately,
    }


@rule("LG033", Severity.ERROR)
def out_of_memory(curve: Curve) -> Data:
    """The run ended because memory ran out.

    Evidence: After step {step} the run ended with: {message}
    Why: a step needed more memory than there was; the longest rows, an evaluation or the first step
    of the optimiser need most.
    Fix: lower --tokens-per-batch, switch on --gradient-checkpointing, or train with LoRA in 4 bits;
    glmtrain run halves a batch that does not fit and goes on.
    """
    if not curve.ended or curve.oom is None or curve.oom.during is not None:
        return None
    return {"step": curve.oom.step, "message": known_text(curve.oom.detail), **_memory(curve)}


@rule("LG046", Severity.ERROR)
def out_of_memory_in_evaluation(curve: Curve) -> Data:
    """The run ended because memory ran out in an evaluation.

    Evidence: After step {step} the evaluation ended with: {message}
    Why: training fitted. An evaluation takes batches of its own size and may keep the logits of all
    of them, which is the vocabulary's size for each token.
    Fix: lower per_device_eval_batch_size, set prediction_loss_only or eval_accumulation_steps;
    glmtrain run evaluates in batches of --tokens-per-batch and keeps no logits.
    """
    if not curve.ended or curve.oom is None or curve.oom.during is None:
        return None
    return {"step": curve.oom.step, "message": known_text(curve.oom.detail), **_memory(curve)}


@rule("LG034", Severity.ERROR)
def crashed(curve: Curve) -> Data:
    """The run ended in an error.

    Evidence: After step {step} the run ended with: {message}
    Why: what the last checkpoint holds is all that is left of the run.
    Fix: mend what the message says, then go on from the last checkpoint: glmtrain run --resume.
    """
    if not curve.ended or curve.crash is None or curve.oom is not None:
        return None
    return {"step": curve.crash.step, "message": known_text(curve.crash.detail)}


@rule("LG035", Severity.INFO)
def falls_between_passes(curve: Curve) -> Data:
    """The loss falls in stairs, one at the end of each pass over the data.

    Evidence: At the ends of {count} passes the loss fell by {drop:.0%} at once, within a pass by
    {within:.0%} only; the first stair is at step {step}.
    Why: rows that come a second time are known. What falls in stairs is recognised, not understood;
    one or two stairs are usual, but more passes teach mostly the rows themselves.
    Fix: hold rows out (--validation) and stop where their loss is lowest; two or three passes are
    enough for most data (--epochs).
    """
    passes = curve.passes
    if not passes.drops or len(passes.within) < len(passes.drops):
        return None
    drop, within = median(passes.drops), median(passes.within[1:] or passes.within)
    if drop < DROP or drop < MOSTLY_AT_ENDS * within:
        return None
    level = curve.losses.level
    noise = level.deviation * EDGE_NOISE / math.sqrt(len(passes.drops)) if level else math.inf
    if drop < SURE * noise:
        return None
    return {
        "step": passes.first_end,
        "count": len(passes.drops),
        "drop": -math.expm1(-drop),
        "within": -math.expm1(-within),
    }


@rule("LG036", Severity.WARNING)
def passes_alike(curve: Curve) -> Data:
    """The loss moves in the same way in every pass over the data.

    Evidence: In {count} passes the loss took the same course, up and down by {swing:.0%} (the
    courses of two passes correlate by {correlation:.2f}); the first pass ends at step {step}.
    Why: the rows come in the same order each time, sorted by what they are. Each kind of row is
    learned while it comes and half forgotten until it comes again.
    Fix: shuffle the rows, anew in each pass; glmtrain run does so unless its setting data.order
    says otherwise.
    """
    passes = curve.passes
    alike = [c for c, s in zip(passes.alike, passes.swings, strict=True) if s > WAVE]
    if len(alike) < PASSES or median(alike) < ALIKE or len(passes.lengths) > 1:
        return None
    return {
        "step": passes.first_end,
        "count": len(alike) + 1,
        "swing": math.expm1(median(passes.swings)),
        "correlation": median(alike),
    }


def known_text(text: str | None) -> str:
    """A line of a console for a text."""
    return text or "?"


def _memory(curve: Curve) -> dict[str, float]:
    return {"peak": curve.memory.top} if curve.memory.count else {}

"""Rules on whether a run learns: what its passes, its begin and its end say together."""

from __future__ import annotations

import math
from statistics import mean, median

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import ALIVE_LOSS, ZERO_LOSS, Curve
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import HISTORY, scaled, unscaled
from glmtrain.detectors.losses import WINDOW
from glmtrain.detectors.passes import Pass

PASSES = 3  # whole passes; of two that are alike, one may be so by chance
STILL_LOSS = 0.05  # of the loss: the same rows in other batches make a mean vary by half of it
STILL_EXACT = 0.01  # of the loss where batches count by their tokens: then nothing else varies
STILL_NORM = 1.25  # times, between passes: gradients of weights that move change by more
SEEN = 40  # losses: a begin, and WINDOW others
ABOVE = math.log(1.25)  # a run that ends a quarter above its begin has no lucky batches to thank
BEGIN = 3  # losses before the first steps had an effect
IN_VAIN = 4.0  # times the first norms; an adapter that begins at zero doubles or triples them
LONE_GAP = 2.0  # robust deviations to the next highest loss: 1 pass in 100 by chance
LONE_HEIGHT = 3.0  # robust deviations above the middle of the pass
LONE_SHARE = 0.75  # of the passes: in one of four the row may lie beside others of its kind
LONE_TOLD = 6
TENTH = 0.1  # of the first loss: text that was not seen before does not become so certain
FIRST_PASS = 1.5  # passes; in the first one, no row was seen before


@rule("LG040", Severity.WARNING)
def nothing_moves(curve: Curve) -> Data:
    """Neither the loss nor the gradient changes from pass to pass.

    Evidence: In {count} passes over the same rows, from step {step} on, the mean loss went from
    {first:.4g} to {last:.4g} and the gradient norm from {norm_first:.3g} to {norm_last:.3g}; the
    learning rate rose to {rate:.1e}.
    Why: the same rows cost the same because the weights are the same. The updates are too small to
    count, are rounded away in half precision, are clipped to nothing, or go to the wrong weights.
    Fix: compare --lr with what the method needs (LoRA about 1e-4, full about 1e-5), let weights be
    trained in float32 (--dtype auto), leave the clipping limit at 1, and see what glmtrain run says
    of the trainable parameters.
    """
    passes = curve.passes.whole if curve.ended else []
    if len(passes) < PASSES or not curve.rate.top or curve.losses.trend.early_fall > 0:
        return None
    first, last = _halves(passes)
    middle = mean(each.loss for each in passes)
    rest = mean(each.loss for each in passes[1:])
    most = STILL_EXACT if all(each.exact for each in passes) else STILL_LOSS
    # The first pass, too: a run that learned in it and stood still afterwards did move.
    if max(abs(first - last), abs(passes[0].loss - rest)) > most * middle:
        return None
    norms = [each.norm for each in passes]
    if middle < ALIVE_LOSS or not min(norms) or max(norms) > STILL_NORM * min(norms):
        return None
    return {
        "step": curve.first,
        "count": len(passes),
        "first": passes[0].loss,
        "last": passes[-1].loss,
        "norm_first": norms[0],
        "norm_last": norms[-1],
        "rate": curve.rate.top,
    }


@rule("LG041", Severity.ERROR)
def ends_above_begin(curve: Curve) -> Data:
    """The loss ends above where it began, and never comes back.

    Evidence: The first losses, from step {step} on, were about {start:.3g}; not one of the last
    {count} is below {lowest:.3g}, and they lie at {now:.3g}. The learning rate rose to {rate:.1e}.
    Why: training made the model worse and did not make it good again: steps that are too large
    threw the weights to where only the frequency of words is left.
    Fix: train again from the base model with a tenth of the learning rate (--lr) and with --warmup.
    """
    losses = curve.losses
    if not curve.ended or losses.count < SEEN or curve.collapsed:
        return None
    start, lowest = median(losses.first[:BEGIN]), min(losses.latest)
    if lowest - scaled(start) < ABOVE:
        return None
    if losses.lowest is None or losses.lowest.middle - scaled(start) < ABOVE:  # said by LG006
        return None
    return {
        "step": losses.first_step,
        "start": start,
        "count": len(losses.latest),
        "lowest": unscaled(lowest),
        "now": unscaled(median(losses.latest)),
        "rate": known(curve.rate.top if curve.rate.count else None),
    }


@rule("LG042", Severity.WARNING)
def gradient_grew_in_vain(curve: Curve) -> Data:
    """The gradient grew, and the loss did not fall.

    Evidence: The gradient norm began at {norm_start:.3g} (step {step}) and is about {norm_now:.3g},
    {factor:.3g} times as much; over {steps} logged steps no fall of the loss can be told from its
    noise, which is {noise:.0%} from one to the next. The learning rate rose to {rate:.1e}.
    Why: the weights move, and far, but each step undoes the one before: the steps are too large for
    what a single batch can tell.
    Fix: lower --lr (a fifth), and average over more rows: --accumulate, or more
    --tokens-per-batch.
    """
    losses, norms = curve.losses, curve.gradients
    if not curve.ended or losses.count < SEEN or norms.count < SEEN or curve.collapsed:
        return None
    start = median(norms.first[: HISTORY // 4])
    if not start or norms.lately < IN_VAIN * start or losses.trend.fall > losses.trend.uncertainty:
        return None
    if losses.lately < ALIVE_LOSS:
        return None
    return {
        "step": curve.first,
        "norm_start": start,
        "norm_now": norms.lately,
        "factor": norms.lately / start,
        "steps": losses.count,
        "noise": known(math.expm1(losses.now.deviation) if losses.now else None),
        "rate": known(curve.rate.top if curve.rate.count else None),
    }


@rule("LG043", Severity.WARNING)
def same_row_each_pass(curve: Curve) -> Data:
    """One batch in each pass stands out: the same rows each time.

    Evidence: In {count} of {passes} passes over the data one loss stands far above all others of
    its pass, at steps {steps}: {losses}, where {usual:.3g} is usual.
    Why: batches that are odd by chance do not come once a pass. A row that is noise, in another
    language, or falsely labelled comes back with each pass, and its gradient outweighs its batch.
    Fix: glmdiag replay RUN --step {step} names the row; look at it with glmprep show SHARDS, and
    mend or remove it.
    """
    passes = curve.passes.whole if curve.ended else []
    lone = [each for each in passes if _has_lone_top(each)]
    if len(lone) < max(PASSES, LONE_SHARE * len(passes)):
        return None
    return {
        "step": lone[0].top_step,
        "count": len(lone),
        "passes": len(passes),
        "steps": ", ".join(str(each.top_step) for each in lone[:LONE_TOLD]),
        "losses": ", ".join(f"{each.top_loss:.3g}" for each in lone[:LONE_TOLD]),
        "usual": median(each.loss for each in passes),
    }


@rule("LG045", Severity.INFO)
def fell_to_a_tenth(curve: Curve) -> Data:
    """The loss fell to less than a tenth of where it began.

    Evidence: The loss went from {start:.3g} (step {step}) to {now:.3g}, after {epoch:.2f} passes
    over the data; the loss on held-out rows is {eval_loss:.3g}.
    Why: answers that were not seen before stay uncertain. So low a loss means that the rows were
    learned by heart, that the same rows come many times, or that an answer can be read off its
    prompt.
    Fix: hold rows out (--validation), train fewer passes (--epochs), and look for answers that
    stand in their prompts and for copies: glmprep audit DATA.
    """
    losses = curve.losses
    if not curve.ended or losses.count < WINDOW or curve.nothing.length:
        return None
    now = losses.lately
    if not ZERO_LOSS <= now < TENTH * losses.start:
        return None
    seen_once = curve.epoch is not None and curve.epoch <= FIRST_PASS
    return {
        "step": losses.first_step,
        "severity": Severity.WARNING if seen_once else Severity.INFO,
        "start": losses.start,
        "now": now,
        "epoch": known(curve.epoch),
        "eval_loss": known(curve.evaluations.last),
    }


def _halves(passes: list[Pass]) -> tuple[float, float]:
    """The mean losses of the first and of the last half; one in the middle counts in neither."""
    half = len(passes) // 2
    return mean(p.loss for p in passes[:half]), mean(p.loss for p in passes[-half:])


def _has_lone_top(each: Pass) -> bool:
    return each.gap > LONE_GAP and each.height > LONE_HEIGHT and each.peaked is not False

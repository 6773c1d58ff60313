"""Rules on the gradient norm and on loss scaling."""

from __future__ import annotations

import math

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import ALIVE_LOSS, Curve
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import rising
from glmtrain.detectors.resources import SETTLING

REPEATED = 3  # one batch may be odd; three in succession are not chance
OVERFLOWS = 10  # loss scaling halves its scale at each overflow, and ten halvings use 65,536 up
NANS = 2  # among the first steps; a single one there may be a scale that is still being found
GROWTH_LEAST = 50  # norms; the first steps of an adapter that begins at zero grow as they should
GROWING = 6  # stretches from the lowest on; a run is cut into 16 to 32
GROWN = math.log(10)  # tenfold; norms double and fall again in sound runs
STEADY = 0.85  # of all pairs of stretches: growing throughout, not once
CLIPPED = 10.0  # times the limit: a tenth of what the gradient asked for
FAINT = 10  # logged steps
SMALL_SCALE = 32.0  # of 65,536 at the begin: eleven halvings
FALLS = 6  # halvings in succession
SEARCH = 7  # overflows before the first step: of 65,536 they leave 512, and few runs need six
LOST_SEEN = 50  # logged steps; before, a scale that falls is judged by itself
LOST, LOST_SHARE = 5, 0.1  # sound fp16 loses one step in a thousand or two


@rule("LG007", Severity.ERROR)
def gradient_zero_or_not_finite(curve: Curve) -> Data:
    """The gradient is zero or not finite.

    Evidence: The gradient norm is {grad_norm} from step {step} on, for {length} logged steps, while
    the loss is a number.
    Why: such a step changes no weight, or is skipped by loss scaling; the run costs time and learns
    nothing.
    Fix: for 0, check that the rows have labels: glmdiag labels SHARDS. For inf or nan, train with
    --dtype auto (or --dtype fp32) and a lower --lr.
    """
    zero, wild = curve.gradients.zero, curve.gradients.wild
    if zero.length < REPEATED and wild.length < OVERFLOWS:
        return None
    streak = zero if zero.length else wild
    return {"step": streak.since, "length": streak.length, "grad_norm": f"{curve.grad_norm:g}"}


@rule("LG010", Severity.WARNING)
def gradient_nan_at_times(curve: Curve) -> Data:
    """Some gradients are NaN while the loss is a number.

    Evidence: The gradient norm is NaN at {count} of {steps} logged steps, first at step {step},
    while the loss is a number and no loss scale explains it.
    Why: one NaN is enough to spoil the weights unless the trainer leaves the step out. It comes
    from a row without labels in a mean of its own, from an overflow in fp16, or from a kernel.
    Fix: glmtrain run leaves such a step out and names its rows in metrics.jsonl; look at them with
    glmprep show SHARDS, check glmdiag labels SHARDS, and train with --dtype auto.
    """
    norms = curve.gradients
    if not norms.nans or norms.wild.length >= OVERFLOWS:
        return None
    # fp16 finds its scale in the first steps; their logs do not always say that it is fp16.
    if norms.nan_step <= SETTLING and norms.nans < NANS and curve.last > SETTLING:
        return None
    if curve.last <= SETTLING and not curve.ended:
        return None
    return {"step": norms.nan_step, "count": norms.nans, "steps": norms.count}


@rule("LG022", Severity.WARNING)
def gradient_grows(curve: Curve) -> Data:
    """The gradient norm keeps growing.

    Evidence: The gradient norm was about {before:.3g} around step {step} and is about {now:.3g}
    now, {factor:.3g} times as much; it has been growing ever since.
    Why: weights that move into steeper and steeper places diverge sooner or later; clipping hides
    it in the loss for a while.
    Fix: lower --lr (a third), lengthen --warmup, or raise optimiser.weight_decay (--set); resume
    from a checkpoint near step {step}.
    """
    means = curve.gradients.stretches.means
    if curve.gradients.count < GROWTH_LEAST or len(means) < GROWING:
        return None
    lowest = min(range(len(means)), key=means.__getitem__)
    after = means[lowest:]
    now = sum(means[-3:]) / 3
    if len(after) < GROWING or now - means[lowest] < GROWN or rising(after) < STEADY:
        return None
    return {
        "step": curve.gradients.stretches.starts[lowest],
        "before": math.exp(means[lowest]),
        "now": math.exp(now),
        "factor": math.exp(now - means[lowest]),
    }


@rule("LG023", Severity.INFO)
def always_clipped(curve: Curve) -> Data:
    """Every gradient is clipped to a small part of itself.

    Evidence: The gradient norm is about {norm:.3g} lately, {factor:.3g} times the limit of
    {limit:.3g} that gradients are clipped at, since step {step}.
    Why: with every step clipped, its length no longer says how wrong the model was, and the norm's
    limit sets the learning rate. Some trainers and DeepSpeed clip at 1.0 unless told otherwise.
    Fix: if the loss falls well, leave it. Else raise the limit (--set optimiser.max_grad_norm) to
    about the usual norm, and lower --lr.
    """
    norms = curve.gradients
    if not curve.ended or not norms.limit or len(norms.latest) < norms.latest.maxlen:  # type: ignore[operator]
        return None
    if norms.lately < CLIPPED * norms.limit:
        return None
    factor = norms.lately / norms.limit
    return {"step": curve.first, "norm": norms.lately, "limit": norms.limit, "factor": factor}


@rule("LG024", Severity.WARNING)
def gradient_vanishes(curve: Curve) -> Data:
    """The gradient has all but vanished.

    Evidence: The gradient norm is about {now:.2g} from step {step} on, for {length} logged steps;
    it began at {start:.3g}. The loss is {loss:.3g} all the same.
    Why: a loss that is still there has a gradient. So small a norm moves no weight: what is trained
    is cut off from the loss, underflows in fp16, or is divided by far too much.
    Fix: train with --dtype auto; check with glmtrain run's own check that the adapters are reached,
    and with glmdiag labels SHARDS that the rows have labels.
    """
    norms = curve.gradients
    if norms.faint.length < FAINT or not curve.losses.count:
        return None
    if curve.losses.lately < ALIVE_LOSS:
        return None
    now, loss = norms.lately, curve.losses.lately
    length = norms.faint.length
    return {
        "step": norms.faint.since,
        "now": now,
        "start": norms.start,
        "length": length,
        "loss": loss,
    }


@rule("LG025", Severity.ERROR)
def scale_underflow(curve: Curve) -> Data:
    """fp16 overflows until its loss scale is used up.

    Evidence: The loss scale fell {falls} times without rising, from {top:.4g} to {scale:.4g}, since
    step {step}; the log begins with {search} overflows, and {lost} of {steps} logged steps after
    the first ones overflowed.
    Why: each overflow loses its step. A scale near 1 no longer protects small gradients, which
    become zero, and below 1 loss scaling is at its end.
    Fix: train in bf16 where the hardware computes it, else in fp32: --dtype auto chooses. In fp16,
    lower --lr and look for rows whose loss is extreme: glmprep show SHARDS.
    """
    scale = curve.scale
    used_up = scale.now is not None and scale.now <= SMALL_SCALE and scale.falls >= FALLS
    seen = curve.ended or scale.steps >= LOST_SEEN
    often = seen and scale.lost >= max(LOST, LOST_SHARE * scale.steps)
    if not used_up and not often and not (scale.search >= SEARCH and scale.seen > SETTLING):
        return None
    return {
        "step": scale.lost_since if often and not used_up else scale.since or curve.first,
        "severity": Severity.ERROR if used_up else Severity.WARNING,
        "falls": scale.falls,
        "search": scale.search,
        "top": known(scale.top or None),
        "scale": known(scale.now),
        "lost": scale.lost,
        "steps": scale.steps,
    }

"""Rules on how the loss moves."""

from __future__ import annotations

import math
from typing import Any

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import ALIVE_LOSS, Curve
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import Level, scaled, unscaled
from glmtrain.detectors.losses import RISE

DIVERGED = 3.0  # robust deviations between the lowest level and now: no noise lifts a whole window
STAYS = 5  # logged steps at the end of a log that count as "stays high"
FLAT_STEPS = 100  # losses after the learning rate's top before a run may be called flat
FLAT_FALL = 0.05  # a run worth its time changes the loss by more than a twentieth
FLAT_LOSS = 0.5  # below this there may be little left to learn
TINY_RATE = 1e-7  # a schedule whose top is below this does not mean to move the weights
EARLY_LEAST, EARLY_MOST = 15, 60  # losses between which a run is judged by how it began
EARLY_LATE = 10  # of these the last ones; all above the first five is 1 in 3,003 by chance
PLATEAU_LEAST = 60  # losses; half of fewer are no plateau
PLATEAU_RANGE = math.log(1.1)  # a tenth: within it, stretches of a plateau differ by their noise
NEAR_CHANCE = 10.0  # nats; a run that begins here has random weights, and far to go
HIGH_LOSS = 4.0  # nats; pretrained models read text of any language for less than this
REPEATS_LEAST = 20  # losses; a log of rounded numbers has an equal pair now and then
REPEATS_SHARE = 0.6  # more than half: not single pairs


@rule("LG004", Severity.WARNING)
def loss_spike(curve: Curve) -> Data:
    """The loss has a spike.

    Evidence: At step {step} the loss rose from {before:.3g} to {peak:.3g}, and was high for
    {length} logged steps.
    Why: a spike undoes part of the training, and spikes often come before a divergence. The usual
    causes are a learning rate that is too high and single rows unlike all others.
    Fix: look at the rows of step {step}: metrics.jsonl names them, glmprep show SHARDS prints them.
    If they are sound, lower --lr or lengthen --warmup.
    """
    spike = curve.losses.high if curve.ended else curve.losses.spike
    if spike is None or not spike.is_spike or (curve.ended and spike.length >= STAYS):
        return None
    found = {"before": spike.before, "peak": spike.peak, "length": spike.length}
    return {
        "step": spike.since,
        **found,
        "rate": known(curve.rate.now),
        "logged": curve.losses.count,
    }


@rule("LG005", Severity.WARNING)
def loss_flat(curve: Curve) -> Data:
    """The loss does not fall.

    Evidence: Over {steps} logged steps from step {step} on the loss stays at {loss:.3g}; a fall of
    {limit:.0%} can be excluded.
    Why: the weights do not move, or what they learn is not what the labels ask for.
    Fix: compare the learning rate with what the method needs (LoRA about 1e-4, full about 1e-5) and
    raise --lr; check with glmdiag labels SHARDS that the answers are what is trained.
    """
    trend, rate = curve.losses.trend, curve.rate
    if not curve.ended or rate.losses_since_top < FLAT_STEPS or curve.first is None:
        return None
    loss = unscaled(trend.mean_y)
    if loss < FLAT_LOSS or (rate.count and rate.top < TINY_RATE) or trend.early_fall > 0:
        return None
    if abs(trend.fall) + trend.uncertainty > FLAT_FALL:
        return None
    found = {"steps": trend.n, "loss": loss, "limit": FLAT_FALL}
    return {"step": curve.first, **found, "rate": known(rate.top if rate.count else None)}


@rule("LG006", Severity.ERROR)
def loss_diverges(curve: Curve) -> Data:
    """The loss rises and stays high.

    Evidence: The loss was {before:.3g} around step {step}; it rose and stays at about {now:.3g}.
    Why: the training left what the model knew and does not find back; further steps do not mend it.
    Fix: resume from a checkpoint before step {step} with a lower --lr (a third), or lengthen
    --warmup.
    """
    high, now, lowest = curve.losses.high, curve.losses.now, curve.losses.lowest
    if curve.ended and high is not None and high.length >= STAYS:
        now_at = curve.losses.before
        return {"step": high.since, "before": high.before, "now": now_at, **_course(curve)}
    if now is None or lowest is None:
        return None
    rise = now.middle - lowest.middle
    if rise < max(RISE, DIVERGED * lowest.deviation) or now.low < lowest.high:
        return None
    return {"step": lowest.step, "before": lowest.loss, "now": now.loss, **_course(curve)}


def _course(curve: Curve) -> dict[str, Any]:
    """What tells a late divergence from an early one, and too high a rate from one that fell."""
    rate = curve.rate
    found = {"rate": rate.now, "top_rate": rate.top, "warm_steps": rate.warm} if rate.count else {}
    return {"logged": curve.losses.count, **found}


@rule("LG013", Severity.ERROR)
def loss_rises_from_start(curve: Curve) -> Data:
    """The loss rises from the first steps on.

    Evidence: The loss began at {start:.3g} and is about {now:.3g} by step {by}; the learning rate
    was {rate:.1e} then.
    Why: the very first updates make the model worse: the steps are too large, or the labels ask for
    the opposite of what is measured.
    Fix: train again with a tenth of the learning rate (--lr) and with --warmup. If the loss rises
    all the same, check the labels: glmdiag labels SHARDS.
    """
    losses = curve.losses
    if not EARLY_LEAST <= losses.count <= EARLY_MOST:
        return None
    late = Level.of(list(losses.latest)[-EARLY_LATE:], curve.last)
    begin = Level.of([scaled(loss) for loss in losses.first], curve.last)
    if late.middle - begin.middle < max(RISE, DIVERGED * max(late.deviation, begin.deviation)):
        return None
    if min(list(losses.latest)[-EARLY_LATE:]) < scaled(max(losses.first)):
        return None
    return {
        "step": losses.first_step,
        "start": losses.start,
        "now": late.loss,
        "by": curve.last,
        "rate": known(curve.rate.now if curve.rate.count else None),
    }


@rule("LG014", Severity.WARNING)
def plateau_far_above(curve: Curve) -> Data:
    """The loss stopped falling far above what text costs.

    Evidence: The loss fell from {start:.3g}, and has stayed at about {loss:.3g} since step {step},
    for {share:.0%} of the run.
    Why: a trained model needs 0.5 to 3 nats for a token of chat. A level above {limit:g} is that of
    single words without their context: the model sees something else than what it should answer.
    Fix: look at a row as the model sees it with glmprep show SHARDS; check that tokenizer and base
    model belong together, and that --lr is not so high that the weights only shake.
    """
    losses = curve.losses
    means = losses.stretches.means
    if not curve.ended or losses.count < PLATEAU_LEAST or len(means) < 8:
        return None
    late = means[len(means) // 2 :]
    if unscaled(min(late)) < HIGH_LOSS or max(late) - min(late) > PLATEAU_RANGE:
        return None
    if scaled(losses.start) - late[0] < PLATEAU_RANGE:
        return None
    since = next(i for i, m in enumerate(means) if m - late[0] < PLATEAU_RANGE)
    return {
        "severity": Severity.INFO if losses.start >= NEAR_CHANCE else Severity.WARNING,
        "step": losses.stretches.starts[since],
        "start": losses.start,
        "loss": unscaled(late[-1]),
        "share": 1 - since / len(means),
        "limit": HIGH_LOSS,
    }


@rule("LG026", Severity.WARNING)
def losses_repeat(curve: Curve) -> Data:
    """The same losses come again and again.

    Evidence: {count} of {seen} successive logged losses equal an earlier one to the last digit,
    from step {step} on; the loss is about {loss:.3g}.
    Why: two batches never cost exactly the same. The same few batches come again, and the weights
    do not move between them.
    Fix: check that the learning rate is not zero and that something is trainable; check that the
    data are read on, and not the same rows for ever: glmdiag labels SHARDS counts them.
    """
    losses = curve.losses
    if losses.seen < REPEATS_LEAST or losses.repeats < REPEATS_SHARE * losses.seen:
        return None
    if losses.lately < ALIVE_LOSS:  # rounded to four digits, small losses are often equal
        return None
    return {
        "step": losses.repeats_since,
        "count": losses.repeats,
        "seen": losses.seen,
        "loss": losses.lately,
    }

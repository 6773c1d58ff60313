"""Detectors of faults in a training log: fed step by step, they need no torch and little memory.

Each rule looks at the `Curve` so far and returns what fills its texts, `step` being where the cause
began, or None. The trainer feeds them while it trains, `glmdiag log` feeds them from a file.

The robust limits (medians and median absolute deviations in place of means and standard deviations)
follow Rousseeuw and Croux, "Alternatives to the median absolute deviation", JASA 1993.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from glmprep.findings import Finding, Rule, Severity, rule

from glmtrain.curve import FLOOR, RISE, Curve, Step

__all__ = ["LOG_RULES", "Step", "Watch", "detect"]

Data: TypeAlias = "Mapping[str, str | int | float] | None"

REPEATED = 3  # one batch may be odd; three in succession are not chance
OVERFLOWS = 10  # loss scaling halves its scale at each overflow, and ten halvings use 65,536 up
FLAT_STEPS = 100  # losses after the learning rate's top before a run may be called flat
FLAT_FALL = 0.05  # a run worth its time changes the loss by more than a twentieth
FLAT_LOSS = 0.5  # below this there may be little left to learn
TINY_RATE = 1e-7  # a schedule whose top is below this does not mean to move the weights
DIVERGED = 3.0  # robust deviations between the lowest level and now: no noise lifts a whole window
STAYS = 5  # logged steps at the end of a log that count as "stays high"
ZERO_RATES = 20  # a schedule touches zero at its first and last step, not for twenty
SPIKES_TOLD = 5  # a run with more spikes than this has one problem, not many


@rule("LG001", Severity.ERROR)
def loss_not_finite(curve: Curve) -> Data:
    """The loss is not a number.

    Evidence: The loss is {value} at step {step}, after {finite} logged steps with a finite loss.
    Why: one such step spoils every weight it updates, and all that is trained afterwards is lost.
    Fix: resume from a checkpoint before step {step} with half the learning rate (--lr) and
    --dtype auto, which takes bf16 only where it is computed correctly. If the first step is already
    affected, look for rows without labels: glmdiag labels SHARDS.
    """
    if not curve.broken.length:
        return None
    finite = curve.losses.count
    return {"step": curve.broken.since, "value": str(curve.value), "finite": finite}


@rule("LG002", Severity.ERROR)
def loss_collapsed(curve: Curve) -> Data:
    """The loss fell to zero at once.

    Evidence: The loss is about 0 from step {step} on, after {finite} logged steps of a larger loss.
    Why: text cannot become certain within a step. Either no token has a label, or the answer can be
    read off the input, or a NaN was logged as 0.
    Fix: check the labels with glmdiag labels SHARDS and look at a row with glmprep show SHARDS. If
    they are sound, resume from a checkpoint before step {step} with --dtype fp32 to see whether the
    precision is the cause.
    """
    if not curve.collapsed or curve.nothing.length < REPEATED:
        return None
    return {"step": curve.nothing.since, "finite": curve.losses.count}


@rule("LG003", Severity.ERROR)
def nan_logged_as_zero(curve: Curve) -> Data:
    """A NaN loss is shown as 0.0.

    Evidence: From step {step} on the loss is exactly 0.0 while the gradient norm is {grad_norm}.
    Why: the Hugging Face Trainer replaces a NaN loss by 0.0 in its log (logging_nan_inf_filter), so
    a broken run looks like a perfect one.
    Fix: stop the run. Look for rows without labels, the most frequent cause: glmdiag labels SHARDS.
    Then resume from a checkpoint before step {step}, with --dtype auto and half the learning rate
    (--lr). In the Hugging Face Trainer set logging_nan_inf_filter=False.
    """
    certain = curve.grad_norm is not None and not math.isfinite(curve.grad_norm)
    if curve.hidden.length < (1 if certain else REPEATED):
        return None
    return {"step": curve.hidden.since, "grad_norm": f"{curve.grad_norm:g}"}


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
    return {"step": spike.since, **found}


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
    loss = math.exp(trend.mean_y) - FLOOR
    if loss < FLAT_LOSS or (rate.count and rate.top < TINY_RATE) or trend.early_fall > 0:
        return None
    if abs(trend.fall) + trend.uncertainty > FLAT_FALL:
        return None
    return {"step": curve.first, "steps": trend.n, "loss": loss, "limit": FLAT_FALL}


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
        return {"step": high.since, "before": high.before, "now": curve.losses.before}
    if now is None or lowest is None:
        return None
    rise = now.middle - lowest.middle
    if rise < max(RISE, DIVERGED * lowest.deviation) or now.low < lowest.high:
        return None
    return {"step": lowest.step, "before": lowest.loss, "now": now.loss}


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
    zero, wild = curve.no_gradient, curve.wild_gradient
    if zero.length < REPEATED and wild.length < OVERFLOWS:
        return None
    streak = zero if zero.length else wild
    return {"step": streak.since, "length": streak.length, "grad_norm": f"{curve.grad_norm:g}"}


@rule("LG008", Severity.ERROR)
def learning_rate_zero(curve: Curve) -> Data:
    """The learning rate is zero.

    Evidence: The learning rate is 0 from step {step} on, for {length} logged steps.
    Why: with a rate of zero no weight changes, whatever the loss shows.
    Fix: give --lr, and a step count (--max-steps or --epochs) that fits the data; a schedule made
    for fewer steps than are trained ends at zero too early.
    """
    rate = curve.rate
    mostly = curve.ended and rate.count >= REPEATED and 2 * rate.zeros > rate.count
    if not rate.zero.length or not (mostly or rate.zero.length >= ZERO_RATES):
        return None
    return {"step": rate.zero.since, "length": rate.zero.length}


LOG_RULES: tuple[Rule[Any], ...] = (
    loss_not_finite,
    loss_collapsed,
    nan_logged_as_zero,
    loss_spike,
    loss_flat,
    loss_diverges,
    gradient_zero_or_not_finite,
    learning_rate_zero,
)


class Watch:
    """Feed it the steps of a run; it returns each cause once, when it is certain."""

    def __init__(self) -> None:
        self._curve = Curve()
        self._told: Counter[str] = Counter()
        self._began: dict[str, object] = {}

    def feed(self, step: Step) -> list[Finding]:
        """What this step makes certain; a step number that goes back (resume) begins anew."""
        if step.step < self._curve.last:
            self._curve = Curve()
        self._curve.add(step)
        return self._judge()

    def close(self) -> list[Finding]:
        """What only the end of the log makes certain: a flat loss, a rate that was mostly zero."""
        self._curve.ended = True
        return self._judge()

    def _judge(self) -> list[Finding]:
        found = []
        for each in LOG_RULES:
            data = each(self._curve)
            if data is not None and self._is_new(each.id, data["step"]):
                found.append(each.finding(f"step {data['step']}", **data))
        return found

    def _is_new(self, rule_id: str, began: object) -> bool:
        most = SPIKES_TOLD if rule_id == "LG004" else 1
        if self._began.get(rule_id) == began or self._told[rule_id] >= most:
            return False
        self._began[rule_id] = began
        self._told[rule_id] += 1
        return True


def detect(steps: Iterable[Step]) -> list[Finding]:
    """All findings of a log, in the order in which they became certain."""
    watch = Watch()
    return [finding for step in steps for finding in watch.feed(step)] + watch.close()

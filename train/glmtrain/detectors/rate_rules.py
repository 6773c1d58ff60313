"""Rules on the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import EARLY, Curve, Early
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import scaled
from glmtrain.detectors.losses import RISE
from glmtrain.detectors.rates import ENDED

REPEATED = 3  # logged rates; fewer are no schedule
ZERO_RATES = 20  # a schedule touches zero at its first and last step, not for twenty
TINY_LEAST = 20  # logged steps at a rate before it counts as the run's own, not as warm-up
TINY = 1e-7  # below this no method moves weights
SMALL, LITTLE = 2e-6, math.log(1.05)  # up to here it is too small if the loss fell by a twentieth
WARM_LEAST = 16  # logged steps; some that could explode and some to see that it stays
EXPLODED = 5.0  # times the usual norm of the first steps; the steps before know nothing of it
BURST_BY = 20  # logged steps; what explodes later is no matter of the warm-up
BURST_HEIGHT = 4  # losses in which the highest one comes: at the greatest gradient or just behind
BURST_STAYS = 10  # losses that are all above those before; by chance it is 1 in 1,000
JUMP_SEEN = 10  # losses after a jump before it is judged
NOISE = 1.0  # robust deviations by which medians of ten and of three differ by chance
LOW_LEAST, LOW = 5, 0.1  # logged steps, and the share of all, at a rate of next to nothing
HIGH_RATE = 1e-3  # three to ten times what LoRA is trained with
DIVERGED = 3.0  # robust deviations; as of a loss that diverges
SPIKES = 2  # one may be a batch


@rule("LG008", Severity.ERROR)
def learning_rate_zero(curve: Curve) -> Data:
    """The learning rate is zero.

    Evidence: The learning rate is 0 from step {step} on, for {length} logged steps.
    Why: with a rate of zero no weight changes, whatever the loss shows.
    Fix: give --lr, and a step count (--max-steps or --epochs) that fits the data; a schedule made
    for fewer steps than are trained ends at zero too early.
    """
    rate = curve.rate
    if not _is_zero(curve):
        return None
    return {"step": rate.zero.since, "length": rate.zero.length}


@rule("LG016", Severity.WARNING)
def rate_tiny(curve: Curve) -> Data:
    """The learning rate is tiny throughout.

    Evidence: The learning rate never rose above {top:.1e}, over {steps} logged steps from step
    {step} on; the loss went from {start:.3g} to {now:.3g}.
    Why: at that rate no weight moves by anything that shows in an answer. bf16 weights do not move
    at all: an update below a 256th of a weight is rounded away.
    Fix: give --lr as the method needs: about 1e-4 for LoRA, 1e-5 for full fine-tuning, 5e-3 for
    prefixes. A rate in a YAML without a decimal point, as 1e-4, is text to some readers.
    """
    rate, losses = curve.rate, curve.losses
    if rate.count < TINY_LEAST or rate.top == 0 or rate.since_top < TINY_LEAST or not losses.count:
        return None
    start, now = losses.start, losses.lately
    fell = scaled(start) - scaled(now)
    if rate.top > TINY and (rate.top > SMALL or not curve.ended or fell > LITTLE):
        return None
    if losses.count < TINY_LEAST:
        return None
    return {"step": curve.first, "top": rate.top, "steps": rate.count, "start": start, "now": now}


@rule("LG017", Severity.WARNING)
def warm_up_missing(curve: Curve) -> Data:
    """Training began at full learning rate, and the gradient exploded.

    Evidence: The learning rate was {rate:.1e} from step {step} on, without a warm-up; by the
    {steps}th logged step the gradient norm was {norm_peak:.3g}, where {norm:.3g} was usual, and the
    loss rose from {loss_before:.3g} to {loss_peak:.3g} and stayed above where it began.
    Why: the optimiser's first estimates come from a few batches; steps at full length on them throw
    the weights off before they are known.
    Fix: give --warmup 0.03 to 0.1, and lower --lr if the loss still rises.
    """
    rate, early = curve.rate, curve.early
    if rate.warm > 1 or rate.first < 0.5 * rate.top or rate.count < WARM_LEAST:
        return None
    if len(early) < (WARM_LEAST if curve.ended else EARLY):
        return None
    found = _burst(early)
    return None if found is None else {"step": curve.first, "rate": rate.first, **found}


@rule("LG018", Severity.WARNING)
def rate_jumped(curve: Curve) -> Data:
    """The learning rate jumped up.

    Evidence: At step {step} the learning rate went from {before:.2e} to {after:.2e}; the loss went
    from {loss_before:.3g} to {loss_after:.3g}.
    Why: a schedule that starts again, mostly after a resume with other step counts, takes large
    steps on weights that had settled.
    Fix: resume with the same --max-steps, --epochs and --warmup as before, so that the schedule
    goes on. A schedule with restarts does this on purpose.
    """
    jump, losses = curve.rate.jump, curve.losses
    if jump is None or (losses.count < jump.losses + JUMP_SEEN and not curve.ended):
        return None
    if not losses.count:
        return None
    now = losses.lately
    noise = losses.level.deviation if losses.level else 0.0
    rise = 0.0 if math.isnan(jump.loss) else scaled(now) - scaled(jump.loss)
    rose = rise > max(RISE / 2, NOISE * noise)
    if curve.resume is not None and jump.step == curve.resume.step and not rose:
        return None  # a longer plan; what was lost is said by LG037
    return {
        "step": jump.step,
        "severity": Severity.WARNING if rose or jump.anew else Severity.INFO,
        "anew": jump.anew,
        "before": jump.before,
        "after": jump.after,
        "loss_before": known(jump.loss),
        "loss_after": now,
    }


@rule("LG019", Severity.WARNING)
def schedule_ended_early(curve: Curve) -> Data:
    """The schedule ended before the training.

    Evidence: The learning rate is at most {limit:.0e} of its top {top:.1e} from step {step} on, for
    the last {length} of {count} logged steps.
    Why: these steps cost as much as all others and change next to nothing.
    Fix: let the schedule be as long as the training: --max-steps or --epochs as they are, and no
    step count left over from another run or another number of devices.
    """
    rate = curve.rate
    if not curve.ended or rate.top == 0 or rate.low.length < max(LOW_LEAST, LOW * rate.count):
        return None
    if _is_zero(curve):  # said by LG008
        return None
    found = {"top": rate.top, "length": rate.low.length, "count": rate.count}
    return {"step": rate.low.since, "limit": ENDED, **found}


@rule("LG021", Severity.WARNING)
def rate_too_high(curve: Curve) -> Data:
    """The learning rate is high, and the loss is unstable.

    Evidence: The learning rate rose to {top:.1e}; since then the loss had {spikes} spikes, and it
    lies at {now:.3g} after a lowest level of {lowest:.3g}. The gradient norm began at {norm:.3g}
    (step {step}) and is {norm_now:.3g}.
    Why: {limit:.0e} and more is above what LoRA (about 1e-4) and full fine-tuning (about 1e-5)
    bear; only prefixes are trained with 5e-3 and more.
    Fix: train again with a fifth of the rate (--lr), and with --warmup.
    """
    rate, losses, norms = curve.rate, curve.losses, curve.gradients
    lowest, now = losses.lowest, losses.now
    if rate.top < HIGH_RATE or lowest is None or now is None:
        return None
    rise = now.middle - lowest.middle
    risen = rise > max(RISE, DIVERGED * lowest.deviation) and now.low > lowest.high
    if losses.spikes < SPIKES and not risen:
        return None
    return {
        "step": curve.first,
        "top": rate.top,
        "spikes": losses.spikes,
        "now": now.loss,
        "lowest": lowest.loss,
        "norm": known(norms.start if norms.count else None),
        "norm_now": known(norms.lately if norms.count else None),
        "limit": HIGH_RATE,
    }


def _burst(early: Sequence[Early]) -> dict[str, float] | None:
    """The first losses (nats) and norms, if the greatest gradient threw the loss up for good."""
    losses, norms = [loss for loss, _ in early], [norm for _, norm in early]
    top = max(range(len(norms)), key=norms.__getitem__)
    usual = median(norms)
    after = losses[top + 1 : top + 1 + BURST_STAYS]
    if not 0 < top < BURST_BY or norms[top] < EXPLODED * usual or len(after) < BURST_STAYS:
        return None
    before, peak = median(losses[:top]), max(losses[top : top + BURST_HEIGHT])
    if peak <= max(losses[:top]) or scaled(peak) - scaled(before) < RISE or min(after) <= before:
        return None
    found = {"steps": top + 1, "norm": usual, "norm_peak": norms[top]}
    return found | {"loss_before": before, "loss_peak": peak}


def _is_zero(curve: Curve) -> bool:
    """Whether the rate is zero for so long, or so mostly, that this itself is the fault."""
    rate = curve.rate
    mostly = curve.ended and rate.count >= REPEATED and 2 * rate.zeros > rate.count
    return rate.zero.length > 0 and (mostly or rate.zero.length >= ZERO_RATES)

"""Rules on losses that are no number, or nothing."""

from __future__ import annotations

import math

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import ALIVE_LOSS, ZERO_LOSS, Curve
from glmtrain.detectors.finding import Data, known

REPEATED = 3  # one batch may be odd; three in succession are not chance
SUNK = 10  # logged steps; a loss that touches zero for a moment is a batch known by heart
STAYING_NORM = 0.2  # of the first gradient norms: the gradient of a sure answer sinks with its loss
FIRST_PASS = 1.5  # passes; in the first one, no row was seen before


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
    if curve.exact.length >= REPEATED and not curve.gradients.count:  # said by LG011
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


@rule("LG009", Severity.ERROR)
def loss_sank_to_zero(curve: Curve) -> Data:
    """The loss sank to zero.

    Evidence: The loss sank below {limit:g} by step {step}, after {epoch:.2f} passes over the data;
    the gradient norm went from {norm_before:.3g} to {norm_now:.3g} and the loss on held-out rows is
    {eval_loss:.3g}.
    Why: rows that were seen many times can be learned by heart, and then the gradient sinks with
    the loss. In the first pass, or with a gradient that stays, the answers can be read off the
    input, next to nothing has a label, or the number is not the loss.
    Fix: look at a row and its labels with glmprep show SHARDS. If the rows were learned by heart,
    train fewer passes (--epochs) or add rows, and hold rows out to see it in time.
    """
    losses, norms = curve.losses, curve.gradients
    if curve.nothing.length < SUNK or curve.was_alive or curve.exact.length:
        return None
    # A norm that never changes was logged after clipping, and says nothing.
    moves = bool(norms.latest) and max(norms.latest) > min(norms.latest)
    kept = moves and norms.lately > STAYING_NORM * norms.start
    honest = curve.epoch is None or curve.epoch > FIRST_PASS
    severity = Severity.ERROR if kept else Severity.INFO if honest else Severity.WARNING
    return {
        "step": curve.nothing.since,
        "severity": severity,
        "limit": ZERO_LOSS,
        "epoch": known(curve.epoch),
        "norm_before": known(norms.start if norms.count else None),
        "norm_now": known(norms.lately if norms.count else None),
        "eval_loss": known(curve.evaluations.last),
        "start": losses.start,
    }


@rule("LG011", Severity.ERROR)
def zero_without_gradient(curve: Curve) -> Data:
    """The loss is exactly 0.0, and no gradient norm says whether it was a NaN.

    Evidence: The loss is exactly 0.0 from step {step} on, after {finite} logged steps of a larger
    loss; the log has no gradient norm.
    Why: no model is certain to the last digit. The Hugging Face Trainer writes 0.0 for a NaN loss
    (logging_nan_inf_filter), and a mean over no labels is written as 0.0 as well.
    Fix: check that the rows have labels: glmdiag labels SHARDS. Set logging_nan_inf_filter=False,
    or train with glmtrain run, which logs NaN as NaN, and --dtype auto.
    """
    if curve.exact.length < REPEATED or curve.gradients.count:
        return None
    return {"step": curve.exact.since, "finite": curve.losses.count}


@rule("LG012", Severity.WARNING)
def single_zeros(curve: Curve) -> Data:
    """Single steps have a loss of exactly 0.0.

    Evidence: {count} logged {count:|step has|steps have} a loss of exactly 0.0 among losses of
    about {loss:.3g}, the first at step {step}.
    Why: no batch is certain to the last digit. Such a step had no label, or its loss was a NaN that
    the Hugging Face Trainer wrote as 0.0 (logging_nan_inf_filter).
    Fix: look for rows without labels: glmdiag labels SHARDS. In the Hugging Face Trainer set
    logging_nan_inf_filter=False to see which it was.
    """
    if not curve.blanks or curve.exact.length or not curve.losses.count:
        return None
    if curve.losses.lately < ALIVE_LOSS:
        return None
    return {"step": curve.blank_step, "count": curve.blanks, "loss": curve.losses.lately}

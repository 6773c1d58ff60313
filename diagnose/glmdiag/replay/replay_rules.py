"""Rules on a step that was done again: each takes a `Replay` and yields its findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from glmprep.findings import Example, Finding, Severity, rule

if TYPE_CHECKING:
    from glmdiag.replay.replayed import Record, Replay

LIMITS = {"fp16": 65504.0, "bf16": 3.3895313892515355e38, "fp32": 3.4028234663852886e38}
"""The largest number of each format."""
DOMINATES = 10.0  # times the gradient of the record in the middle
COMPARED = 4  # records; fewer have no usual size
GUESSING = 1.5  # times the loss of guessing: no sound model is so sure of what is wrong
EXAMPLES = 5


@rule("LG121", Severity.ERROR)
def format_overflows(replay: Replay) -> Iterator[Finding]:
    """A value is too large for the number format.

    Evidence: Step {step} is finite in fp32, not in {dtype}: the {side} of {module} reaches
    {peak:.6g} in fp32, and {dtype} holds up to {limit:.6g}. {count} of {records} records do that:
    {record}.
    Why: what overflows becomes infinite, then NaN; the step is lost, and with it what its records
    would have taught.
    Fix: train with --dtype bf16 where the hardware computes it correctly (glmdiag hw), else with
    --dtype fp32. If it is a single odd record, look at it with glmprep show SHARDS --row, and
    repair it or leave it out.
    """
    compared, spot = replay.compared, replay.compared.first
    if compared.finite or not replay.exact.finite or spot is None:
        return
    peak = replay.exact.trace.peaks.get((spot.module, spot.side), math.inf)
    yield format_overflows.finding(
        _where(replay),
        examples=_examples(replay.broken),
        **_common(replay, replay.broken),
        dtype=compared.dtype,
        module=spot.module,
        side=spot.side,
        peak=peak,
        limit=LIMITS[compared.dtype],
    )


@rule("LG122", Severity.ERROR)
def weight_not_finite(replay: Replay) -> Iterator[Finding]:
    """A weight is not finite.

    Evidence: Before step {step}, {count} {count:|weight holds|weights hold} NaN or infinity, first
    {weight}{rows}.
    Why: every record that comes upon it has a NaN loss, and no further training makes
    it finite again.
    Fix: go back to a checkpoint whose weights are sound, or begin again from the base model, with
    half the learning rate (--lr). If the run went on from an adapter, make that one again.
    """
    bad = [weight for weight in replay.weights if not math.isfinite(weight.peak)]
    if not bad:
        return
    rows = ", ".join(map(str, bad[0].rows))
    yield weight_not_finite.finding(
        _where(replay),
        examples=_examples(replay.broken),
        step=replay.step,
        count=len(bad),
        weight=bad[0].name,
        rows=f" [{rows}]" if rows else "",
    )


@rule("LG123", Severity.ERROR)
def record_not_finite(replay: Replay) -> Iterator[Finding]:
    """A record makes the loss not finite, in fp32 as well.

    Evidence: In step {step}, {count} of {records} records have no finite loss in fp32 either, with
    sound weights: {record}; first not finite is the {side} of {module}.
    Why: the number format is not the cause, so another one does not help; the same record does it
    again in every epoch.
    Fix: look at the record with glmprep show SHARDS --row. Repair it or leave it out, and make the
    shards again with glmprep bucket.
    """
    broken = _broken_in_fp32(replay)
    spot = broken[0].passes["fp32"].first if broken else None
    if spot is None or not _sound(replay) or _all(replay, broken):
        return
    yield record_not_finite.finding(
        _where(replay),
        examples=_examples(broken),
        **_common(replay, broken),
        module=spot.module,
        side=spot.side,
    )


@rule("LG124", Severity.ERROR)
def weights_too_large(replay: Replay) -> Iterator[Finding]:
    """No record's loss is finite: the weights have grown too large.

    Evidence: In step {step} all of {records} records have no finite loss in fp32 either. No weight
    is NaN, but {weight} reaches {peak:.3g}; first not finite is the {side} of {module}.
    Why: a learning rate that is too high drives the weights away until nothing can be computed with
    them; the data has no part in it.
    Fix: begin again, or resume from a checkpoint before the loss rose, with a tenth of the learning
    rate (--lr), a warm-up (--warmup) and gradients clipped at 1.
    """
    broken = _broken_in_fp32(replay)
    spot = broken[0].passes["fp32"].first if broken else None
    if spot is None or not _sound(replay) or not _all(replay, broken):
        return
    yield weights_too_large.finding(
        _where(replay),
        step=replay.step,
        records=len(replay.records),
        weight=replay.weights[0].name,
        peak=replay.weights[0].peak,
        module=spot.module,
        side=spot.side,
    )


@rule("LG125", Severity.ERROR)
def gradient_not_finite(replay: Replay) -> Iterator[Finding]:
    """The loss is finite, its gradient is not.

    Evidence: In step {step} the loss is {loss:.4g} in fp32, but the gradient is not finite from
    {module} on, on the way back; {count} of {records} records do that: {record}.
    Why: some operation has no derivative where it is evaluated, or one too large for any format.
    Fix: look at the record with glmprep show SHARDS --row. If no record alone does it, take a lower
    learning rate (--lr).
    """
    exact = replay.exact
    spot = exact.trace.gradient
    if exact.finite or not math.isfinite(exact.loss):
        return
    yield gradient_not_finite.finding(
        _where(replay),
        examples=_examples(replay.broken),
        **_common(replay, replay.broken),
        loss=exact.loss,
        module="?" if spot is None else spot.module,
    )


@rule("LG126", Severity.INFO)
def scale_too_high(replay: Replay) -> Iterator[Finding]:
    """The gradient overflows under the loss scale of fp16.

    Evidence: In step {step} loss and activations are finite in fp16, but the gradient is not, at a
    loss scale of {scale:g}; in fp32 its norm is {norm:.3g}.
    Why: loss scaling finds its scale by overflowing now and then; such a step is left out and the
    scale is halved. Only many in a row are a fault.
    Fix: nothing, if it happens once in hundreds of steps. Else train with --dtype bf16 or --dtype
    fp32.
    """
    compared = replay.compared
    overflows = math.isfinite(compared.loss) and not math.isfinite(compared.norm)
    if compared.dtype == "fp16" and overflows and replay.exact.finite:
        yield scale_too_high.finding(
            _where(replay),
            step=replay.step,
            scale=float(replay.logged.get("loss_scale") or 1.0),
            norm=replay.exact.norm,
        )


@rule("LG127", Severity.WARNING)
def record_dominates(replay: Replay) -> Iterator[Finding]:
    """One record's gradient is far larger than the others'.

    Evidence: In step {step} the gradient of {record} is {ratio:.0f} times that of the record in the
    middle of {records}, at a loss of {loss:.3g}.
    Why: the step goes where this one record pulls. A wrong answer, a foreign language or broken
    text looks like this.
    Fix: look at it with glmprep show SHARDS --row. If it is unsound, repair it or leave it out; if
    it is sound, guard against it: glmtrain run --set guard.spikes=skip.
    """
    if len(replay.records) < COMPARED or not all(
        one.passes["fp32"].finite for one in replay.records
    ):
        return
    ranked = sorted(replay.records, key=_pull, reverse=True)
    middle = median(_pull(one) for one in ranked)
    if middle > 0 and _pull(ranked[0]) > DOMINATES * middle:
        yield record_dominates.finding(
            _where(replay),
            examples=_examples(ranked[:1]),
            step=replay.step,
            record=ranked[0].name,
            records=len(ranked),
            ratio=_pull(ranked[0]) / middle,
            loss=ranked[0].passes["fp32"].loss,
        )


@rule("LG128", Severity.WARNING)
def worse_than_guessing(replay: Replay) -> Iterator[Finding]:
    """All records are predicted worse than by guessing.

    Evidence: In step {step} the loss of the record in the middle of {records} is {loss:.3g};
    guessing among all tokens has {guess:.3g}.
    Why: no record is at fault where all are predicted so badly: the weights are. Most often the
    learning rate is too high.
    Fix: resume from a checkpoint before the loss rose, with a tenth of the learning rate (--lr) and
    a warm-up (--warmup).
    """
    losses = [one.passes["fp32"].loss for one in replay.records if one.passes["fp32"].finite]
    if len(losses) < max(2, len(replay.records)) or replay.only is not None:
        return
    guess = math.log(replay.vocabulary)
    if median(losses) > GUESSING * guess:
        yield worse_than_guessing.finding(
            _where(replay),
            step=replay.step,
            records=len(losses),
            loss=median(losses),
            guess=guess,
        )


@rule("LG129", Severity.WARNING)
def not_reproduced(replay: Replay) -> Iterator[Finding]:
    """The fault does not show when the step is done again.

    Evidence: The log has no finite loss or gradient at step {step}; done again, the loss is
    {loss:.4g} in {dtype} and the gradient norm {norm:.3g}.
    Why: it hangs on what is not the same here: another device or library, weights of other steps,
    dropout, or memory that fails.
    Fix: replay on the machine that trained. If it does not show there either, test its memory, and
    train with --save-every so that weights near the step are kept.
    """
    logged = replay.logged
    unsound = logged.get("nonfinite") or logged.get("nonfinite_grad_norm")
    sound = all(each.finite for each in replay.passes.values())
    if unsound and sound and not replay.broken and replay.only is None:
        yield not_reproduced.finding(
            _where(replay),
            step=replay.step,
            loss=replay.compared.loss,
            norm=replay.compared.norm,
            dtype=replay.dtype,
        )


REPLAY_RULES = (
    format_overflows,
    weight_not_finite,
    record_not_finite,
    weights_too_large,
    gradient_not_finite,
    scale_too_high,
    record_dominates,
    worse_than_guessing,
    not_reproduced,
)


def judge(replay: Replay) -> list[Finding]:
    """All findings on a step."""
    return [finding for each in REPLAY_RULES for finding in each(replay)]


def _where(replay: Replay) -> str:
    return f"{replay.run} step {replay.step}"


def _common(replay: Replay, records: Sequence[Record]) -> dict[str, Any]:
    return {
        "step": replay.step,
        "count": len(records),
        "records": len(replay.records),
        "record": records[0].name if records else "?",
    }


def _examples(records: Sequence[Record]) -> tuple[Example, ...]:
    return tuple(Example(where=one.name, excerpt=one.excerpt) for one in records[:EXAMPLES])


def _broken_in_fp32(replay: Replay) -> list[Record]:
    return [one for one in replay.records if not math.isfinite(one.passes["fp32"].loss)]


def _all(replay: Replay, broken: Sequence[Record]) -> bool:
    """Whether all of several records are broken, so that none of them can be the cause."""
    return replay.only is None and len(broken) == len(replay.records) > 1


def _sound(replay: Replay) -> bool:
    return all(math.isfinite(weight.peak) for weight in replay.weights)


def _pull(record: Record) -> float:
    """The part of the step's gradient that is this record's."""
    return record.passes["fp32"].norm

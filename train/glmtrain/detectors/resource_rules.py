"""Rules on memory and speed."""

from __future__ import annotations

import math
from statistics import median

from glmprep.findings import Severity, rule

from glmtrain.detectors.curve import Curve
from glmtrain.detectors.finding import Data, known
from glmtrain.detectors.levels import Stretches, rising
from glmtrain.detectors.resources import WASTED

SWING = 0.2  # of the median: allocators vary by a few percent, and nobody runs out of memory by it
EXPLAINED = 0.5  # of the variance: more by the length than by all else
EVAL_FIT = 0.1  # share by which a rhythm may miss that of the evaluations; logs have gaps
LEAK_LEAST = 40  # logged steps; the first ones fill caches
LEAK = math.log(1.15)  # a seventh more, and still growing
LEAK_STEADY = 0.95  # of all pairs of stretches: memory that is given back at times is no leak
SLOWER = math.log(0.75)  # a quarter of the speed gone
SLOWING = 0.2  # of all pairs of stretches at most are faster later
SLOW_LEAST = 40  # logged steps
SWING_LEAST = 24  # logged steps
PARTS = 8  # stretches over which a trend must show
HEAVY, FEW = 3, 0.25  # batches, and their share at most: more is how the rows are
SPEED_SWING = 0.5  # of the median; steps differ more in time than in memory


@rule("LG027", Severity.WARNING)
def memory_beats(curve: Curve) -> Data:
    """Memory goes up and down in a fixed rhythm.

    Evidence: Memory varies by {swing:.0%} of its median and repeats itself every {period} steps, up
    to {peak:bytes}; neither the length of the rows nor the evaluations explain it. Seen since step
    {step}.
    Why: something fills memory and empties it: a cache that is cleared (empty_cache), checkpoints
    that are written, gradients that are kept for several steps. The top of the wave runs out first.
    Fix: look at what happens every {period} steps; take out calls of empty_cache, which cost time
    and fragment memory; compare with glmtrain run, whose peaks metrics.jsonl gives for each step.
    """
    found = _beat(curve)
    if found is None or curve.memory.explained > EXPLAINED or _is_eval(curve, found["period"]):
        return None
    return found


@rule("LG028", Severity.INFO)
def memory_follows_length(curve: Curve) -> Data:
    """Memory follows the length of the rows.

    Evidence: Memory varies by {swing:.0%} of its median, up to {peak:bytes}, and the length of the
    batch explains {share:.0%} of that. Seen since step {step}.
    Why: a batch that is padded to its longest row takes what that row takes. The longest one
    decides whether the run fits.
    Fix: make shards with glmprep bucket, which gives each length a batch of about as many tokens;
    glmtrain run tries the longest bucket first.
    """
    memory = curve.memory
    if not curve.ended or memory.count < SWING_LEAST or memory.swing < SWING:
        return None
    share = memory.explained
    if share <= EXPLAINED:
        return None
    found = {"swing": memory.swing, "peak": memory.top, "share": share}
    return {"step": memory.recent[0][0], **found}


@rule("LG029", Severity.INFO)
def memory_peaks_at_evaluation(curve: Curve) -> Data:
    """Memory peaks at each evaluation.

    Evidence: Memory varies by {swing:.0%} of its median, up to {peak:bytes}, every {period} steps,
    as often as the run is evaluated. Seen since step {step}.
    Why: an evaluation that keeps the logits of whole batches takes more memory than a training step
    and runs out of it first.
    Fix: evaluate with a smaller batch, or keep losses only (prediction_loss_only=True in the
    Hugging Face Trainer); glmtrain run keeps no logits.
    """
    found = _beat(curve)
    return found if found is not None and _is_eval(curve, found["period"]) else None


@rule("LG030", Severity.WARNING)
def memory_grows(curve: Curve) -> Data:
    """Memory keeps growing.

    Evidence: Beside rows of the same length, memory has grown by {growth:.0%} since step {step}, to
    {peak:bytes}, and it was still growing when it was last looked at.
    Why: something is kept from step to step: losses that hold on to their graph, a list of outputs,
    a cache without an end. Sooner or later the run is out of memory.
    Fix: keep numbers, not tensors (loss.item()); look for hooks and callbacks that collect. Save
    checkpoints often until it is found: --save-every.
    """
    lows = curve.memory.stretches.lows
    if curve.memory.count < LEAK_LEAST or len(lows) < PARTS:
        return None
    growth = lows[-1] - lows[0]
    if growth < LEAK or rising(lows) < LEAK_STEADY or lows[-1] - lows[len(lows) // 2] < growth / 5:
        return None
    since = curve.memory.stretches.starts[0]
    return {"step": since, "growth": math.expm1(growth), "peak": curve.memory.top}


@rule("LG031", Severity.WARNING)
def speed_falls(curve: Curve) -> Data:
    """Training becomes slower and slower.

    Evidence: Beside rows of the same length, the speed has fallen by {fall:.0%} since step {step},
    steadily.
    Why: the same work takes longer: a device that is throttled by heat, memory that is swapped or
    fragmented, something that grows with each step, or a neighbour on the same machine.
    Fix: look at temperature, clocks and other processes with glmdiag hw while it trains, and at
    memory in the same log.
    """
    stretches = curve.speed.stretches
    if curve.speed.count < SLOW_LEAST or len(stretches.means) < PARTS:
        return None
    fall = _late(stretches) - _early(stretches)
    if fall > SLOWER or rising(stretches.means) > SLOWING:
        return None
    return {"step": stretches.starts[0], "fall": -math.expm1(fall)}


@rule("LG032", Severity.INFO)
def speed_beats(curve: Curve) -> Data:
    """The speed goes up and down in a fixed rhythm.

    Evidence: The speed varies by {swing:.0%} of its median and repeats itself every {period} steps.
    Seen since step {step}.
    Why: something takes its time in that rhythm: checkpoints that are written, evaluations, or data
    that are read too slowly.
    Fix: look at what happens every {period} steps; save and evaluate less often (--save-every,
    --set evaluation.every).
    """
    speed = curve.speed
    if not curve.ended or speed.count < SWING_LEAST or speed.swing < SPEED_SWING:
        return None
    if speed.explained > EXPLAINED or (rhythm := speed.rhythm) is None:
        return None
    return {"step": speed.recent[0][0], "swing": speed.swing, "period": rhythm}


@rule("LG044", Severity.WARNING)
def long_rows_pad(curve: Curve) -> Data:
    """Single batches are mostly padding.

    Evidence: {wasted} of {count} logged batches are padding by half and more, the first at step
    {step}, while {usual:.0%} is usual; memory goes up to {peak:.3g} times its median, and the
    slowest step takes {slow:.3g} times the usual time for a token.
    Why: a batch is padded to its longest row. One long row among short ones makes its whole batch
    as long, in memory and time, and the largest batch decides whether the run fits.
    Fix: make shards with glmprep bucket, which puts rows of like length together and gives each
    length a batch of about as many tokens; divide long rows with glmprep segment.
    """
    padding, memory, speed = curve.padding, curve.memory, curve.speed
    if not curve.ended or not padding.count or padding.wasted < HEAVY:
        return None
    usual = median(padding.recent)
    if padding.wasted > FEW * padding.count or usual > WASTED / 2:
        return None
    peak = memory.top / median(memory.values) if memory.count else math.nan
    slow = median(speed.values) / min(speed.values) if speed.count else math.nan
    return {
        "step": padding.since,
        "wasted": padding.wasted,
        "count": padding.count,
        "usual": usual,
        "peak": known(peak),
        "slow": known(slow),
    }


def _beat(curve: Curve) -> dict[str, float] | None:
    """The rhythm of memory, judged at the end: it is found in the last steps, in one go."""
    memory = curve.memory
    if not curve.ended or memory.count < SWING_LEAST or memory.swing < SWING:
        return None
    if (rhythm := memory.rhythm) is None:
        return None
    found = {"swing": memory.swing, "peak": memory.top, "period": rhythm}
    return {"step": memory.recent[0][0], **found}


def _is_eval(curve: Curve, period: float) -> bool:
    """Whether a rhythm is that of the evaluations."""
    every = curve.evaluations.every
    return not math.isnan(every) and abs(period - every) <= EVAL_FIT * every


def _early(stretches: Stretches) -> float:
    """The mean of the first quarter."""
    part = stretches.means[: len(stretches.means) // 4]
    return sum(part) / len(part)


def _late(stretches: Stretches) -> float:
    """The mean of the last quarter."""
    part = stretches.means[-(len(stretches.means) // 4) :]
    return sum(part) / len(part)

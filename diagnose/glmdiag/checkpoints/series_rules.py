"""Rules on how a run went on: its optimiser, its state, one checkpoint beside the next."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from glmprep.findings import Example, Finding, Severity, rule

if TYPE_CHECKING:
    from glmdiag.checkpoints.reading import Checkpoint
    from glmdiag.checkpoints.tensors import Weights

WHERE = "checkpoint"
SHOWN = 5
LEAST_BETA2, MOST_BETA = 0.5, 0.99999


@rule("CK015", Severity.ERROR)
def optimiser_not_finite(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The optimiser remembers NaN or infinity.

    Evidence: {count} tensors of {file} hold what is no number, as {first}.
    Why: whoever resumes from here has NaN weights after one step.
    Fix: resume from an earlier checkpoint.
    """
    memory = checkpoint.optimiser
    if memory is not None and memory.bad:
        yield optimiser_not_finite.finding(
            WHERE, count=len(memory.bad), file=memory.file, first=memory.bad[0]
        )


@rule("CK016", Severity.WARNING)
def steps_disagree(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The parts of a checkpoint are not of the same step.

    Evidence: its folder, state and optimiser name the steps {steps}.
    Why: files of different moments resume with a wrong rate, wrong bias correction, or data that
    was seen already; an optimiser behind the others also shows that steps were left out.
    Fix: take a checkpoint whose files were written together.
    """
    named = {*(checkpoint.told_steps or {}).values()}
    if checkpoint.step is not None:
        named.add(checkpoint.step)
    memory = checkpoint.optimiser
    made = max(memory.steps, default=None) if memory is not None else None
    # Steps that were left out leave the optimiser behind, but never ahead, and rarely at nothing.
    wrong = made is not None and bool(named) and not max(named) / 2 <= made <= max(named)
    if len(named) > 1 or wrong:
        steps = sorted(named | ({made} if made is not None else set()))
        yield steps_disagree.finding(WHERE, steps=", ".join(map(str, steps)))


@rule("CK017", Severity.ERROR)
def no_gradient(checkpoint: Checkpoint) -> Iterator[Finding]:
    """No gradient ever came to some weights.

    Evidence: the second moments of {count} of {weights} weights are all zero, as of {first}.
    Why: the optimiser adds up squared gradients there, so these were zero at every step: nothing
    was labelled, or the weights are cut off from the loss.
    Fix: check the labels with glmdiag labels, and that gradients reach these weights with glmdiag
    preflight (enable_input_require_grads with checkpointing).
    """
    memory = checkpoint.optimiser
    if memory is None:
        return
    still = [name for name in memory.never_moved if not _waits(name)]
    if still:
        share = len(memory.never_moved) / max(1, len(memory.second))
        yield no_gradient.finding(
            WHERE,
            examples=tuple(Example(where=name) for name in still[:SHOWN]),
            severity=None if share == 1 else Severity.WARNING,
            count=len(still),
            weights=len(memory.second),
            share=share,
            first=still[0],
        )


@rule("CK018", Severity.WARNING)
def odd_betas(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The optimiser's betas are unusual.

    Evidence: {file} has betas {first:.6g} and {second:.6g}.
    Why: with a second beta near 0 the step follows the last gradient alone, with one of 1 the
    moments never change.
    Fix: use 0.9 and 0.999, or 0.95 to 0.99 for the second in short runs.
    """
    memory = checkpoint.optimiser
    for group in memory.groups if memory is not None else ():
        betas = _pair(group.get("betas"))
        if betas is None:
            continue
        if not (0 <= betas[0] <= MOST_BETA and LEAST_BETA2 <= betas[1] <= MOST_BETA):
            assert memory is not None
            yield odd_betas.finding(WHERE, file=memory.file, first=betas[0], second=betas[1])
            return


@rule("CK019", Severity.ERROR)
def weights_stand_still(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The weights do not change from one checkpoint to the next.

    Evidence: all {tensors} tensors are the same, bit by bit, at step {before} and at step {after}.
    Why: no step was taken between them: a rate of zero, gradients that are left out, or weights too
    coarse in bf16 for steps so small.
    Fix: look at learning rate and gradient norm of these steps with glmdiag log; keep what is
    trained in fp32.
    """
    for (before, first), (after, second) in _neighbours(checkpoint):
        if first.tensors and _digests(first) == _digests(second):
            yield weights_stand_still.finding(
                WHERE, tensors=len(first.tensors), before=before, after=after
            )
            return


@rule("CK020", Severity.WARNING)
def factor_stands_still(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The factors A of the adapter do not change, while B does.

    Evidence: all {count} factors A are the same at step {before} and at step {after}.
    Why: LoRA trains both; with A fixed it searches a few random directions. Some methods mean it
    so (LoRA-FA), else A is frozen or left out of the optimiser.
    Fix: look at which weights the optimiser was given.
    """
    for (before, first), (after, second) in _neighbours(checkpoint):
        a, b = ({n: d for n, d in _digests(first).items() if f"lora_{side}" in n} for side in "AB")
        later = _digests(second)
        same = bool(a) and all(later.get(name) == digest for name, digest in a.items())
        if same and any(later.get(name) != digest for name, digest in b.items()):
            yield factor_stands_still.finding(WHERE, count=len(a), before=before, after=after)
            return


SERIES_RULES = (
    optimiser_not_finite,
    steps_disagree,
    no_gradient,
    odd_betas,
    weights_stand_still,
    factor_stands_still,
)


def _neighbours(
    checkpoint: Checkpoint,
) -> Iterator[tuple[tuple[int, Weights], tuple[int, Weights]]]:
    return pairwise(sorted((checkpoint.series or {}).items()))


def _digests(weights: Weights) -> dict[str, str]:
    return {name: tensor.digest for name, tensor in weights.tensors.items()}


def _waits(weight: str) -> bool:
    """Whether a weight has no gradient before the second step: LoRA's A, while B is zero."""
    return "lora_A" in weight


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    if not all(isinstance(one, int | float) for one in value):
        return None
    return float(value[0]), float(value[1])

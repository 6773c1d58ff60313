"""Rules on a run as a whole: its settings, and what came of it. Free of torch, as all rules are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from glmprep.findings import Severity, rule

if TYPE_CHECKING:
    from glmtrain.learned import Learned
    from glmtrain.plan import Plan
    from glmtrain.probe import DtypeCheck
    from glmtrain.settings import Config
    from glmtrain.verification import HeldOut


ERRORS = 2  # so many standard errors a rise must be above nothing
FEWEST_HELD_OUT = 8  # answers; a standard error of fewer is itself uncertain
FEWEST_TO_SHUFFLE = 4  # answers; the shuffled ones of fewer are a matter of chance
LEAST_GAP = 0.02  # of the loss; what a change of batches makes
FITS_WELL = 0.05  # of the loss; with such a gap the model does tell prompts apart
LEAK = 0.25  # of the difference that a row makes whose segments do see each other
LOSS_ERROR = 0.02  # relative; the model's own loss may be rounded to half precision
MUCH = 0.2  # of the loss before; what is learned by heart falls further still
STOP_LIKELY = 0.5  # below it, greedy generation may well go past the end
STOP_RARE = 0.1  # below it, or below half of what it was, it surely will


@rule("CF101", Severity.WARNING)
def setting_without_effect(given: Collection[str], plan: Plan) -> list[dict[str, str]]:
    """A setting has no effect.

    Evidence: {setting} was given but changes nothing, because {because}.
    Why: a run that ignores what was asked for looks as if it had been tried.
    Fix: leave {setting} out, or change what keeps it from having an effect.
    """
    because = dict(_reasons(plan.config, plan))
    return [{"setting": n, "because": because[n]} for n in sorted(set(given) & set(because))]


def _reasons(config: Config, plan: Plan) -> Iterator[tuple[str, str]]:
    """Settings that change nothing here, and why."""
    method, run = config.model.method, config.run
    if method not in ("lora", "qlora"):
        yield from _all(config.lora, "lora", f"model.method = {method}")
    if method != "ptuning":
        yield from _all(config.prefix, "prefix", f"model.method = {method}")
    yield from _of_distilling(config)
    if config.precision.dtype != "fp16":
        yield "precision.initial_loss_scale", f"precision.dtype = {config.precision.dtype}"
    if config.schedule.decay == "constant":
        yield "schedule.final", "schedule.decay = constant"
    if config.schedule.decay != "wsd":
        yield "schedule.cooldown", f"schedule.decay = {config.schedule.decay}"
    if config.model.offload_activations and plan.on_cpu:
        yield "model.offload_activations", "activations are in main memory already"
    if config.guard.spikes == "off":
        yield from _all(config.guard, "guard", "guard.spikes = off")
    if config.data.validation is None:
        yield from _all(config.evaluation, "evaluation", "there is no data.validation")
    name = config.optimiser.name
    useless = {"adafactor": ("epsilon", "beta1", "beta2"), "lion": ("epsilon",)}.get(name, ())
    yield from ((f"optimiser.{each}", f"optimiser.name = {name}") for each in useless)
    if run.max_steps is not None and run.max_steps > plan.steps:
        yield "run.max_steps", f"run.epochs = {run.epochs} ({plan.steps} steps)"
    elif run.epochs is not None and run.epochs * plan.steps_per_epoch > plan.steps:
        yield "run.epochs", f"run.max_steps = {run.max_steps}"


def _of_distilling(config: Config) -> Iterator[tuple[str, str]]:
    distill = config.distill
    if distill.teacher is None:
        yield from _all(distill, "distill", "there is no distill.teacher")
        return
    yield "loss.kernel", "no kernel compares with a distill.teacher"
    if distill.weight == 0:
        yield "distill.temperature", "distill.weight = 0"
        if distill.hidden == 0:
            yield "distill.teacher", "distill.weight = 0 and distill.hidden = 0"
    if distill.weight == 1:
        yield from _all(config.loss, "loss", "distill.weight = 1")


def _all(section: Any, name: str, because: str) -> Iterator[tuple[str, str]]:
    return ((f"{name}.{each.name}", because) for each in fields(section))


@rule("CF111", Severity.ERROR)
def format_not_usable(check: DtypeCheck | None, *, accelerator: bool) -> dict[str, str] | None:
    """The device cannot train in the number format that was asked for.

    Evidence: {format} {problem} on this device.
    Why: a format without units of its own is emulated, several times slower than fp32, and one that
    is computed wrong spoils the weights without a word.
    Fix: leave the format to --dtype auto; it takes fp16 with loss scaling, or fp32, where bf16 is
    not to be had.
    """
    if check is None or not (check.state == "wrong" or (accelerator and check.state == "missing")):
        return None
    wrong = f"gave a wrong result in a test computation (error {check.error:.2g})"
    problem = wrong if check.state == "wrong" else "has no units"
    return {"format": check.dtype, "problem": problem}


@rule("CF112", Severity.ERROR)
def loss_not_the_models(model: str, *, own: float, ours: float) -> dict[str, str | float] | None:
    """The loss differs from the one that the model computes itself.

    Evidence: {model} gives a loss of {own:.3f} on a few tokens where this trainer gives {ours:.3f}.
    Why: logits are made here only where there is a label, from the last hidden states and the
    output layer; a model that does more to its logits would be trained towards something else.
    Fix: use a model of the GLM family without changes of its own to the output, or report which one
    this is.
    """
    if abs(ours - own) <= LOSS_ERROR * abs(own):
        return None
    return {"model": model, "own": own, "ours": ours}


@rule("CF113", Severity.ERROR)
def packing_leaks(*, leak: float, most: float) -> dict[str, float] | None:
    """Packed rows leak: a segment sees the one before it.

    Evidence: packed behind another, a segment's losses change by {leak:.3g}; they would change by
    {most:.3g} if it saw all of it.
    Why: conversations that were packed into one row would be answered from each other's text.
    Fix: use another attention (--set model.attention=sdpa), or make the shards with glmprep bucket
    --layout buckets.
    """
    return None if leak <= LEAK * most else {"leak": leak, "most": most}


@rule("CF114", Severity.ERROR)
def stop_not_trained(answers: int, *, stopping: int) -> dict[str, int] | None:
    """No answer ends with a token that ends a turn.

    Evidence: of {answers} trained answers in these shards none ends with a stop token.
    Why: GLM has no end-of-turn token of its own: the next role token ends an answer. A model that
    was never trained on it talks on for both sides.
    Fix: make the shards with glmprep bucket, which trains the token that ends a turn; if the data
    consists of pieces of answers alone, add whole ones.
    """
    return {"answers": answers} if answers and not stopping else None


@rule("CF115", Severity.WARNING)
def model_stops_elsewhere(told: Collection[int], trained: Collection[int]) -> dict[str, str] | None:
    """The model's generation settings do not stop at all tokens that are trained to end a turn.

    Evidence: trained stops are {trained}; the model's generation_config stops at {told}.
    Why: a server that reads these settings goes on past the end of an answer that the model was
    trained to end there.
    Fix: give the server all of them as stop token ids; glmtrain merge writes them into the merged
    model.
    """
    if not told or set(trained) <= set(told):
        return None
    return {name: _listed(ids) for name, ids in (("trained", trained), ("told", told))}


@rule("CF116", Severity.ERROR)
def longest_batch_too_large(*, fits: bool, rows: int, length: int) -> dict[str, int] | None:
    """The longest batch does not fit into memory.

    Evidence: memory ran out at a batch of {rows} x {length} tokens, the largest of the run.
    Why: the run would end hours later, when that batch comes; or go on in smaller batches from
    there.
    Fix: halve --tokens-per-batch, add --gradient-checkpointing, or take --method qlora; a single
    row that is too long has to be cut: glmprep segment --max-length.
    """
    return None if fits else {"rows": rows, "length": length}


@rule("LG101", Severity.WARNING)
def nothing_learned(learned: Learned) -> dict[str, float | int] | None:
    """The run did not lower the loss.

    Evidence: on {answers} of the trained answers the loss was {before:.3g} before and {after:.3g}
    after.
    Why: a model whose loss does not fall even on answers that it trained on answers as before.
    Fix: train for more steps (--max-steps), or raise the learning rate (--lr); where the loss rose,
    lower it.
    """
    if learned.verdict == "learned":
        return None
    before, after = learned.before.loss, learned.after.loss
    return {"answers": learned.answers, "before": before, "after": after}


@rule("LG102", Severity.WARNING)
def only_manner_learned(learned: Learned) -> dict[str, float | Severity] | None:
    """The model learned how answers are written, but not which answer belongs to which prompt.

    Evidence: the loss of trained answers is {own:.3g} behind their own prompts and {shuffled:.3g}
    behind those of others, a difference of {after:.2g} after the run and of {before:.2g} before.
    Why: the loss fell just as much where the answer fits nothing, so what was learned is tone,
    length and format. That is all there is to learn where answers hardly depend on the prompt;
    elsewhere labels are shifted, prompts are cut, or it is too early.
    Fix: look at some rows with glmprep show SHARDS: is the question still in front of its answer?
    If so, train for longer.
    """
    if learned.verdict != "learned" or learned.answers < FEWEST_TO_SHUFFLE:
        return None
    before, after = learned.before.gap, learned.after.gap
    if after > max(before, 0.0) + LEAST_GAP * learned.after.loss:
        return None
    own, shuffled = learned.after.loss, learned.after.shuffled
    # A base that fitted answers to their prompts before may have had nothing more to learn there.
    severity = Severity.WARNING if after < FITS_WELL * own else Severity.INFO
    return {
        "own": own,
        "shuffled": shuffled,
        "after": after,
        "before": before,
        "severity": severity,
    }


@rule("LG103", Severity.WARNING)
def stop_unlikely(learned: Learned) -> dict[str, float | str | Severity] | None:
    """The model is unlikely to end its turn.

    Evidence: where a trained answer ends, the token that ends the turn has a probability of
    {after:.0%}; it was {before} before the run.
    Why: GLM has no end-of-turn token of its own: the next role token ends an answer, and a model
    that does not expect it goes on talking for both sides.
    Fix: check with glmdiag labels SHARDS that stop tokens are trained, and train for longer.
    """
    after, before = learned.after.stop, learned.before.stop
    if after is None or not after < STOP_LIKELY:
        return None
    rare = after < STOP_RARE or (before is not None and after < before / 2)
    return {
        "after": after,
        "before": "unknown" if before is None else f"{before:.0%}",
        "severity": Severity.WARNING if rare else Severity.INFO,
    }


@rule("LG104", Severity.WARNING)
def only_memorised(learned: Learned, held_out: HeldOut) -> dict[str, float | int] | None:
    """The model learned its answers by heart: others are predicted worse than before.

    Evidence: the loss of trained answers fell from {before:.3g} to {after:.3g}, and that of
    {answers} held-out ones rose from {held_before:.3g} to {held_after:.3g}, by {rise:.2g} nats a
    token (standard error {error:.2g}).
    Why: a model that repeats its training data and is surprised by anything else answers new
    questions worse than the one that it came from.
    Fix: train for fewer steps (--validation with evaluation.patience ends the run in time), at a
    lower --lr or a smaller rank, or on more data.
    """
    before, after, rise = learned.before.loss, learned.after.loss, held_out.rise
    if rise.rows < FEWEST_HELD_OUT or not after < before * (1 - MUCH):
        return None
    if not rise.value > max(LEAST_GAP * held_out.before, ERRORS * rise.error):
        return None
    return {
        "before": before,
        "after": after,
        "answers": rise.rows,
        "held_before": held_out.before,
        "held_after": held_out.after,
        "rise": rise.value,
        "error": rise.error,
    }


def _listed(ids: Collection[int]) -> str:
    return ", ".join(map(str, sorted(ids)))

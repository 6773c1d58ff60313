"""Rules on DeepSpeed: whether its values fit the trainer's, and ZeRO what is trained."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.configs import deepspeed
from glmdiag.configs.record import TrainerConfig

PAIRS = {
    "batch_size": ("batch_size", "train_micro_batch_size_per_gpu"),
    "accumulation": ("accumulation", "gradient_accumulation_steps"),
    "clip": ("max_grad_norm", "gradient_clipping"),
    "learning_rate": ("learning_rate", "optimizer.params.lr"),
    "weight_decay": ("weight_decay", "optimizer.params.weight_decay"),
}
"""DeepSpeed's settings that a trainer has too, and the keys of both."""
SMALL = ("lora", "qlora", "ptuning")


@rule("CF211", Severity.ERROR)
def quantised_base_in_stage_3(config: TrainerConfig) -> Iterator[Finding]:
    """ZeRO-3 with a quantised base.

    Evidence: the base is loaded in {bits} bits, and {file} asks for stage 3.
    Why: stage 3 cuts up and gathers weights by their format; packed weights of 8 bits it cannot
    handle, those of 4 bits only where their storage format equals the compute format.
    Fix: use stage 2 (the base is small in {bits} bits already), or a base that is not quantised.
    """
    plan, bits = config.deepspeed, config.quantisation
    if plan is not None and plan.stage == 3 and bits is not None:
        yield quantised_base_in_stage_3.finding(
            config.where("quantisation"),
            severity=Severity.WARNING if bits == 4 else Severity.ERROR,
            bits=bits,
            file=plan.name,
        )


@rule("CF212", Severity.WARNING)
def prefix_in_stage_3(config: TrainerConfig) -> Iterator[Finding]:
    """ZeRO-3 with P-tuning.

    Evidence: {file} asks for stage 3, and the method is P-tuning, which trains a prefix alone.
    Why: the prefix is a few megabytes; stage 3 gathers all frozen weights at every layer and step
    for nothing, and the reparametrised prefix is what it handles worst.
    Fix: use stage 2, or no DeepSpeed at all.
    """
    plan = config.deepspeed
    if plan is not None and plan.stage == 3 and config.method == "ptuning":
        yield prefix_in_stage_3.finding(config.where("method"), file=plan.name)


@rule("CF213", Severity.WARNING)
def offload_for_little(config: TrainerConfig) -> Iterator[Finding]:
    """The optimiser of a small adapter is offloaded.

    Evidence: {file} moves the optimiser's state to the CPU, and the method is {method}.
    Why: an adapter's optimiser state is tens of megabytes; moving it saves nothing and puts a trip
    over PCIe and a step on the CPU into every step.
    Fix: leave offload_optimizer out; to save memory, offload parameters or quantise the base.
    """
    plan = config.deepspeed
    if plan is not None and plan.offload_optimizer and config.method in SMALL:
        yield offload_for_little.finding(plan.name, file=plan.name, method=str(config.method))


@rule("CF214", Severity.WARNING)
def nothing_gathered(config: TrainerConfig) -> Iterator[Finding]:
    """ZeRO-3 saves no whole weights.

    Evidence: {file} asks for stage 3 without stage3_gather_16bit_weights_on_model_save.
    Why: each process holds a piece of the weights; what is saved cannot be loaded until
    zero_to_fp32.py has put it together, and some trainers save empty tensors.
    Fix: say "stage3_gather_16bit_weights_on_model_save": true.
    """
    plan = config.deepspeed
    if plan is not None and plan.stage == 3 and not plan.gathers_on_save:
        yield nothing_gathered.finding(plan.name, file=plan.name)


@rule("CF215", Severity.ERROR)
def values_differ(config: TrainerConfig) -> Iterator[Finding]:
    """DeepSpeed and the trainer say different values.

    Evidence: {file} says {key} = {theirs}, while the trainer's {name} is {ours}.
    Why: transformers stops with an error over values that differ; other trainers count steps and
    rates by one value while DeepSpeed goes by the other.
    Fix: write "auto" for {key} in the DeepSpeed file.
    """
    plan = config.deepspeed
    if plan is None or config.trainer == "deepspeed":
        return
    for theirs_name, (ours_name, key) in PAIRS.items():
        theirs, ours = getattr(plan, theirs_name), config.effective(ours_name)
        if theirs in (None, "auto") or ours is None or theirs == ours:
            continue
        yield values_differ.finding(
            config.where(ours_name),
            file=plan.name,
            key=key,
            theirs=f"{theirs:g}",
            name=config.key(ours_name),
            ours=f"{ours:g}",
        )


@rule("CF216", Severity.INFO)
def clip_unsaid(config: TrainerConfig) -> Iterator[Finding]:
    """DeepSpeed clips by its own default.

    Evidence: {file} does not say gradient_clipping, so DeepSpeed clips at {default}, and the
    trainer's max_grad_norm of {ours} has no effect.
    Why: under DeepSpeed gradients are clipped by DeepSpeed alone, and its default has changed from
    one version to the next.
    Fix: say "gradient_clipping": "auto" in the DeepSpeed file.
    """
    plan = config.deepspeed
    if plan is None or plan.clip is not None:
        return
    ours = config.effective("max_grad_norm")
    differs = ours is not None and ours != deepspeed.CLIP
    yield clip_unsaid.finding(
        plan.name,
        severity=Severity.WARNING if differs else Severity.INFO,
        file=plan.name,
        default=deepspeed.CLIP,
        ours="?" if ours is None else f"{ours:g}",
    )


@rule("CF217", Severity.INFO)
def autos_unresolved(config: TrainerConfig) -> Iterator[Finding]:
    """DeepSpeed's file leaves values to a trainer that was not given.

    Evidence: {count} {count:|value|values} in {file} {count:|is|are} "auto": {keys}.
    Why: DeepSpeed alone does not know "auto"; the trainer puts its own values in, so what holds
    can only be told with both.
    Fix: give the trainer's configuration too: glmdiag config TRAINER.yaml {file}.
    """
    plan = config.deepspeed
    if config.trainer != "deepspeed" or plan is None:
        return
    keys = deepspeed.autos(plan.tree)
    if keys:
        shown = ", ".join(keys[:4])
        yield autos_unresolved.finding(plan.name, count=len(keys), file=plan.name, keys=shown)


@rule("CF218", Severity.INFO)
def deepspeed_not_found(config: TrainerConfig) -> Iterator[Finding]:
    """The DeepSpeed file was not found.

    Evidence: {place} names {file}, which is not there.
    Why: number format, clipping and memory follow from that file, so they could not be looked at.
    Fix: give it beside the configuration: glmdiag config CONFIG DEEPSPEED.json.
    """
    for odd in config.oddities:
        if odd.kind == "missing":
            yield deepspeed_not_found.finding(str(odd.said), place=str(odd.said), file=odd.near)


@rule("CF219", Severity.ERROR)
def generates_in_stage_3(config: TrainerConfig) -> Iterator[Finding]:
    """Generation while evaluating, under ZeRO-3.

    Evidence: {said} is on, evaluation is on, and {file} asks for stage 3.
    Why: stage 3 gathers every layer's weights for each generated token, and processes whose answers
    differ in length wait for each other for ever; LLaMA-Factory refuses it.
    Fix: turn {said} off and judge the answers after the run, or use stage 2.
    """
    plan = config.deepspeed
    evaluates = config.effective("eval_strategy") not in (None, "no")
    if plan is not None and plan.stage == 3 and config.generates and evaluates:
        refuses = config.trainer == "llamafactory"
        yield generates_in_stage_3.finding(
            config.where("generates"),
            severity=Severity.ERROR if refuses else Severity.WARNING,
            said=config.key("generates"),
            file=plan.name,
        )


def judge(config: TrainerConfig) -> list[Finding]:
    """All findings on DeepSpeed."""
    rules = (
        quantised_base_in_stage_3,
        prefix_in_stage_3,
        offload_for_little,
        nothing_gathered,
        values_differ,
        clip_unsaid,
        autos_unresolved,
        deepspeed_not_found,
        generates_in_stage_3,
    )
    return [finding for each in rules for finding in each(config)]

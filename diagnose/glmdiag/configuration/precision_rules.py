"""Rules on number formats: what a configuration asks for, and what the hardware has."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.configs.record import TrainerConfig
from glmdiag.machine.hardware import SHORT, Machine

FIRST_WITH_BF16 = 8
"""The first major CUDA capability with bf16 units."""


def halves(config: TrainerConfig) -> tuple[object, object]:
    """bf16 and fp16 as the run has them, with what DeepSpeed says above the trainer's defaults."""
    return config.effective("bf16"), config.effective("fp16")


def has_bf16(machine: Machine | None) -> bool | None:
    """Whether the machine's accelerator has bf16 units; None without one, or where it is unsaid."""
    if machine is None or not machine.devices:
        return None
    found = machine.recommendation
    if found is None or found.device != "cpu":
        if found is not None and found.bf16.state == "wrong":
            return False
        return machine.bf16_native
    # The card is there, and torch does not use it: what it is says enough.
    capability = machine.devices[0].capability or ""
    major = capability.partition(".")[0]
    return int(major) >= FIRST_WITH_BF16 if major.isdecimal() else None


def takes(machine: Machine) -> str:
    """The format to train in on a machine without usable bf16: fp16 or fp32."""
    found = machine.recommendation
    dtype = machine.dtype
    if dtype is None or dtype == "bfloat16" or (found is not None and found.device == "cpu"):
        return "fp16"
    return SHORT[dtype]


@rule("CF201", Severity.ERROR)
def both_halves(config: TrainerConfig) -> Iterator[Finding]:
    """Both bf16 and fp16 are on.

    Evidence: {bf16} and {fp16} are both on.
    Why: transformers and DeepSpeed stop with an error at once; other trainers take one of them
    without a word.
    Fix: keep bf16 where the hardware has it, else fp16, and turn the other off.
    """
    if config.bf16 is True and config.fp16 is True:
        yield both_halves.finding(
            config.where("bf16"), bf16=config.key("bf16"), fp16=config.key("fp16")
        )
    plan = config.deepspeed
    if plan is not None and plan.bf16 is True and plan.fp16 is True:
        yield both_halves.finding(plan.name, bf16="bf16.enabled", fp16="fp16.enabled")


@rule("CF202", Severity.ERROR)
def bf16_without_units(config: TrainerConfig, machine: Machine | None) -> Iterator[Finding]:
    """Bf16 is asked for on a device without it.

    Evidence: {said} asks for bf16, and {device} has no bf16 units.
    Why: some trainers stop with an error, others compute bf16 by emulation, many times slower; the
    official script loads its weights in bf16 whatever its YAML says.
    Fix: turn bf16 off and train in {takes}; with the official script, change the dtype of
    from_pretrained in finetune.py too.
    """
    if machine is None or has_bf16(machine) is not False:
        return
    named = [name for name in ("bf16", "pure") if getattr(config, name) is True]
    if config.effective("weights") == "bf16":
        named.append("weights")
    plan = config.deepspeed
    if not named and not (plan is not None and plan.bf16 is True):
        return
    spoken = config.trainer == "official" and named == ["weights"]
    said = "finetune.py" if spoken else config.key(named[0]) if named else "bf16.enabled"
    yield bf16_without_units.finding(
        config.where(*named), said=said, device=machine.devices[0].name, takes=takes(machine)
    )


@rule("CF203", Severity.ERROR)
def formats_differ(config: TrainerConfig) -> Iterator[Finding]:
    """DeepSpeed and the trainer want different number formats.

    Evidence: {file} says {key} = {theirs}, while the trainer's {name} is {ours}.
    Why: transformers stops with an error over values that differ; trainers that do not compare
    train in DeepSpeed's format, with the other one's loss scaling.
    Fix: write "auto" for {key} in the DeepSpeed file, and choose the format in the trainer's.
    """
    plan = config.deepspeed
    if plan is None or config.trainer == "deepspeed":
        return
    for name in ("bf16", "fp16"):
        theirs, ours = getattr(plan, name), config.effective(name)
        if isinstance(theirs, bool) and isinstance(ours, bool) and theirs != ours:
            yield formats_differ.finding(
                config.where(name),
                file=plan.name,
                key=f"{name}.enabled",
                theirs=str(theirs).lower(),
                name=config.key(name),
                ours=str(ours).lower(),
                setting=name,
            )


@rule("CF204", Severity.WARNING)
def weights_half_engine_full(config: TrainerConfig) -> Iterator[Finding]:
    """The weights are loaded in bf16, but DeepSpeed is not told of it.

    Evidence: the weights are loaded in {weights}, while neither bf16 nor fp16 is on, so {file}
    resolves "auto" to no half precision.
    Why: the engine then takes fp32 for granted: some versions of DeepSpeed stop at the first
    weight in half precision, others train with gradients and buffers of another size than planned.
    Fix: say bf16: true (or fp16: true) in the trainer's configuration.
    """
    plan, weights = config.deepspeed, config.effective("weights")
    if plan is None or plan.stage == 0 or weights not in ("bf16", "fp16"):
        return
    off = not any(halves(config)) and plan.bf16 is not True and plan.fp16 is not True
    if off:
        yield weights_half_engine_full.finding(
            config.where("bf16", "weights"), weights=str(weights), file=plan.name
        )


@rule("CF205", Severity.WARNING)
def no_master_weights(config: TrainerConfig) -> Iterator[Finding]:
    """The weights that learn are kept in half precision alone.

    Evidence: {said} keeps the weights that learn in half precision, and {optimizer} updates them
    there; {rate} is the learning rate.
    Why: neighbours in bf16 are 0.4 % apart, and an update of AdamW moves a weight by about the
    learning rate; most updates of larger weights are rounded away, and the loss stands still early.
    Fix: keep fp32 master weights: mixed precision (bf16: true without the pure form), or DeepSpeed
    ZeRO, which keeps them itself.
    """
    if config.deepspeed is not None and config.deepspeed.stage > 0:
        return
    official = config.trainer == "official" and config.method == "full" and config.bf16 is not True
    if not (config.effective("pure") is True or official):
        return
    if "adam" not in str(config.effective("optimizer") or "adamw").lower():
        return
    rate = config.effective("learning_rate")
    yield no_master_weights.finding(
        config.where("pure", "method"),
        said=config.key("pure") if config.pure else "finetune.py",
        optimizer=str(config.effective("optimizer")),
        rate="derived" if rate is None else f"{rate:g}",
    )


@rule("CF207", Severity.INFO)
def no_half_precision(config: TrainerConfig) -> Iterator[Finding]:
    """Neither bf16 nor fp16 is on.

    Evidence: bf16 and fp16 are both off, so autocast is off and the optimiser works in the format
    that the weights are loaded in.
    Why: with weights in fp32, memory doubles and speed falls to a fraction; with weights in half
    precision, small updates are lost.
    Fix: say bf16: true where the hardware has it, else fp16: true.
    """
    plan = config.deepspeed
    on_by_plan = plan is not None and (plan.bf16 is True or plan.fp16 is True)
    if config.trainer not in ("llamafactory", "axolotl", "transformers") or on_by_plan:
        return
    if not any(halves(config)) and config.effective("pure") is not True:
        yield no_half_precision.finding(config.where("bf16", "fp16"))


@rule("CF208", Severity.WARNING)
def fp16_where_bf16(config: TrainerConfig, machine: Machine | None) -> Iterator[Finding]:
    """Fp16 is used where bf16 could be.

    Evidence: {fp16} is on, and {device} has bf16 units.
    Why: GLM was trained in bf16; its activations can exceed what fp16 holds (65,504), which ends in
    loss scales that fall, skipped steps, or NaN.
    Fix: turn fp16 off and bf16 on.
    """
    if config.fp16 is True and config.bf16 is not True and has_bf16(machine):
        assert machine is not None
        yield fp16_where_bf16.finding(
            config.where("fp16"), fp16=config.key("fp16"), device=machine.devices[0].name
        )


@rule("CF209", Severity.WARNING)
def fixed_loss_scale(config: TrainerConfig) -> Iterator[Finding]:
    """The loss scale of fp16 is fixed.

    Evidence: {file} says fp16.loss_scale = {scale}, so it does not adapt.
    Why: a fixed scale overflows as soon as gradients grow, and lets them vanish when they shrink;
    steps are skipped or learn nothing.
    Fix: say "loss_scale": 0, which lets DeepSpeed adapt it.
    """
    plan = config.deepspeed
    if plan is not None and plan.loss_scale and (plan.fp16 is not False):
        on = plan.fp16 is True or config.effective("fp16") is True
        if on:
            yield fixed_loss_scale.finding(plan.name, file=plan.name, scale=plan.loss_scale)


def judge(config: TrainerConfig, machine: Machine | None) -> list[Finding]:
    """All findings on number formats."""
    alone = (
        both_halves,
        formats_differ,
        weights_half_engine_full,
        no_master_weights,
        no_half_precision,
        fixed_loss_scale,
    )
    with_machine = (bf16_without_units, fp16_where_bf16)
    found = [finding for each in alone for finding in each(config)]
    return found + [finding for each in with_machine for finding in each(config, machine)]

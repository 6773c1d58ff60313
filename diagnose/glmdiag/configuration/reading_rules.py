"""Rules on a configuration as it is written: keys, values, and settings that exclude each other."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.configs import FORMATS
from glmdiag.configs.reader import Format
from glmdiag.configs.record import Oddity, TrainerConfig


@rule("CF246", Severity.WARNING)
def unknown_key(config: TrainerConfig) -> Iterator[Finding]:
    """A key that the trainer does not know.

    Evidence: {place} is no setting of {version}; the nearest is {near}.
    Why: {trainer} either stops with an error over it, or passes over it, and the run has a value
    other than the one that was asked for.
    Fix: correct the name, or take the key out.
    """
    for odd in config.oddities:
        if odd.kind != "unknown":
            continue
        other = odd.said.file != config.sources[0] and config.trainer != "deepspeed"
        form = FORMATS["deepspeed" if other else config.trainer]
        yield unknown_key.finding(
            str(odd.said),
            severity=_unknown(form, odd),
            place=str(odd.said),
            version=form.version,
            trainer=form.name,
            near=odd.near or "-",
        )


@rule("CF247", Severity.ERROR)
def number_as_text(config: TrainerConfig) -> Iterator[Finding]:
    """A number stands between quotes.

    Evidence: {place} = "{value}" is text for {trainer}, not a number.
    Why: the run ends in a comparison of text with a number, often only when the optimiser is made.
    Fix: write it without quotes.
    """
    for odd in config.oddities:
        if odd.kind == "text":
            yield number_as_text.finding(
                str(odd.said),
                place=str(odd.said),
                value=str(odd.said.value),
                trainer=config.trainer,
                key=odd.said.key,
            )


@rule("CF248", Severity.ERROR)
def value_of_other_kind(config: TrainerConfig) -> Iterator[Finding]:
    """A value is not of the kind that its key has.

    Evidence: {place} = {value}; it takes {kind}.
    Why: the trainer stops over it, or takes it for something else (any text that is not empty is
    true).
    Fix: write one of: {kind}.
    """
    for odd in config.oddities:
        if odd.kind == "value":
            yield value_of_other_kind.finding(
                str(odd.said), place=str(odd.said), value=str(odd.said.value)[:80], kind=odd.near
            )


@rule("CF249", Severity.WARNING)
def said_twice(config: TrainerConfig) -> Iterator[Finding]:
    """A key is said twice.

    Evidence: {place} stands there more than once.
    Why: some readers stop over it, most take the last one without a word.
    Fix: keep one of them.
    """
    for odd in config.oddities:
        if odd.kind == "duplicate":
            yield said_twice.finding(str(odd.said), place=str(odd.said))


@rule("CF250", Severity.WARNING)
def settings_exclude(config: TrainerConfig) -> Iterator[Finding]:
    """Two settings exclude each other.

    Evidence: {first} and {second} are both set; {second} has no effect.
    Why: a run that ignores what was asked for looks as if it had been tried.
    Fix: take {second} out.
    """
    pairs = []
    if config.warmup_steps and config.warmup_ratio:
        pairs.append(("warmup_steps", "warmup_ratio", Severity.WARNING))
    own = config.trainer == "glmtrain"
    if config.max_steps and "max_steps" in config.said and "epochs" in config.said and not own:
        pairs.append(("max_steps", "epochs", Severity.INFO))
    if config.packing and config.group_by_length:
        pairs.append(("packing", "group_by_length", Severity.INFO))
    for first, second, severity in pairs:
        yield settings_exclude.finding(
            config.where(second),
            severity=severity,
            first=config.key(first),
            second=config.key(second),
        )


@rule("CF251", Severity.ERROR)
def prefix_checkpointed(config: TrainerConfig) -> Iterator[Finding]:
    """P-tuning with gradient checkpointing.

    Evidence: {said} is on, and the method is P-tuning.
    Why: PEFT refuses this pair: checkpointing runs each layer again without the cached keys and
    values in which the prefix is; where it is forced the prefix learns nothing.
    Fix: turn {said} off, or train with glmtrain, whose prefix works with it.
    """
    if config.trainer == "glmtrain" or config.method != "ptuning":
        return
    if config.checkpointing is True:
        yield prefix_checkpointed.finding(
            config.where("checkpointing"), said=config.key("checkpointing")
        )


@rule("CF252", Severity.ERROR)
def best_not_found(config: TrainerConfig) -> Iterator[Finding]:
    """The best state cannot be found again.

    Evidence: {said} is on, with evaluation by {evaluates} and saving by {saves}.
    Why: transformers stops unless both go by the same measure, and states are saved at steps that
    are evaluated.
    Fix: set both to the same strategy, and save_steps to a multiple of eval_steps.
    """
    if config.load_best is not True:
        return
    evaluates, saves = config.effective("eval_strategy"), config.effective("save_strategy")
    each, every = config.effective("eval_steps"), config.effective("save_steps")
    unmatched = evaluates == "steps" and bool(each) and bool(every) and bool(every % each)
    if evaluates != saves or unmatched:
        yield best_not_found.finding(
            config.where("load_best"),
            said=config.key("load_best"),
            evaluates=f"{evaluates} {each:g}" if unmatched else str(evaluates),
            saves=f"{saves} {every:g}" if unmatched else str(saves),
        )


@rule("CF253", Severity.ERROR)
def quantised_in_full(config: TrainerConfig) -> Iterator[Finding]:
    """The method and the quantisation do not fit.

    Evidence: the method is {method}, and the base is loaded in {bits} bits.
    Why: weights of 4 or 8 bits cannot be trained themselves, so full training stops with an
    error; qlora without 4 bits is LoRA on a base that was to be four times smaller.
    Fix: for full training leave the quantisation out, or take LoRA; for qlora say
    load_in_4bit: true.
    """
    bits = config.quantisation
    in_full = config.method == "full" and bits is not None
    unquantised = config.method == "qlora" and bits is None and config.trainer == "axolotl"
    if in_full or unquantised:
        yield quantised_in_full.finding(
            config.where("quantisation", "method"), method=str(config.method), bits=bits or 16
        )


@rule("CF254", Severity.WARNING)
def unused_sought(config: TrainerConfig) -> Iterator[Finding]:
    """DDP looks for unused parameters while layers are checkpointed.

    Evidence: {said} is on together with gradient checkpointing.
    Why: a layer that runs twice is marked ready twice, which stops the run with "marked a variable
    ready only once"; without checkpointing the search costs time at every step.
    Fix: say {said}: false.
    """
    if config.find_unused is True and config.effective("checkpointing") is True:
        yield unused_sought.finding(config.where("find_unused"), said=config.key("find_unused"))


@rule("CF255", Severity.WARNING)
def adapter_of_another(config: TrainerConfig) -> Iterator[Finding]:
    """Training goes on from an adapter of another model.

    Evidence: the run trains on {model}; the adapter at {said} names {base} as its base.
    Why: an adapter is a correction of one model's weights. On another of the same shape it loads
    without a word and is noise; the loss begins higher than without it.
    Fix: train on {base}, or begin without the adapter; where both names mean the same model,
    nothing is wrong.
    """
    model, base = config.model, config.adapter_base
    if model is None or base is None or _bare(model) == _bare(base):
        return
    yield adapter_of_another.finding(
        config.where("adapter"), said=config.key("adapter"), model=model, base=base
    )


def judge(config: TrainerConfig) -> list[Finding]:
    """All findings on how a configuration is written."""
    rules = (
        unknown_key,
        number_as_text,
        value_of_other_kind,
        said_twice,
        settings_exclude,
        prefix_checkpointed,
        best_not_found,
        quantised_in_full,
        unused_sought,
        adapter_of_another,
    )
    return [finding for each in rules for finding in each(config)]


def _unknown(form: Format, odd: Oddity) -> Severity:
    """How bad an unknown key is: scripts around the Trainer may well take keys of their own."""
    if odd.near:
        return Severity.ERROR if form.refuses_unknown else Severity.WARNING
    return Severity.INFO if form.name == "transformers" else Severity.WARNING


def _bare(name: str) -> str:
    """A model's name without its owner, folders, and what a cache puts around it."""
    cached = [part for part in name.split("/") if part.startswith("models--")]
    found = cached[-1].rpartition("--")[2] if cached else name.rstrip("/").rpartition("/")[2]
    return found.lower()

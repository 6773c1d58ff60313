"""Rules on an adapter: what it changes, and whether it fits its configuration and its base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from glmprep.findings import Example, Finding, Severity, rule

if TYPE_CHECKING:
    from glmdiag.checkpoints.reading import Checkpoint
    from glmdiag.checkpoints.tensors import Measured

WHERE = "checkpoint"
SHOWN = 5


@rule("CK004", Severity.ERROR)
def adapter_untouched(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The adapter changes nothing.

    Evidence: the factor B is zero in all {count} modules, so that what is added to each weight is
    zero.
    Why: B begins at zero. It stays so where no step was made, every step was left out, or no
    gradient came to the adapter; the model answers as its base does.
    Fix: glmdiag log RUN says whether steps were made and with which gradient norm; glmdiag labels
    whether there was anything to learn.
    """
    zero, count = _zero_modules(checkpoint)
    if count and len(zero) == count:
        yield adapter_untouched.finding(WHERE, examples=_named(zero), count=count, share=1.0)


@rule("CK005", Severity.WARNING)
def adapter_partly_untouched(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Part of the adapter changes nothing.

    Evidence: the factor B is zero in {count} of {modules} modules, as in {first}.
    Why: no gradient came there: layers that the forward pass leaves out, or that were frozen.
    Fix: look whether these layers are used and trainable (glmdiag preflight), or leave them out of
    the target modules.
    """
    zero, count = _zero_modules(checkpoint)
    if zero and len(zero) < count:
        yield adapter_partly_untouched.finding(
            WHERE,
            examples=_named(zero),
            count=len(zero),
            modules=count,
            share=len(zero) / count,
            first=zero[0],
        )


@rule("CK008", Severity.ERROR)
def wrong_rank(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The adapter's weights have another rank than its configuration.

    Evidence: the configuration says rank {rank}; {count} factors have another, as {first}.
    Why: weights and configuration are of different runs; loading fails, or the scale is wrong.
    Fix: put adapter_config.json and the weights of the same run side by side.
    """
    if checkpoint.adapter is None:
        return
    wrong = list(checkpoint.adapter.wrong_ranks())
    if wrong:
        yield wrong_rank.finding(
            WHERE,
            examples=shown(wrong),
            rank=checkpoint.adapter.rank or 0,
            count=len(wrong),
            first=wrong[0].name,
        )


@rule("CK009", Severity.ERROR)
def targets_unhit(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The adapter lacks parts that its configuration names.

    Evidence: {count} targets or halves of pairs have no weights, as {first}.
    Why: what is missing stays as it was made, which peft only warns of.
    Fix: save the adapter again, whole; take target modules by the names that this model has.
    """
    adapter = checkpoint.adapter
    if adapter is None or adapter.kind != "LORA" or checkpoint.damaged or checkpoint.unread:
        return
    halves = [each.module for each in adapter.pairs.values() if each.a is None or each.b is None]
    missing = [*adapter.unhit_targets(), *halves]
    if missing:
        yield targets_unhit.finding(
            WHERE, examples=_named(missing), count=len(missing), first=missing[0]
        )


@rule("CK010", Severity.ERROR)
def names_unlike_base(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The adapter's names are not those of the base.

    Evidence: {count} of {modules} modules of the adapter are not in the base, as {first}.
    Why: weights that find no place are left out without an error, so the model answers as its base
    does.
    Fix: name the right base with --base; where names have a prefix too many or too few (module.,
    base_model.model.), save the adapter again from the unwrapped model.
    """
    adapter, base = checkpoint.adapter, checkpoint.base
    if adapter is None:
        return
    unknown = adapter.unknown_modules(base) if base is not None and base.shapes else []
    if not adapter.prefixed:
        unknown = unknown or list(adapter.pairs)
    unknown += [] if adapter.kind != "LORA" else list(adapter.strays)
    if unknown:
        yield names_unlike_base.finding(
            WHERE,
            examples=_named(unknown),
            count=len(unknown),
            modules=len(adapter.pairs) + len(adapter.strays),
            first=unknown[0],
        )


@rule("CK011", Severity.ERROR)
def sizes_unlike_base(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The adapter was made for a model of another size.

    Evidence: in {count} of {modules} modules the adapter has other sizes than the base, as in
    {first}.
    Why: it adapts another model, as that of 32B instead of that of 9B.
    Fix: load it on the base that it was trained on: {told}.
    """
    adapter, base = checkpoint.adapter, checkpoint.base
    if adapter is None or base is None:
        return
    misfits = adapter.misfits(base)
    if misfits:
        yield sizes_unlike_base.finding(
            WHERE,
            examples=_named(misfits),
            count=len(misfits),
            modules=len(adapter.pairs),
            first=misfits[0],
            told=_told_base(checkpoint),
        )


@rule("CK012", Severity.WARNING)
def layers_left_out(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Layers of the base have no adapter.

    Evidence: of the {layers} layers of the base {count} have none, as layer {first}.
    Why: the adapter is of a model with fewer layers, or was saved from a part of the pipeline.
    Fix: name the right base with --base, or save the adapter of all layers.
    """
    adapter, base = checkpoint.adapter, checkpoint.base
    if adapter is None or base is None or adapter.kind != "LORA" or not adapter.pairs:
        return
    asked = (checkpoint.adapter_config or {}).get("layers_to_transform")
    missing = adapter.missing_layers(base)
    if missing and not asked:
        yield layers_left_out.finding(
            WHERE, layers=base.layers or 0, count=len(missing), first=missing[0]
        )


@rule("CK013", Severity.ERROR)
def other_base(checkpoint: Checkpoint) -> Iterator[Finding]:
    """This is not the base that the run adapted.

    Evidence: the run records the base {recorded}…, the model at hand has {found}….
    Why: an adapter holds the difference to one model; on another, even of the same shape, it is
    noise.
    Fix: load it on the base that it was trained on: {told}.
    """
    recorded = (checkpoint.record or {}).get("base")
    wanted = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    if not isinstance(wanted, str) or checkpoint.base is None:
        return
    found = checkpoint.base.fingerprint
    if found is not None and found != wanted:
        yield other_base.finding(
            WHERE, recorded=wanted[:12], found=found[:12], told=_told_base(checkpoint)
        )


ADAPTER_RULES = (
    adapter_untouched,
    adapter_partly_untouched,
    wrong_rank,
    targets_unhit,
    names_unlike_base,
    sizes_unlike_base,
    layers_left_out,
    other_base,
)


def shown(tensors: Iterable[Measured]) -> tuple[Example, ...]:
    """Some tensors by file, name and shape."""
    return tuple(
        Example(where=each.file, excerpt=f"{each.name} {list(each.shape)}")
        for each in list(tensors)[:SHOWN]
    )


def _zero_modules(checkpoint: Checkpoint) -> tuple[list[str], int]:
    """Modules whose factor B is zero, and how many have one."""
    if checkpoint.adapter is None:
        return [], 0
    pairs = [pair for pair in checkpoint.adapter.pairs.values() if pair.b is not None]
    return [pair.module for pair in pairs if pair.b is not None and pair.b.zero], len(pairs)


def _told_base(checkpoint: Checkpoint) -> str:
    recorded = (checkpoint.record or {}).get("base")
    path = recorded.get("path") if isinstance(recorded, dict) else None
    told = path or (checkpoint.adapter and checkpoint.adapter.base_path)
    return str(told) if told else "its run.json or adapter_config.json names it"


def _named(names: Sequence[str]) -> tuple[Example, ...]:
    return tuple(Example(where=name) for name in names[:SHOWN])

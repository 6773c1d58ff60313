"""Rules on what a run left: each takes a `Checkpoint` and yields its findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from glmprep.findings import Example, Finding, Severity, rule

from glmdiag.checkpoints.adapter_rules import ADAPTER_RULES, shown
from glmdiag.checkpoints.series_rules import SERIES_RULES

if TYPE_CHECKING:
    from glmtrain.parity import Parity

    from glmdiag.checkpoints.compared import Reloaded
    from glmdiag.checkpoints.reading import Checkpoint

WHERE = "checkpoint"
SHOWN = 5
TOO_FAR = 1.0
"""An adapter that adds more than the weights themselves, by norm, drowns the base."""


@rule("CK001", Severity.ERROR)
def not_finite(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Weights are NaN or infinite.

    Evidence: {values} values in {count} of {tensors} tensors are no numbers, as in {first}.
    Why: one such value spreads through every layer behind it: the model writes nonsense or nothing.
    Fix: take an earlier checkpoint, and find the step with glmdiag log RUN and glmdiag replay RUN.
    """
    bad = [tensor for tensor in checkpoint.weights.tensors.values() if tensor.bad]
    if bad:
        yield not_finite.finding(
            WHERE,
            examples=shown(bad),
            values=sum(tensor.bad for tensor in bad),
            count=len(bad),
            tensors=len(checkpoint.weights.tensors),
            first=bad[0].name,
        )


@rule("CK002", Severity.ERROR)
def damaged(checkpoint: Checkpoint) -> Iterator[Finding]:
    """A file is damaged.

    Evidence: {file} cannot be read: {reason}.
    Why: a file that was cut off in writing or copying has no weights to load; some loaders go on
    with random ones.
    Fix: copy it again and compare sizes, or take an earlier checkpoint.
    """
    for file, reason in (checkpoint.damaged or {}).items():
        yield damaged.finding(WHERE, file=file, reason=reason)


@rule("CK003", Severity.ERROR)
def parts_missing(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Parts of the model are missing.

    Evidence: the index names {listed} tensors; {count} of them are not there, as {first}, which
    should be in {file}.
    Why: loading fails, or goes on with random weights in their place.
    Fix: copy all files that the index names, or save the model again.
    """
    listed = checkpoint.listed or {}
    lacking = sorted(listed.keys() - checkpoint.weights.tensors.keys())
    if lacking:
        yield parts_missing.finding(
            WHERE,
            examples=tuple(Example(where=listed[name], excerpt=name) for name in lacking[:SHOWN]),
            listed=len(listed),
            count=len(lacking),
            first=lacking[0],
            file=listed[lacking[0]],
        )


@rule("CK006", Severity.WARNING)
def weights_zero(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Whole weights of the model are zero.

    Evidence: all values are zero in {count} of {tensors} tensors, as in {first}.
    Why: biases may be zero; a matrix that is was never loaded, or was lost in saving, as ZeRO-3
    does where weights are not gathered.
    Fix: save the model again with its weights gathered (stage3_gather_16bit_weights_on_model_save),
    or convert DeepSpeed's checkpoint with zero_to_fp32.py.
    """
    if checkpoint.adapter is not None:
        return
    tensors = checkpoint.weights.tensors.values()
    zero = [each for each in tensors if each.zero and len(each.shape) > 1]
    if zero:
        yield weights_zero.finding(
            WHERE,
            examples=shown(zero),
            count=len(zero),
            tensors=len(tensors),
            first=zero[0].name,
        )


@rule("CK028", Severity.ERROR)
def weights_empty(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Saved weights are empty.

    Evidence: {count} of {tensors} tensors have no values, as {first}.
    Why: under ZeRO-3 each process holds slices, and an empty tensor stands where a weight was; what
    was saved without gathering cannot be loaded.
    Fix: set stage3_gather_16bit_weights_on_model_save, or take ZeRO-2 for an adapter; weights of a
    checkpoint that DeepSpeed itself wrote come back with zero_to_fp32.py.
    """
    tensors = checkpoint.weights.tensors.values()
    empty = [each for each in tensors if not each.count]
    if empty:
        yield weights_empty.finding(
            WHERE,
            examples=shown(empty),
            count=len(empty),
            tensors=len(tensors),
            share=len(empty) / len(tensors),
            first=empty[0].name,
        )


@rule("CK007", Severity.WARNING)
def beyond_measure(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Training moved the weights beyond measure.

    Evidence: in layer {layer} training adds {relative:.3g} times the norm of the weights.
    Why: fine-tuning adds some hundredths at most; more than the weights themselves drowns what the
    model knew.
    Fix: train again with a tenth of the learning rate, or a smaller alpha.
    """
    far = [(layer, x) for layer, x in checkpoint.changed if x > TOO_FAR]
    if far:
        layer, relative = max(far, key=lambda each: each[1])
        name = "outside" if layer is None else str(layer)
        yield beyond_measure.finding(WHERE, layer=name, relative=relative, count=len(far))


@rule("CK014", Severity.ERROR)
def vocabulary_too_small(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The model has fewer embeddings than the tokenizer has tokens.

    Evidence: the tokenizer goes up to id {largest}, the embeddings have {rows} rows.
    Why: the first added token ends in an index error; embeddings that were not saved with the
    adapter are random after loading.
    Fix: enlarge the embeddings before training (resize_token_embeddings) and save them, or train
    with glmtrain, which keeps the rows of added tokens in the adapter.
    """
    rows = _embeddings(checkpoint)
    size = checkpoint.tokenizer_size
    if rows is not None and size is not None and size > rows:
        yield vocabulary_too_small.finding(WHERE, largest=size - 1, rows=rows)


@rule("CK021", Severity.ERROR)
def stops_not_served(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The model does not end generation where training ended answers.

    Evidence: answers were trained to end in {stops}; generation_config.json ends at {ends}.
    Why: the model writes the token it was taught, nobody stops, and it speaks on for the user.
    Fix: set eos_token_id in generation_config.json to {wanted}.
    """
    if checkpoint.stops is None or checkpoint.ends is None:
        return
    between = _assistant(checkpoint)
    missing = [one for one in checkpoint.stops if one not in checkpoint.ends and one != between]
    if missing:
        yield stops_not_served.finding(
            WHERE,
            stops=", ".join(map(str, checkpoint.stops)),
            ends=", ".join(map(str, checkpoint.ends)),
            wanted=", ".join(map(str, sorted({*checkpoint.ends, *missing}))),
        )


@rule("CK022", Severity.INFO)
def not_read(checkpoint: Checkpoint) -> Iterator[Finding]:
    """A file was not read.

    Evidence: {file}: {reason}.
    Why: what a pickle holds may be code, which is not run here; nothing is known of this file.
    Fix: save in safetensors (save_safetensors, or save_pretrained), and look again.
    """
    for file, reason in (checkpoint.unread or {}).items():
        yield not_read.finding(WHERE, file=file, reason=reason)


@rule("CK023", Severity.ERROR)
def merged_differs(parity: Parity) -> Iterator[Finding]:
    """The merged model does not answer as base and adapter do.

    Evidence: over {tokens} tokens the logits differ by {mean:.3g} standard deviations in the mean,
    where rounding allows {tolerance:.3g}; the likeliest token is the same for {agreement:.1%}.
    Why: it was merged into another base, with another scale, or not at all.
    Fix: merge again with glmtrain merge, which proves the same before it writes.
    """
    if not parity.holds:
        yield merged_differs.finding(
            WHERE,
            tokens=parity.tokens,
            mean=parity.mean,
            tolerance=parity.tolerance,
            agreement=parity.agreement,
        )


@rule("CK024", Severity.ERROR)
def prefix_lost(reloaded: Reloaded) -> Iterator[Finding]:
    """The prefix is not what it was once it is loaded, or has no effect.

    Evidence: written again, its values are {values}; it changes logits by {effect:.3g} standard
    deviations.
    Why: a prefix that is reshaped wrongly, or that attention does not see, leaves the base as it
    was.
    Fix: train and load it with the same version, and keep its folder whole.
    """
    effect = reloaded.effect or 0.0
    if not reloaded.same or not effect > 0:
        values = "the same" if reloaded.same else "others"
        yield prefix_lost.finding(WHERE, values=values, effect=effect)


CHECKPOINT_RULES = (
    *ADAPTER_RULES,
    not_finite,
    damaged,
    parts_missing,
    weights_zero,
    weights_empty,
    beyond_measure,
    vocabulary_too_small,
    *SERIES_RULES,
    stops_not_served,
    not_read,
)


def judge(
    checkpoint: Checkpoint, parity: Parity | None = None, reloaded: Reloaded | None = None
) -> list[Finding]:
    """All findings on what a run left, and on what was compared where that was asked for."""
    found = [finding for each in CHECKPOINT_RULES for finding in each(checkpoint)]
    if parity is not None:
        found += merged_differs(parity)
    if reloaded is not None:
        found += prefix_lost(reloaded)
    return found


def _embeddings(checkpoint: Checkpoint) -> int | None:
    """Rows of the embeddings: of the model itself, or of the base of an adapter without any."""
    own = [
        tensor.shape[0]
        for name, tensor in checkpoint.weights.tensors.items()
        if name.endswith(("embed_tokens.weight", "word_embeddings.weight")) and tensor.shape
    ]
    if own or checkpoint.adapter is not None:
        return own[0] if own else None
    said = (checkpoint.config or {}).get("vocab_size")
    return said if isinstance(said, int) else None


def _assistant(checkpoint: Checkpoint) -> int:
    """The id between two parts of one reply, at which generation must not end.

    Templates name user, assistant and observation in this order.
    """
    stops = sorted(checkpoint.stops or [])
    return stops[1] if len(stops) == 3 and stops[2] - stops[0] == 2 else -1

"""Rules on sets of tokens that any trainer may have made: shifts, padding, turns.

Each takes `Labels` and yields its findings, as those of `glmdiag.labels.label_rules` do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from glmprep.findings import Finding, Severity, rule

from glmdiag.labels import Labels
from glmdiag.labels.cut_rules import CUT_RULES
from glmdiag.labels.stop_rules import STOP_RULES
from glmdiag.labels.turns import turns

WHERE = "labels"
MANY_COPIES, LEAST_COPIES = 0.05, 10
FAR, LONG, ENOUGH_ROWS = 4, 512, 20
"""A row is far longer than others beyond so many times their 95th percentile, and so many tokens,
in a set of so many rows."""
TRAINED_LITTLE = 0.1


@rule("DL109", Severity.ERROR)
def labels_shifted(labels: Labels) -> Iterator[Finding]:
    """Labels are shifted by one against the input.

    Evidence: at a distance of {shift} {share:.1%} of the labels equal the input; in place, where
    models expect them, only {in_place:.1%} do.
    Why: causal models of transformers shift labels themselves. Shifted once more, they teach the
    word after the next one, or the one just read; the loss falls and the model writes nonsense.
    Fix: write labels as a copy of input_ids with -100 where nothing is trained, without a shift.
    """
    made = labels.made
    if made.shift:
        yield labels_shifted.finding(
            WHERE,
            shift=made.shift,
            share=made.shares[made.shift],
            in_place=made.shares[0],
            count=labels.total.supervised,
        )


@rule("DL110", Severity.ERROR)
def labels_differ(labels: Labels) -> Iterator[Finding]:
    """Labels name other tokens than the input has.

    Evidence: {count} of {labels} labels ({share:.1%}) are neither -100 nor the token at their
    place.
    Why: such a label teaches the model a word that the text does not have there.
    Fix: make labels of input_ids, after all that changes these (tokenizer, added tokens, cuts).
    """
    other = labels.trained & (labels.said != labels.rows.input_ids)
    # A stop in place of the role token that comes next is what some templates mean.
    other &= ~np.isin(labels.said, labels.closers)
    count = int(other.sum())
    if count:
        total = labels.total.supervised
        yield labels_differ.finding(
            WHERE,
            examples=labels.examples(np.flatnonzero(other)),
            count=count,
            labels=total,
            share=count / total,
        )


@rule("DL113", Severity.ERROR)
def padding_trained(labels: Labels) -> Iterator[Finding]:
    """Padding has labels.

    Evidence: {count} labels stand on padding, {share:.1%} of all.
    Why: a model that learns to write padding sends it without end, and the loss falls by what is
    easy to guess.
    Fix: give padding the label -100, as DataCollatorForSeq2Seq does.
    """
    padded = labels.made.padded
    if padded:
        yield padding_trained.finding(
            WHERE, count=padded, share=padded / (padded + labels.total.supervised)
        )


@rule("DL117", Severity.WARNING)
def copied_rows(labels: Labels) -> Iterator[Finding]:
    """Rows occur more than once.

    Evidence: {count} of {rows} rows ({share:.1%}) are copies of an earlier one, token by token.
    Why: what is repeated is learned by heart, and counts for more than the rest.
    Fix: take copies out with glmprep merge, or set the weight of a source with --shards DIR:WEIGHT
    in place of copying it.
    """
    ids, offsets = labels.rows.input_ids, labels.rows.offsets.tolist()
    known: dict[int, int] = {}
    copies = []
    for row in range(len(labels.rows)):
        digest = hash(ids[offsets[row] : offsets[row + 1]].tobytes())
        if known.setdefault(digest, row) != row:
            copies.append(row)
    share = len(copies) / len(labels.rows)
    if len(copies) >= LEAST_COPIES and share >= MANY_COPIES:
        places = labels.rows.offsets[np.array(copies[:5])]
        yield copied_rows.finding(
            WHERE,
            examples=labels.examples(places),
            count=len(copies),
            rows=len(labels.rows),
            share=share,
        )


@rule("DL118", Severity.INFO)
def far_longer(labels: Labels) -> Iterator[Finding]:
    """A few rows are far longer than the others.

    Evidence: {count} rows have more than {bound} tokens, the longest {longest}; 95% of the rows
    have at most {usual}.
    Why: memory is taken by the longest row, so training may fail in the middle of an epoch on one
    of these alone.
    Fix: split them with glmprep segment, or check with glmdiag memory that they fit.
    """
    if labels.from_shards:
        return  # their batches hold so many tokens, however long a row is
    lengths = labels.rows.lengths
    usual = float(np.quantile(lengths, 0.95))
    far = np.flatnonzero(lengths > max(FAR * usual, LONG))
    if len(far) and len(lengths) >= ENOUGH_ROWS:
        yield far_longer.finding(
            WHERE,
            examples=labels.examples(labels.rows.offsets[far]),
            count=len(far),
            bound=int(max(FAR * usual, LONG)),
            longest=int(lengths.max()),
            usual=int(usual),
            share=len(far) / len(lengths),
        )


@rule("DL119", Severity.WARNING)
def turns_untrained(labels: Labels) -> Iterator[Finding]:
    """Most answers of a conversation are never trained.

    Evidence: of the assistant's turns {trained:.1%} have a label: {first:.1%} of the first,
    {middle:.1%} of those between and {last:.1%} of the last ones.
    Why: a conversation is read whole for the sake of one answer; the others teach nothing, and with
    them goes how the model ends a turn inside a conversation.
    Fix: train all turns: combine: false in the official script, mask_history: false in
    LLaMA-Factory, or glmprep bucket.
    """
    if labels.from_shards:
        return  # their ledger says of each turn why it is not trained
    found = {each.place: each for each in turns(labels)}
    count, trained = (
        sum(getattr(each, name) for each in found.values()) for name in ("turns", "trained")
    )
    shares = {place: found[place].share if place in found else 1.0 for place in found}
    worst = min((shares.get(place, 1.0) for place in ("first", "middle", "last")), default=1.0)
    if not count or worst > TRAINED_LITTLE or trained == 0:
        return
    yield turns_untrained.finding(
        WHERE,
        trained=trained / count,
        count=count - trained,
        turns=count,
        share=1 - trained / count,
        first=shares.get("first", 1.0),
        middle=shares.get("middle", 1.0),
        last=shares.get("last", 1.0),
    )


@rule("DL121", Severity.ERROR)
def ids_outside(labels: Labels) -> Iterator[Finding]:
    """Ids that the vocabulary does not have.

    Evidence: {count} ids are beyond the vocabulary; the largest is {largest}.
    Why: the model has no embedding for them: training ends in an index error, on a GPU in a failed
    assertion that names no cause.
    Fix: make the set with the tokenizer of this model (--tokenizer or --model name it here), or
    enlarge the embeddings for added tokens.
    """
    if labels.made.outside:
        yield ids_outside.finding(
            WHERE,
            count=labels.made.outside,
            largest=int(labels.rows.input_ids.max()),
            share=labels.made.outside / labels.total.tokens,
        )


@rule("DL122", Severity.WARNING)
def no_roles(labels: Labels) -> Iterator[Finding]:
    """No role token occurs, so turns cannot be told apart.

    Evidence: in {rows} rows with {tokens} tokens there is no {token}.
    Why: the set was made by another template or another tokenizer than the one it was read with
    here; what depends on turns was not looked at.
    Fix: name the tokenizer and the template with --tokenizer, --family or --model, or make the set
    with the template of the model.
    """
    if not (labels.block_roles == labels.roles.assistant).any():
        yield no_roles.finding(
            WHERE,
            rows=len(labels.rows),
            tokens=labels.total.tokens,
            token=labels.tokenizer.decode([labels.roles.assistant]),
        )


@rule("DL123", Severity.WARNING)
def prefix_twice(labels: Labels) -> Iterator[Finding]:
    """Rows begin with the template's prefix twice.

    Evidence: {count} of {rows} rows ({share:.1%}) begin with {prefix} and the same again.
    Why: text that a chat template made was tokenized with special tokens added once more. Served
    prompts have the prefix once, so the model answers from a beginning that it did not train on.
    Fix: tokenize rendered text with add_special_tokens=False.
    """
    prefix, ids = list(labels.made.prefix), labels.rows.input_ids
    if not prefix:
        return
    begins = labels.rows.offsets[:-1]
    begins = begins[labels.rows.lengths >= 2 * len(prefix)]
    twice = np.ones(len(begins), np.bool_)
    for place, token in enumerate(2 * prefix):
        twice &= ids[begins + place] == token
    count = int(twice.sum())
    if count:
        yield prefix_twice.finding(
            WHERE,
            examples=labels.examples(begins[twice]),
            count=count,
            rows=len(labels.rows),
            share=count / len(labels.rows),
            prefix=labels.tokenizer.decode(prefix),
        )


@rule("DL124", Severity.WARNING)
def packed_unmarked(labels: Labels) -> Iterator[Finding]:
    """Packed rows do not say where their conversations begin.

    Evidence: {count} of {rows} rows ({share:.1%}) hold several conversations, without position_ids
    or seq_lengths.
    Why: each conversation then attends to those before it in its row, and learns to answer with
    what it cannot know.
    Fix: pack with position_ids that begin again (neat_packing: true in LLaMA-Factory, the bfd
    strategy with flash attention in TRL), or run glmprep bucket --layout packed.
    """
    if labels.from_shards or labels.made.marked:
        return
    last = labels.rows.segment_ids[labels.rows.offsets[1:] - 1]
    begins = labels.rows.offsets[:-1]
    packed = begins[(last > 0) & ~_doubled(labels)]
    if len(packed):
        yield packed_unmarked.finding(
            WHERE,
            examples=labels.examples(packed),
            count=len(packed),
            rows=len(labels.rows),
            share=len(packed) / len(labels.rows),
        )


def _doubled(labels: Labels) -> np.ndarray:
    """Rows whose second segment begins where the prefix of the first one ends."""
    width = len(labels.made.prefix)
    place = np.minimum(labels.rows.offsets[:-1] + width, labels.rows.offsets[1:] - 1)
    return np.asarray(labels.rows.segment_ids[place] == 1)


DATASET_RULES = (
    *STOP_RULES,
    *CUT_RULES,
    labels_shifted,
    labels_differ,
    padding_trained,
    copied_rows,
    far_longer,
    turns_untrained,
    ids_outside,
    no_roles,
    prefix_twice,
    packed_unmarked,
)

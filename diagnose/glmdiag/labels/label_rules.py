"""Rules on what is trained: each takes `Labels` and yields its findings.

Those on how foreign sets are made are in `glmdiag.labels.dataset_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from glmprep.findings import Finding, Severity, rule

from glmdiag.labels import Labels
from glmdiag.labels.apart import Int64
from glmdiag.labels.content_rules import CONTENT_RULES
from glmdiag.labels.cut_rules import REAL_SHARE, single_rows
from glmdiag.labels.cuts import cuts
from glmdiag.labels.dataset_rules import DATASET_RULES

FEW_TARGETS = 0.05  # summaries of meetings stay above it; below, reading costs all the computation
MUCH_PADDING = 0.2  # eight buckets bring usual chat data below a tenth
WHERE = "shards"


@rule("DL101", Severity.ERROR)
def rows_without_labels(labels: Labels) -> Iterator[Finding]:
    """Rows have no training target.

    Evidence: {count} of {rows} rows have no token with a label.
    Why: they cost computation and teach nothing; a batch of them gives a loss of NaN in most
    trainers.
    Fix: write the shards again with glmprep bucket, which sets such rows aside and lists them in
    rejects.jsonl.
    """
    bare = np.flatnonzero(labels.rows.supervised == 0)
    if len(bare):
        places, rows = labels.rows.offsets[bare], len(labels.rows)
        yield rows_without_labels.finding(
            WHERE,
            examples=labels.examples(places),
            severity=single_rows(labels, len(bare)),
            count=len(bare),
            rows=rows,
            share=len(bare) / rows,
        )


@rule("DL102", Severity.ERROR)
def answers_cut(labels: Labels) -> Iterator[Finding]:
    """Answers are cut.

    Evidence: {count} of {runs} trained answers break off without a stop token; {allowed} of those
    are inner pieces of long turns, as the ledger says.
    Why: the model learns to break off in the middle of a sentence, and what was cut is lost.
    Fix: split the conversations with glmprep segment instead of cutting them, and write the shards
    again with glmprep bucket.
    """
    broken = labels.open_ends[~labels.followed_by_stop(labels.open_ends)]
    if len(broken) <= labels.allowed_open_ends:
        return
    broken = np.setdiff1d(broken, cuts(labels).open)
    if not labels.from_shards:
        broken = np.setdiff1d(broken, labels.segment_ends)
    if len(broken):
        yield answers_cut.finding(
            WHERE,
            examples=labels.examples(broken),
            count=len(broken),
            runs=len(labels.run_ends),
            share=len(broken) / len(labels.run_ends),
            allowed=labels.allowed_open_ends,
        )


@rule("DL103", Severity.ERROR)
def stops_untrained(labels: Labels) -> Iterator[Finding]:
    """The token that ends an answer is not trained.

    Evidence: {count} of {runs} trained answers are followed by a stop token that has no label.
    Why: GLM has no end-of-turn token; the next role token ends an answer, and a model that never
    learned it goes on talking for both sides.
    Fix: write the shards again with glmprep bucket, which trains the token that ends each answer.
    """
    if len(labels.untrained_stops):
        yield stops_untrained.finding(
            WHERE,
            examples=labels.examples(labels.untrained_stops),
            count=len(labels.untrained_stops),
            runs=len(labels.run_ends),
            share=len(labels.untrained_stops) / len(labels.run_ends),
        )


@rule("DL104", Severity.WARNING)
def observation_untrained(labels: Labels) -> Iterator[Finding]:
    """Tools are used, but how to stop for them is not trained.

    Evidence: `<|observation|>` occurs {count} times and is never a training target.
    Why: after a tool call the model has to produce `<|observation|>`; one that never learned it
    calls tools without end or makes their results up.
    Fix: check that the turns with tool calls are trained (no "weight": 0) and are written as
    tool_calls, then run glmprep bucket again.
    """
    places = labels.headers[labels.rows.input_ids[labels.headers] == labels.roles.observation]
    if len(places) and not (labels.said[labels.trained] == labels.roles.observation).any():
        yield observation_untrained.finding(
            WHERE, examples=labels.examples(places), count=len(places)
        )


@rule("DL105", Severity.ERROR)
def first_token_untrained(labels: Labels) -> Iterator[Finding]:
    """Answers are trained without their beginning.

    Evidence: {count} of {runs} trained answers do not begin right after `<|assistant|>` or what the
    prompt writes behind it, such as `<think>`; {allowed} of those go on with a turn that was cut,
    as the ledger says.
    Why: the first token decides how an answer begins. A mask that is shifted by one place twice, as
    in some scripts, leaves it out.
    Fix: write the shards again with glmprep bucket.
    """
    starts = labels.run_starts
    ids, header = labels.rows.input_ids, labels.roles.assistant
    late = starts[(labels.role_at(starts) == header) & (ids[starts] != header)]
    late = late[ids[late - 1] != header]
    late = late[~labels.behind_prompt(late)]
    if len(late) > labels.allowed_open_ends:
        yield first_token_untrained.finding(
            WHERE,
            examples=labels.examples(late),
            count=len(late),
            runs=len(starts),
            share=len(late) / len(starts),
            allowed=labels.allowed_open_ends,
        )


@rule("DL106", Severity.ERROR)
def prompt_trained(labels: Labels) -> Iterator[Finding]:
    """Something else than answers is trained.

    Evidence: {count} training {count:|target|targets} in {rows} {rows:|row|rows} ({share:.1%} of
    all) {count:|belongs|belong} to a prompt: the words of a user, a system message or a tool, or a
    role token that no answer ends with.
    Why: the model learns to speak in place of its users and tools.
    Fix: write the shards again with glmprep bucket, which trains the assistant's turns and the
    tokens that end them.
    """
    blocks, roles = labels.blocks, labels.block_roles
    behind_cuts = _stops_behind_cut_prompts(labels)
    inside = np.searchsorted(blocks, np.setdiff1d(behind_cuts, blocks), "right") - 1
    text = labels.trained_text - np.bincount(inside, minlength=len(blocks))
    foreign = (roles != labels.roles.assistant) & (text > 0)
    headers = blocks[labels.trained[blocks]]
    starts_run = np.isin(headers, labels.run_starts)
    unasked = headers[starts_run | (labels.rows.input_ids[headers] == labels.roles.system)]
    unasked = np.setdiff1d(unasked, behind_cuts)
    count = int(text[foreign].sum()) + len(unasked)
    if count:
        places = np.union1d(blocks[foreign], unasked)
        rows = len(np.unique(np.searchsorted(labels.rows.offsets, places, "right")))
        share = count / max(1, labels.total.supervised)
        yield prompt_trained.finding(
            WHERE,
            examples=labels.examples(places),
            severity=Severity.WARNING if share < REAL_SHARE else single_rows(labels, rows),
            count=count,
            rows=rows,
            share=share,
        )


@rule("DL107", Severity.INFO)
def few_targets(labels: Labels) -> Iterator[Finding]:
    """Few of the tokens are training targets.

    Evidence: {share:.1%} of {tokens} tokens are training targets; the rest is read only.
    Why: computation goes by the tokens read, learning by the tokens trained.
    Fix: if it is not meant so, check roles and "weight": 0 in the data; replayed context can be
    lowered with glmprep segment --overlap.
    """
    total = labels.total
    if total.supervised_share < FEW_TARGETS:
        yield few_targets.finding(WHERE, share=total.supervised_share, tokens=total.tokens)


@rule("DL108", Severity.INFO)
def much_padding(labels: Labels) -> Iterator[Finding]:
    """Much of the computation is padding.

    Evidence: {share:.1%} of the computed tokens are padding; most of it in the bucket of {length}
    tokens.
    Why: padding is computed like text and teaches nothing.
    Fix: run glmprep bucket again with more --buckets, or with --layout packed for training on a
    GPU.
    """
    total = labels.total
    if labels.from_shards and total.padding > MUCH_PADDING:
        worst = max(labels.coverage, key=lambda each: each.rows * each.length - each.tokens)
        yield much_padding.finding(WHERE, share=total.padding, length=worst.length)


LABEL_RULES = (
    rows_without_labels,
    answers_cut,
    stops_untrained,
    observation_untrained,
    first_token_untrained,
    prompt_trained,
    few_targets,
    much_padding,
    *DATASET_RULES,
    *CONTENT_RULES,
)


def _stops_behind_cut_prompts(labels: Labels) -> Int64:
    """Stops that a trainer put, and trained, behind a row that its limit cut inside the prompt."""
    ends = labels.segment_ends
    if cuts(labels).limit is None:
        return ends[:0]
    lone = labels.trained[ends] & (~labels.trained[ends - 1] | np.isin(ends - 1, labels.blocks))
    lone &= (labels.role_at(ends) != labels.roles.assistant) | np.isin(ends, labels.blocks)
    return ends[lone & np.isin(labels.said[ends], labels.closers)]


def judge(labels: Labels) -> list[Finding]:
    """All findings on the labels."""
    return [finding for each in LABEL_RULES for finding in each(labels)]

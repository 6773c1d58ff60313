"""Rules on a set of conversations, over tables with one row per conversation or pair of them."""

from __future__ import annotations

import polars as pl

from glmprep.findings import Severity, rule

ALIKE = 0.8
"""Similarity from which on two conversations are near duplicates: one token in 27 differs."""
WORTH_TELLING = 0.01
"""Share of the set from which on shared openings and answers are told: `hi` alone is no finding."""
MANY = 20
"""Questions that a canned answer answers at least, and a few more."""


@rule("DF201", Severity.WARNING)
def exact_duplicate() -> pl.Expr:
    """A conversation occurs more than once.

    Evidence: conversations that are exact copies of an earlier one: {count}.
    Why: copies weigh as much as they are often, and one on each side of a validation split makes
    the evaluation look better than it is.
    Fix: keep one of each, unless you repeat them on purpose.
    """
    return pl.col("digest").is_duplicated() & ~pl.col("digest").is_first_distinct()


@rule("DF202", Severity.WARNING)
def near_duplicate() -> pl.Expr:
    """Conversations are nearly alike.

    Evidence: {count} conversations, in {groups} {groups:|group|groups}, share at least 80% of
    their runs of three tokens with another one; exact copies are not counted.
    Why: they weigh as one text seen many times, and a validation split that parts them measures
    memory.
    Fix: keep one of each group, or keep a group on one side of the split.
    """
    return pl.col("similarity") >= ALIKE


@rule("DF203", Severity.INFO)
def several_answers() -> pl.Expr:
    """One prompt has several answers.

    Evidence: {count} conversations share {groups} {groups:|prompt|prompts}, with the same system
    message and tools, and answer differently; the commonest prompt occurs {most} times.
    Why: it is harmless where many answers are right; otherwise the model learns to guess, and the
    loss cannot fall below the answers' variety.
    Fix: look at the examples; keep the best answer where only one is right.
    """
    open_ended = ~pl.col("closed").all().over("prompt")
    return open_ended & (pl.col("answer").n_unique().over("prompt") > 1)


@rule("DF204", Severity.ERROR)
def evaluation_copy() -> pl.Expr:
    """The evaluation set holds conversations that are trained on.

    Evidence: of the {evaluated} conversations of the evaluation set, {count} are copies of training
    conversations, {exact} of them exact.
    Why: on these the evaluation measures memory, so overfitting goes unseen.
    Fix: remove them from one of the two sets.
    """
    return (pl.col("similarity") >= ALIKE).fill_null(False)


@rule("DF205", Severity.WARNING)
def shared_opening() -> pl.Expr:
    """Conversations begin with the same message.

    Evidence: {count} conversations share their first message with another one; there are {groups}
    such messages, the commonest of them in {most} conversations.
    Why: a split by rows puts the same beginning on both sides, and the evaluation looks better than
    it is.
    Fix: split by the first message, so that conversations that share it stay on one side.
    """
    shared = pl.col("opening").is_not_null() & pl.col("opening").is_duplicated()
    return shared & (shared.mean() >= WORTH_TELLING)


@rule("DF209", Severity.WARNING)
def canned_answer() -> pl.Expr:
    """One answer is given to many questions.

    Evidence: {count} conversations end with one of {groups} {groups:|answer|answers} that
    {groups:|stands|stand} word for word after more than 20 different questions each; the commonest
    ends {most} conversations.
    Why: the model learns the sentence by heart and gives it where it does not belong.
    Fix: keep a few of them, or write answers that take up the question.
    """
    alone = pl.col("ending").is_not_null()
    share = pl.len().over("ending") / pl.len()
    return alone & (pl.col("question").n_unique().over("ending") > MANY) & (share >= WORTH_TELLING)


@rule("DF210", Severity.WARNING)
def evaluation_opening() -> pl.Expr:
    """The evaluation set shares openings with the training set.

    Evidence: of the {evaluated} conversations of the evaluation set, {count} begin with a message
    that begins a training conversation, and are no copies.
    Why: the model has seen how such conversations go on, so the evaluation looks better than it is.
    Fix: split by the first message, so that conversations that share it stay on one side.
    """
    copied: pl.Expr = evaluation_copy()
    return pl.col("same_opening").is_not_null() & ~copied


@rule("DF211", Severity.WARNING)
def contradicting_answers() -> pl.Expr:
    """A question has short answers that differ.

    Evidence: {count} conversations of one question and an answer of a few words share {groups}
    {groups:|question|questions} and answer differently; the commonest occurs {most} times.
    Why: labels that contradict each other teach the model to guess.
    Fix: decide for each question which answer is right.
    """
    closed = pl.col("closed").all().over("prompt")
    return closed & (pl.col("answer").n_unique().over("prompt") > 1)

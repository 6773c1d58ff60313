"""Rules on questions and their answers: does each answer stand beside the question that it fits?"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from glmprep.findings import Severity, rule

LEAST_SHIFTED = 5
SHARE_SHIFTED = 0.15
LEAST_SHUFFLED = 20
SHARE_SHUFFLED = 0.75
ROWS_SHUFFLED = 0.01
"""Unrelated texts match by chance, in up to six of a thousand rows."""
SWAPPED = 8.0
"""Nats of shared rare words, in both directions: three words in a set of some hundred rows."""
RATIO = 3.0
NEAR = 2


@rule("DF401", Severity.ERROR)
def shifted_answers(offsets: Mapping[int, int], told: int) -> int | None:
    """Answers stand beside the prompt of another row, always as far away.

    Evidence: of {told} answers whose prompt can be told from their words, {count} fit the prompt of
    the row at {offset:+d} (+1 is the next row) and not their own.
    Why: questions and answers slipped apart when the file was made, so the model learns answers to
    questions that were not asked.
    Fix: make the file again; look for a lost line, a header, or a sort of one column alone.
    """
    (offset, count), (_, next_count) = (
        *sorted(offsets.items(), key=lambda item: (-item[1], abs(item[0]))),
        (0, 0),
        (0, 0),
    )[:2]
    enough = count >= max(LEAST_SHIFTED, SHARE_SHIFTED * told) and count >= 3 * next_count
    return offset if enough else None


@rule("DF402", Severity.ERROR)
def shuffled_answers(own: int, others: int, rows: int) -> bool:
    """Answers stand beside prompts that they do not fit.

    Evidence: of {told} answers whose prompt can be told from their words, {count} fit the prompt of
    some other row and not their own.
    Why: the two sides were shuffled or sorted apart, so the model learns to answer anything with
    anything.
    Fix: make the file again from a source in which questions and answers belong together.
    """
    enough = others >= max(LEAST_SHUFFLED, ROWS_SHUFFLED * rows)
    return enough and others >= SHARE_SHUFFLED * (own + others)


@rule("DF403", Severity.WARNING)
def swapped_answers() -> pl.Expr:
    """Two rows have each other's answer.

    Evidence: pairs of rows whose answers fit each other's prompt and not their own: {count}.
    Why: each of them teaches a wrong answer.
    Fix: look at the examples and swap the answers back.
    """
    fit = pl.min_horizontal("fit", "fit_back")
    own = pl.max_horizontal("own", "own_back")
    best = (pl.col("fit") == pl.col("best")) & (pl.col("fit_back") == pl.col("best_back"))
    near = (pl.col("prompt") - pl.col("answer")).abs() <= NEAR
    return (fit >= SWAPPED) & (fit >= RATIO * own) & (best | near)

"""Rules on a set of conversations, over a table with one row per conversation."""

from __future__ import annotations

import polars as pl

from glmprep.findings import Severity, rule


@rule("DF201", Severity.WARNING)
def exact_duplicate() -> pl.Expr:
    """A conversation occurs more than once.

    Evidence: conversations that are exact copies of an earlier one: {count}.
    Why: copies weigh as much as they are often, and one on each side of a validation split makes
    the evaluation look better than it is.
    Fix: keep one of each, unless you repeat them on purpose.
    """
    return pl.col("digest").is_duplicated() & ~pl.col("digest").is_first_distinct()

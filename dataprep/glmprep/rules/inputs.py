"""Rules on the ledger's lines beside the data itself, over a table with one row per line of either.

The table joins the lines of the ledger with those that reading the data again makes: `listed` and
`read` say that a row is in the ledger or in the data; columns of the data end in `_again`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import polars as pl

from glmprep.entries import KEY
from glmprep.findings import Severity, rule
from glmprep.ledger import NUMBERS

SETTLED = ("outcome", "rule")
COMPARED = ("conversation", *NUMBERS, "digest")


@rule("DV008", Severity.ERROR)
def other_files(listed: Sequence[str], given: Sequence[str]) -> list[str]:
    """The files are not those that the shards were made from.

    Evidence: files whose name or place in the order differs: {count}.
    Why: rows are told apart by their file's place in the order and their line, so another order is
    other data.
    Fix: name the same files in the same order; their folder may be another.
    """
    pairs = enumerate(zip_longest(listed, given, fillvalue="none"), 1)
    return [f"file {n}: {now}, was {then}" for n, (then, now) in pairs if then != now]


@rule("DV009", Severity.ERROR)
def row_missing() -> pl.Expr:
    """A row of the ledger is not in the data.

    Evidence: rows that were read when the shards were made and are not in the data now: {count}.
    Why: lines were removed from the data, or the ledger claims rows that never were.
    Fix: give the data as it was, or run glmprep bucket again on what it is now.
    """
    return ~pl.col("read")


@rule("DV010", Severity.ERROR)
def row_added() -> pl.Expr:
    """A row of the data is not in the ledger.

    Evidence: rows of the data that the shards' ledger does not know: {count}.
    Why: lines were added to the data after the shards were made, or their lines were removed from
    the ledger; nothing of them is trained.
    Fix: give the data as it was, or run glmprep bucket again on what it is now.
    """
    return ~pl.col("listed")


@rule("DV011", Severity.ERROR)
def outcome_differs() -> pl.Expr:
    """A row ends otherwise than the ledger says.

    Evidence: rows that are written, set aside or rejected now where the ledger says otherwise, or
    by another rule: {count}.
    Why: the data, the ledger or the rules have changed since the shards were made.
    Fix: give the data as it was, or run glmprep bucket again on what it is now.
    """
    return _both() & _differ(SETTLED)


@rule("DV012", Severity.ERROR)
def tokens_differ() -> pl.Expr:
    """A row has other tokens or labels than the ledger says.

    Evidence: rows whose id, turns, tokens, targets or digest of ids and mask are others when the
    data is read again: {count}.
    Why: the shards do not train what the data says: a line was changed, or the ledger was.
    Fix: give the data as it was, or run glmprep bucket again on what it is now.
    """
    return _both() & ~_differ(SETTLED) & _differ(COMPARED)


ROW_RULES = (row_missing, row_added, outcome_differs, tokens_differ)


def beside_data(lines: pl.DataFrame, again: pl.DataFrame, files: Sequence[str]) -> pl.DataFrame:
    """The table of the rules, with `where` and `excerpt` for examples.

    `again` has the lines that reading `files` once more makes.
    """
    joined = lines.with_columns(listed=True).join(
        again.with_columns(read=True), on=KEY, how="full", coalesce=True, suffix="_again"
    )
    paths = pl.DataFrame({"file_index": range(len(files)), "path": files}).cast(
        {"file_index": pl.Int32}
    )
    named = joined.join(paths, on="file_index", how="left").sort(KEY)
    path = pl.coalesce("path", "file", "file_again")
    then = _told("listed", "", "not in the ledger")
    now = _told("read", "_again", "not in the data")
    return named.with_columns(
        pl.col("listed", "read").fill_null(False),
        where=pl.format("{}:{}", path, "line"),
        excerpt=pl.format("ledger: {}; data: {}", then, now),
    )


def _told(there: str, suffix: str, absent: str) -> pl.Expr:
    """What one side says of a row: its outcome, and its tokens or the rule."""
    outcome, rule_id = pl.col(f"outcome{suffix}"), pl.col(f"rule{suffix}").fill_null("no rule")
    tokens, trained = (pl.col(f"{name}{suffix}") for name in ("tokens", "supervised"))
    counted = pl.format("{}, {} tokens, {} trained", outcome, tokens, trained)
    return (
        pl.when(pl.col(there).is_null())
        .then(pl.lit(absent))
        .otherwise(pl.coalesce(counted, pl.format("{} by {}", outcome, rule_id)))
    )


def _both() -> pl.Expr:
    return pl.col("listed") & pl.col("read")


def _differ(names: Sequence[str]) -> pl.Expr:
    return pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_again")) for name in names)

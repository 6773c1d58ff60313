"""Rules on the ledger's lines beside the shards, over a table with one row per line or segment.

The table joins the lines of what was written with the segments of the shards: `found` and `listed`
say that a segment or a line is there; columns of the segments end in `_found`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from glmprep.accounts import WRITTEN
from glmprep.entries import digests
from glmprep.findings import Severity, rule
from glmprep.rules.shards import segment_starts
from glmprep.shards import Rows

SEGMENTS: dict[str, type[pl.DataType]] = {
    "shard_row": pl.Int64,
    "segment": pl.Int32,
    "conversation": pl.String,
    "tokens": pl.Int32,
    "supervised": pl.Int32,
    "digest": pl.Binary,
}
PLACE = ("shard_row", "segment")
COMPARED = ("conversation", "tokens", "supervised", "digest")
REJECT_KEY = ("file", "line", "rule", "conversation")


@rule("DV005", Severity.ERROR)
def wrong_line() -> pl.Expr:
    """The shards do not hold what the ledger says.

    Evidence: conversations whose id, tokens, targets or digest of ids and mask differ between the
    shards and their line of the ledger: {count}.
    Why: a token, a label or an id was changed, or conversations changed places, after they were
    entered; checksums that were made to fit do not hide it.
    Fix: run glmprep bucket again; do not edit shards or their ledger.
    """
    differ = [pl.col(name).ne_missing(pl.col(f"{name}_found")) for name in COMPARED]
    return pl.col("found") & pl.col("listed") & pl.any_horizontal(differ)


@rule("DV006", Severity.ERROR)
def unmatched() -> pl.Expr:
    """Ledger and shards do not list the same conversations.

    Evidence: conversations in the shards without a line in the ledger, lines whose conversation is
    not in the shards, and places that several lines claim: {count}.
    Why: something was lost, added or doubled, so that not every target is trained exactly once.
    Fix: run glmprep bucket again; do not edit shards or their ledger.
    """
    return ~pl.col("found") | ~pl.col("listed") | pl.struct(PLACE).is_duplicated()


@rule("DV007", Severity.ERROR)
def rejects_differ() -> pl.Expr:
    """The list of rejected rows is not that of the ledger.

    Evidence: rows that rejects.jsonl and the ledger do not list alike, with file, line and rule:
    {count}.
    Why: what was left out can be looked into only where the list of it is whole.
    Fix: run glmprep bucket again; keep a copy of rejects.jsonl if you work on it.
    """
    return pl.col("listed").fill_null(0) != pl.col("found").fill_null(0)


def segment_table(rows: Rows, first_row: int) -> pl.DataFrame:
    """A line for each segment of rows, the first of which is row `first_row` of the folder."""
    starts = segment_starts(rows)
    bounds = np.append(starts, len(rows.input_ids))
    row = np.searchsorted(rows.offsets, starts, "right") - 1
    place = np.arange(len(starts)) - np.searchsorted(row, row)
    trained = np.concatenate(([0], np.cumsum(rows.loss_mask, dtype=np.int64)))
    where = zip(row.tolist(), place.tolist(), strict=True)
    names = rows.conversation_ids
    columns = {
        "shard_row": row + first_row,
        "segment": place,
        "conversation": [names[r][p] if p < len(names[r]) else None for r, p in where],
        "tokens": np.diff(bounds),
        "supervised": np.diff(trained[bounds]),
        "digest": digests(rows.input_ids, rows.loss_mask, bounds),
    }
    return pl.DataFrame([pl.Series(n, columns[n]).cast(kind) for n, kind in SEGMENTS.items()])


def beside_shards(lines: pl.DataFrame, segments: pl.DataFrame) -> pl.DataFrame:
    """The table of the first two rules, with `where` and `excerpt` for examples.

    `segments` has the columns SEGMENTS.
    """
    written = lines.filter(pl.col("outcome") == WRITTEN).with_columns(listed=True)
    joined = written.join(
        segments.with_columns(found=True), on=PLACE, how="full", coalesce=True, suffix="_found"
    ).with_columns(pl.col("found", "listed").fill_null(False))
    row = pl.format("row {} segment {}", *PLACE)
    line = pl.format("{}:{}", "file", "line")
    both = pl.format(
        "{}: {} and {} tokens, {} and {} trained", row, *_pairs("tokens", "supervised")
    )
    return joined.with_columns(
        where=pl.when("listed").then(line).otherwise(row),
        excerpt=pl.when(pl.col("listed") & pl.col("found"))
        .then(both)
        .when("listed")
        .then(pl.format("{} is not in the shards", pl.coalesce(row, pl.lit("its place"))))
        .otherwise(pl.lit("no line in the ledger")),
    )


def beside_rejects(lines: pl.DataFrame, rejects: pl.DataFrame) -> pl.DataFrame:
    """The table of the last rule: how often the ledger and the list have each row.

    `rejects` has the columns REJECT_KEY.
    """
    left_out = lines.filter(pl.col("outcome") != WRITTEN)
    joined = left_out.group_by(REJECT_KEY).len("listed").join(
        rejects.group_by(REJECT_KEY).len("found"),
        on=REJECT_KEY, how="full", coalesce=True, nulls_equal=True,
    )  # fmt: skip
    place = pl.coalesce(pl.col("line").cast(pl.String), pl.lit("?"))
    counts = (pl.col(name).fill_null(0) for name in ("listed", "found"))
    return joined.sort(REJECT_KEY).with_columns(
        where=pl.format("{}:{}", pl.col("file").fill_null("?"), place),
        excerpt=pl.format(
            "{}: {} in the ledger, {} in the list", pl.col("rule").fill_null("?"), *counts
        ),
    )


def _pairs(*names: str) -> list[str]:
    return [column for name in names for column in (name, f"{name}_found")]

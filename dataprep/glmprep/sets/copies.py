"""Conversations that a set holds more than once, or shares with the set that evaluates it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example
from glmprep.rules.sets import evaluation_copy, evaluation_opening, exact_duplicate, near_duplicate
from glmprep.sets.fingerprints import Fingerprints
from glmprep.sets.neighbours import groups, similar


def exact_copies(known: Fingerprints) -> Iterator[Hit]:
    """All copies but the first of each (DF201)."""
    first = pl.col("place").first().over("digest")
    hits = known.table.with_columns(first=first).filter(exact_duplicate())
    if not hits.is_empty():
        examples = [
            Example(where=known.where(place), excerpt=f"= {known.where(original)}")
            for place, original in hits.select("place", "first").head(EXAMPLES).rows()
        ]
        yield Hit(rule=exact_duplicate, count=hits.height, rows=hits.height, examples=examples)


def near_copies(known: Fingerprints) -> Iterator[Hit]:
    """Groups of conversations that are nearly alike, each linked to another one (DF202)."""
    different = known.table.filter(pl.col("digest").is_first_distinct())["place"].to_numpy()
    linked = similar(known.signatures[different]).filter(near_duplicate())
    if linked.is_empty():
        return
    first, second = (linked[name].to_numpy() for name in ("first", "second"))
    count = len(np.unique(np.concatenate((first, second))))
    label = groups(first, second, len(different))
    examples = [
        _example(known, different[one], known, different[other], similarity)
        for other, one, similarity in linked.head(EXAMPLES).rows()
    ]
    yield Hit(
        rule=near_duplicate,
        count=count,
        rows=count,
        examples=examples,
        data={"groups": len(np.unique(label[first]))},
    )


def leaked(known: Fingerprints, evaluation: Fingerprints) -> Iterator[Hit]:
    """Conversations of the evaluation set that are trained on, or begin as one that is."""
    compared = _compared(known, evaluation)
    yield from _leaked_copies(compared, known, evaluation)
    yield from _leaked_openings(compared, known, evaluation)


def _leaked_copies(
    compared: pl.DataFrame, known: Fingerprints, evaluation: Fingerprints
) -> Iterator[Hit]:
    """Conversations of the evaluation set that are trained on (DF204)."""
    copies = compared.filter(evaluation_copy())
    if copies.is_empty():
        return
    examples = [
        _example(evaluation, place, known, original, similarity)
        for place, original, similarity in copies.select("place", "original", "similarity")
        .head(EXAMPLES)
        .rows()
    ]
    yield Hit(
        rule=evaluation_copy,
        count=copies.height,
        rows=copies.height,
        examples=examples,
        data={"exact": int(copies["exact"].sum()), "evaluated": evaluation.table.height},
    )


def _leaked_openings(
    compared: pl.DataFrame, known: Fingerprints, evaluation: Fingerprints
) -> Iterator[Hit]:
    """Conversations of the evaluation set that begin as one that is trained on (DF210)."""
    shared = compared.filter(evaluation_opening())
    if shared.is_empty():
        return
    examples = [
        Example(where=evaluation.where(place), excerpt=f"~ {known.where(first)}")
        for place, first in shared.select("place", "same_opening").head(EXAMPLES).rows()
    ]
    yield Hit(
        rule=evaluation_opening,
        count=shared.height,
        rows=shared.height,
        examples=examples,
        data={"evaluated": evaluation.table.height},
    )


def _compared(known: Fingerprints, evaluation: Fingerprints) -> pl.DataFrame:
    """The evaluation set, each with what is known that is like it.

    original: the place of the likest; similarity, 1 where it is exact; same_opening: the place of
    the first that begins with the same message. Null where there is none.
    """
    first = known.table.unique("digest", keep="first").select("digest", same="place")
    opening = known.table.drop_nulls("opening").unique("opening", keep="first")
    return (
        evaluation.table.join(_nearest(known, evaluation), on="place", how="left")
        .join(first, on="digest", how="left")
        .join(opening.select("opening", same_opening="place"), on="opening", how="left")
        .with_columns(
            exact=pl.col("same").is_not_null(),
            original=pl.coalesce("same", "near"),
            similarity=pl.when(pl.col("same").is_null()).then("similarity").otherwise(1.0),
        )
        .sort("place")
    )


def _nearest(known: Fingerprints, evaluation: Fingerprints) -> pl.DataFrame:
    """For each place of the evaluation set the place `near` of the likest candidate."""
    size = known.table.height
    linked = similar(np.concatenate((known.signatures, evaluation.signatures)), known=size)
    across = linked.filter((pl.col("first") < size) & (pl.col("second") >= size))
    return (
        across.select((pl.col("second") - size).alias("place"), "similarity", near="first")
        .cast({"place": pl.UInt32, "near": pl.UInt32})
        .sort("similarity", descending=True, maintain_order=True)
        .unique("place", keep="first", maintain_order=True)
    )


def _example(
    of: Fingerprints, place: int, other: Fingerprints, original: int, similarity: float
) -> Example:
    return Example(where=of.where(place), excerpt=f"{similarity:.0%} like {other.where(original)}")

"""What several conversations of a set share: a prompt, an opening, an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example, Rule
from glmprep.rules.sets import (
    canned_answer,
    contradicting_answers,
    several_answers,
    shared_opening,
)
from glmprep.sets.fingerprints import Fingerprints

SHARED: tuple[tuple[Rule[Any], str, str], ...] = (
    (several_answers, "prompt", "answer"),
    (shared_opening, "opening", "place"),
    (canned_answer, "ending", "question"),
    (contradicting_answers, "prompt", "answer"),
)
"""Rules with the column that their conversations share, and the one in which they differ."""


def shared_parts(known: Fingerprints) -> Iterator[Hit]:
    """A hit of each rule that fires, copies left out, with the largest groups as examples."""
    different = known.table.filter(pl.col("digest").is_first_distinct())
    for rule, key, differs in SHARED:
        hits = different.filter(rule())
        if hits.is_empty():
            continue
        unlike = pl.col("place").filter(pl.col(differs).is_first_distinct())
        sizes = (
            hits.group_by(key, maintain_order=True)
            .agg(size=pl.len(), places=unlike.head(2))
            .sort("size", descending=True, maintain_order=True)
        )
        examples = [
            Example(where=known.where(first), excerpt=f"×{size}, {known.where(second)}")
            for size, (first, second) in sizes.head(EXAMPLES).select("size", "places").rows()
        ]
        yield Hit(
            rule=rule,
            count=hits.height,
            rows=hits.height,
            examples=examples,
            data={"groups": sizes.height, "most": int(sizes["size"][0])},
        )

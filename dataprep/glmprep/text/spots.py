"""Where in a text a rule fires: the second, exact look at few candidates, and what a report shows.

A rule looks at millions of messages in polars with a quick pattern that errs on the side of too
much. What is left goes through a function that finds the place in one text, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from glmprep.text.sensitive import mask

Spot = tuple[int, int]
Find = Callable[[str], Spot | None]
SHOWN = 200
BEFORE = 30
REACH = 10_000
"""Characters around an excerpt in which secrets are looked for: more than the longest is long."""


def confirmed(candidates: pl.Expr, test: Callable[..., Any], *texts: pl.Expr) -> pl.Expr:
    """True where `candidates` holds and `test`, given the texts, gives something true."""

    def look(columns: Sequence[pl.Series]) -> pl.Series:
        places = columns[0].arg_true()
        chosen = (column.gather(places) for column in columns[1:])
        found = [bool(test(*row)) for row in zip(*chosen, strict=True)]
        none = pl.zeros(len(columns[0]), pl.Boolean, eager=True)
        return none.scatter(places.filter(found), True) if any(found) else none

    return pl.map_batches([candidates, *texts], look, return_dtype=pl.Boolean)


def holds(text: pl.Expr, *patterns: str) -> pl.Expr:
    """Whether text matches one of the patterns; False for null.

    They are looked for one after the other: polars is quick where a pattern has few beginnings, and
    several times slower with all of them in one.
    """
    found = pl.any_horizontal(*(text.str.contains(pattern) for pattern in patterns))
    return found.fill_null(False)


def searching(pattern: str) -> Find:
    """Finds the first match of a regular expression."""
    search = re.compile(pattern).search

    def find(text: str) -> Spot | None:
        found = search(text)
        return found.span() if found else None

    return find


def outside_code(pattern: str) -> Find:
    """Finds the first match that stands neither in a fenced block of code nor in `inline` code."""
    matches = re.compile(rf"```[\s\S]*?(?:```|\Z)|`[^`\n]+`|(?P<spot>{pattern})").finditer

    def find(text: str) -> Spot | None:
        return next((m.span() for m in matches(text) if m["spot"] is not None), None)

    return find


def excerpt(text: str, find: Find | None = None) -> str:
    """At most 200 characters around the place that `find` finds, or from the start.

    Personal data and secrets are masked, whatever the rule: reports are passed on.
    """
    spot = find(text) if find else None
    start = max(0, (spot[0] if spot else 0) - BEFORE)
    near = max(0, start - REACH)
    shown = mask(text[near : start + SHOWN + REACH])[start - near :][:SHOWN]
    return f"{'…' if start else ''}{shown}{'…' if start + SHOWN < len(text) else ''}"

"""What stands at the head of several commands' pages: subject, level of the verdict, tiles."""

from __future__ import annotations

from collections.abc import Sequence

from glmreport.numbers import show_number
from glmreport.page import Fact, Level, Value
from glmreport.text import Text

from glmprep.findings import Finding
from glmprep.pages import verdict_level

NAMED = 3
MANY = 0.05
"""Share of the rows whose loss is no detail any more; the default of `--max-rejects`."""


def subject(data: Sequence[str]) -> str:
    """The names of the input, the first few where there are many."""
    more = [f"… ({len(data)})"] if len(data) > NAMED else []
    return ", ".join([*data[:NAMED], *more])


def level_of_output(reject_share: float, findings: Sequence[Finding]) -> Level:
    """`good` where nothing was left out of the output, `bad` where much was."""
    if reject_share > MANY:
        return "bad"
    return "warn" if reject_share or verdict_level(findings) != "good" else "good"


def fact(name: str, value: Value, note: Text | None = None) -> Fact:
    """A tile whose label is an entry of `prep.fact`."""
    return Fact(label=Text(f"prep.fact.{name}"), value=value, note=note)


def tokens_fact(tokens: int) -> Fact:
    """The tile of a number of tokens, short, and in full where that says more."""
    short = show_number(tokens, "compact")
    exact = None if short == show_number(tokens) else Text("prep.note.tokens", tokens=tokens)
    return fact("tokens", short, exact)

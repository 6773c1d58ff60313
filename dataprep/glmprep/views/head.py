"""What stands at the head of several commands' pages: the subject, and how good the outcome is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmprep.findings import Finding
from glmprep.pages import verdict_level

if TYPE_CHECKING:
    from glmreport.page import Level

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

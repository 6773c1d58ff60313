"""Which rows stand for a conversation, where checks compare conversations and not rows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmprep.records import Conversation

GOES_ON = re.compile(r"(@([2-9]|[1-9]\d+)|#[1-9]\d*)$")
"""The id of any row but the first that a family, or `glmprep segment`, makes of a conversation."""


def runs(rows: Sequence[Conversation]) -> list[range]:
    """The rows of each conversation; they share its origin and follow one another."""
    starts = [
        place
        for place, row in enumerate(rows)
        if place == 0 or row.origin != rows[place - 1].origin
    ]
    return [range(*ends) for ends in zip(starts, [*starts[1:], len(rows)], strict=True)]


def fullest(rows: Sequence[Conversation], run: range) -> int:
    """Of the rows of a conversation the one that holds most of it."""
    return max(run, key=lambda row: len(rows[row].messages))


def goes_on(row: Conversation) -> bool:
    """Whether a row continues a conversation that began in an earlier line.

    It repeats what came before, untrained, so it would pass for a near copy; it counts with the row
    that began.
    """
    return bool(GOES_ON.search(row.id)) and not all(message.trained for message in row.messages)


def wholes(rows: Sequence[Conversation]) -> list[Conversation]:
    """The conversations that begin among the rows, each as its fullest row."""
    return [rows[fullest(rows, run)] for run in runs(rows) if not goes_on(rows[run.start])]

"""Takes turns out of a conversation that have nothing left to say, as far as its order allows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from glmprep.repair import Edit, Turn, joins, merged


def without(
    messages: Sequence[Turn], empty: Collection[int], rule: str, *, join_answers: bool
) -> tuple[list[Edit], int]:
    """Edits that take these turns out, the last first, and how many turns have to stay.

    Where a turn goes from between two of one role, these become one; two answers only with
    `join_answers`.
    """
    blocks: list[tuple[int, int, list[int]]] = []
    gone = 0
    for first, end in _runs(sorted(empty)):
        places = _removable(messages, first, end, join_answers)
        if places is None:
            continue
        first, end = places
        gone += end - first
        before, after = _around(messages, first, end)
        if before is None or after is None or before.get("role") != after.get("role"):
            blocks.append((first, end, []))
        elif blocks and blocks[-1][2] and blocks[-1][1] == first:
            begin, _, members = blocks.pop()
            blocks.append((begin, end + 1, [*members, end]))
        else:
            blocks.append((first - 1, end + 1, [first - 1, end]))
    edits = [
        Edit(
            rule=rule,
            at=begin,
            before=list(messages[begin:end]),
            after=[merged([messages[turn] for turn in members])] if members else [],
        )
        for begin, end, members in reversed(blocks)
    ]
    return edits, len(empty) - gone


def _runs(turns: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring turns, each as (first, last + 1)."""
    for _, group in groupby(enumerate(turns), key=lambda pair: pair[1] - pair[0]):
        run = [turn for _, turn in group]
        yield run[0], run[-1] + 1


def _removable(
    messages: Sequence[Turn], first: int, end: int, join_answers: bool
) -> tuple[int, int] | None:
    """The most of a run of turns that can go: all of it, or all but the turns at its ends."""
    for begin, stop in ((first, end), (first, end - 1), (first + 1, end), (first + 1, end - 1)):
        if begin < stop and _fits(*_around(messages, begin, stop), join_answers):
            return begin, stop
    return None


def _around(messages: Sequence[Turn], first: int, end: int) -> tuple[Turn | None, Turn | None]:
    before = messages[first - 1] if first else None
    return before, messages[end] if end < len(messages) else None


def _fits(before: Turn | None, after: Turn | None, join_answers: bool) -> bool:
    """Whether a turn may follow another, or stand at the beginning or the end."""
    said_before = before.get("role") if before else None
    said_after = after.get("role") if after else None
    if before is None or after is None or said_before == "system":
        return said_after in ("user", "system", None) and said_before != "user"
    if said_before != said_after:
        return (said_before, said_after) != ("user", "tool")
    return joins(before, after) and (said_before == "user" or join_answers or _context(after))


def _context(turn: Turn) -> bool:
    return turn.get("role") == "assistant" and turn.get("weight") == 0

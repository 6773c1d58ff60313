"""Rows by their place or their number, with all of their text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import orjson

from glmprep.errors import UsageError
from glmprep.families import Family
from glmprep.read import read
from glmprep.records import Conversation, RawRow, Rejection
from glmprep.rules.template import unrenderable
from glmprep.source import Source
from glmprep.stream import Stream

Item: TypeAlias = Conversation | Rejection


def require_rereadable(paths: Sequence[str]) -> None:
    """Raise UsageError for input that is gone once it was read: standard input and pipes."""
    for path in paths:
        if path == "-" or Path(path).is_fifo():
            raise UsageError(f"{path}: is read twice here; write it to a file and name that")


def by_place(source: Source, family: Family, places: Collection[str]) -> dict[str, Item]:
    """The rows at these places (path:line), each as a conversation or as why it is none."""
    wanted, found = set(places), dict[str, Item]()
    for item in _items(source, family):
        if len(found) == len(wanted):
            break
        if (where := str(item.origin)) in wanted:
            found[where] = item
    return found


def by_number(source: Source, family: Family, numbers: Sequence[int]) -> list[Item]:
    """The rows of these numbers (from 0) in reading order; UsageError where there is none."""
    found: dict[int, Item] = {}
    count = 0
    for item in _items(source, family):
        if len(found) == len(set(numbers)):
            break
        if count in numbers:
            found[count] = item
        count += 1
    for number in numbers:
        if number not in found:
            rows = f"rows are 0 to {count - 1}" if count else "there are no rows"
            raise UsageError(f"{', '.join(source.paths)}: there is no row {number}; {rows}")
    return [found[number] for number in numbers]


def raw_texts(source: Source, places: Collection[str]) -> dict[str, str]:
    """Rows as JSON text, by place; those that are no JSON are left out."""
    wanted, found = set(places), dict[str, str]()
    for row in read(source.paths) if wanted else ():
        if isinstance(row, RawRow) and (where := str(row.origin)) in wanted:
            found[where] = _json(row.value)
            if len(found) == len(wanted):
                break
    return found


def _items(source: Source, family: Family) -> Iterator[Item]:
    """All rows in the order in which they are read; no rule on messages rejects any of them."""
    for item in Stream(source).items():
        refused = None if isinstance(item, Rejection) else unrenderable(family, item)
        yield refused if isinstance(refused, Rejection) else item


def _json(value: object) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # nested more deeply than it writes, although it reads it
        return str(value)

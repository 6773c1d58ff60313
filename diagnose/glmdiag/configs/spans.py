"""Where keys and values stand in a text, so that a value can be changed and the rest be kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = re.compile(r"^\s*\[([A-Za-z0-9_.\-]+)\]\s*(#.*)?$")
ENTRY = re.compile(r"^(\s*)([A-Za-z0-9_\-]+)\s*=\s*(.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Span:
    """Positions in a text: where the key begins, and where its value begins and ends."""

    key: int
    start: int
    end: int


def of_toml(text: str) -> dict[str, Span]:
    """The entries of tables that stand on one line each; arrays over several lines end there."""
    spans: dict[str, Span] = {}
    table, position = "", 0
    for line in text.split("\n"):
        if header := HEADER.match(line):
            table = header[1] + "."
        elif entry := ENTRY.match(line):
            value = _without_comment(entry[3])
            start = position + entry.start(3)
            key = position + entry.start(2)
            spans[table + entry[2]] = Span(key, start, start + len(value))
        position += len(line) + 1
    return spans


def _without_comment(value: str) -> str:
    """A value without the comment behind it; a # within quotes belongs to the value."""
    quote = ""
    for place, letter in enumerate(value):
        if quote:
            quote = "" if letter == quote and value[place - 1] != "\\" else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "#":
            return value[:place].rstrip()
    return value

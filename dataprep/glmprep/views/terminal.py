"""Summaries in the terminal: aligned lines and small tables, without frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from glmreport.numbers import show_number
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from glmprep.console import printable

Summary: TypeAlias = Callable[[Console], None]
LABEL = 14  # width of the labels, so that the lines of all commands stand alike
PERCENT = "percent"


def number(value: int | float, spec: str = "") -> str:
    """A number as the pages write it."""
    return show_number(value, spec)


def counted(count: int, one: str, many: str) -> str:
    """A count and its noun: `1 row`, `12,022 rows`."""
    return f"{number(count)} {one if count == 1 else many}"


def print_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Labels in a column of their own, each with its text, which may hold data."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in lines:
        table.add_row(label, Text(printable(text)))
    console.print(table)


def print_table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column holds names and the others hold numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, name in enumerate(head):
        width = LABEL if place == 0 else None
        justify = "right" if place else "left"
        table.add_column(name, justify=justify, min_width=width, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (0, 0)))

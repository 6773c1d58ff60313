"""Summaries in the terminal: aligned lines and small tables, without frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from glmreport.numbers import show_number
from rich.console import Console
from rich.text import Text

from glmprep.console import printable
from glmprep.findings import Finding

Summary: TypeAlias = Callable[[Console], None]
LABEL = 14  # width of the first column, so that the lines of all commands stand alike
PERCENT = "percent"


def number(value: int | float, spec: str = "") -> str:
    """A number as the pages write it."""
    return show_number(value, spec)


def counted(count: int, one: str, many: str) -> str:
    """A count and its noun: `1 row`, `12,022 rows`."""
    return f"{number(count)} {one if count == 1 else many}"


def printing(lines: Sequence[Text], findings: Sequence[Finding] = ()) -> Summary:
    """A summary of these lines; an empty one parts them from the findings that follow."""

    def show(console: Console) -> None:
        for line in lines:
            console.print(line, soft_wrap=True)
        if findings:
            console.print()

    return show


def aligned(lines: Sequence[tuple[str, str]]) -> list[Text]:
    """Labels in a column of their own, each with its text, which may hold data."""
    return [Text.assemble((f"{label:<{LABEL}}  ", "dim"), printable(text)) for label, text in lines]


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Text]:
    """A table whose first column holds names and the others numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        name, *numbers = cells
        return "  ".join(
            [f"{name:<{LABEL}}", *(f"{n:>{w}}" for n, w in zip(numbers, widths[1:], strict=True))]
        )

    return [Text(line(head), style="dim"), *(Text(line(row)) for row in rows)]

"""Tokens in the terminal: in colours, or with marks around what is trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text

from glmprep.console import printable
from glmprep.transcript import Kind, Span

STYLES: dict[Kind, str] = {
    "trained": "bold black on green",
    "stop": "bold white on magenta",
    "context": "",
    "special": "cyan",
    "cut": "strike red",
}
MARKS: dict[Kind, tuple[str, str]] = {
    "trained": ("⟦", "⟧"),
    "stop": ("⟪", "⟫"),
    "cut": ("⌦", "⌫"),
}
"""Where colours cannot be seen, these stand around what is trained and what is cut."""
LEGEND: dict[Kind, str] = {
    "trained": "trained",
    "stop": "trained stop token",
    "context": "context",
    "special": "control token",
    "cut": "cut away",
}


def as_text(spans: Sequence[Span], *, colour: bool) -> Text:
    """Spans for a terminal; nothing in them can steer it."""
    text = Text()
    for span in spans:
        shown = "\n".join(printable(line) for line in span.text.split("\n"))
        before, after = ("", "") if colour else MARKS.get(span.kind, ("", ""))
        text.append(f"{before}{shown}{after}", style=STYLES[span.kind] if colour else "")
    return text


def legend(kinds: Collection[Kind], *, colour: bool) -> Text:
    """What the colours of these kinds mean, or their marks where there are no colours."""
    if colour:
        words = [Text(LEGEND[kind], style=STYLES[kind]) for kind in LEGEND if kind in kinds]
    else:
        words = [Text(LEGEND[kind].join(MARKS[kind])) for kind in MARKS if kind in kinds]
    return Text("  ").join([Text("legend:", style="dim"), *words])

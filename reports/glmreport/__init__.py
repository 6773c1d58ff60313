"""Reports: one self-contained HTML page, in Chinese and English, from plain records.

The records are imported when they are first named: making them takes longer than many a command.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glmreport.page import (
        Block,
        Chapter,
        Chart,
        Code,
        Column,
        Example,
        Fact,
        FindingView,
        Leaf,
        Leaves,
        Page,
        Paragraph,
        Provenance,
        Section,
        Step,
        Table,
        TokenSpan,
        TokenView,
        Turn,
        Verdict,
    )
    from glmreport.text import (
        Catalogue,
        CatalogueError,
        Literal,
        Message,
        RuleTitle,
        Text,
        check_catalogues,
        rule_text,
    )

__all__ = [
    "Block",
    "Catalogue",
    "CatalogueError",
    "Chapter",
    "Chart",
    "Code",
    "Column",
    "Example",
    "Fact",
    "FindingView",
    "Leaf",
    "Leaves",
    "Literal",
    "Message",
    "Page",
    "Paragraph",
    "Provenance",
    "RuleTitle",
    "Section",
    "Step",
    "Table",
    "Text",
    "TokenSpan",
    "TokenView",
    "Turn",
    "Verdict",
    "check_catalogues",
    "render",
    "rule_text",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("glmreport.page", "glmreport.text"):
            if hasattr(found := import_module(module), name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing from anywhere."""
    from glmreport.document import render_document

    return render_document(page)


def write(page: Page, path: str | Path) -> None:
    """Writes the page; `path` holds the old page or the whole new one, never a part of it."""
    from glmreport.document import write_document

    write_document(page, Path(path))

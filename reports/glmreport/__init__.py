"""Reports: one self-contained HTML page, in Chinese and English, from plain records."""

from __future__ import annotations

from pathlib import Path

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


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing from anywhere."""
    from glmreport.document import render_document

    return render_document(page)


def write(page: Page, path: str | Path) -> None:
    """Writes the page; `path` holds the old page or the whole new one, never a part of it."""
    from glmreport.document import write_document

    write_document(page, Path(path))

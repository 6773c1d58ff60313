"""Messages and values as HTML: escaped, in every language, with `code` where backticks say so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from markupsafe import Markup, escape

from glmreport.page import (
    Block,
    Chart,
    Column,
    FindingView,
    Leaves,
    Table,
    TokenKind,
    TokenSpan,
    TokenView,
    Turn,
    Value,
)
from glmreport.text import (
    LANGUAGES,
    Catalogue,
    Param,
    RuleTitle,
    Text,
    fill,
    placeholders,
    rule_text,
    show_plain,
    visible,
)

_TAGS = {"en": "en", "zh": "zh-CN"}


def both(message: Value) -> Markup:
    """A message in every language, of which the page shows one; data only once."""
    return _in_each({language: _html(message, language) for language in LANGUAGES})


def words(key: str, **params: Param) -> Markup:
    """The catalogue's entry in every language."""
    return both(Text(key, **params))


def finding_text(finding: FindingView, field: str) -> Markup:
    """A field of a finding, in each language that has a template for its rule.

    A finding without a number that the template wants is shown in English: better than no page.
    """
    english = _with_code(getattr(finding, field))
    texts = dict.fromkeys(LANGUAGES, english)
    for language in LANGUAGES:
        template = (rule_text(finding.rule, language) or {}).get(field)
        if template is not None and placeholders(template) <= finding.data.keys():
            texts[language] = _filled(template, finding.data, language)
    return _in_each(texts)


def cell(value: Value | None, column: Column) -> Markup:
    """A table's value as its column writes it; a dash where there is none."""
    if value is None:
        return Markup("–")
    return escape(show_plain(value, column.spec)) if isinstance(value, int | float) else both(value)


def ratio(value: Value | None, table: Table, index: int) -> str:
    """How long a value's bar is, from 0 to 1: its ratio to the greatest value of its column."""
    numbers = [row[index] for row in table.rows]
    greatest = max((v for v in numbers if isinstance(v, int | float)), default=0)
    if not isinstance(value, int | float) or greatest <= 0:
        return "0"
    return f"{max(value, 0) / greatest:.3f}"


def token_text(text: str) -> Markup:
    """Text as the model gets it: the ends of lines can be seen."""
    return Markup('<i class="newline">↵</i>\n').join(map(escape, visible(text).split("\n")))


def token_kinds(view: TokenView) -> list[str]:
    """The kinds of token that a view's legend has to explain."""
    return _in_order({span.kind for span in view.spans})


def leaf_kinds(block: Leaves) -> list[str]:
    """The kinds of token that the legend of all leaves has to explain."""
    leaves = [leaf for chapter in block.chapters for leaf in chapter.leaves]
    turns = [turn for leaf in leaves for turn in leaf.turns if isinstance(turn, Turn)]
    parts = [part for turn in turns for part in turn.parts]
    return _in_order({part.kind for part in parts if isinstance(part, TokenSpan)})


def kind(block: Block) -> str:
    """The name of the macro that draws a block."""
    return type(block).__name__.lower()


def drawings(chart: Chart) -> list[tuple[str, Markup]]:
    """A chart's drawings, whose words were escaped when they were put in."""
    return [("wide", Markup(chart.wide)), ("narrow", Markup(chart.narrow))]


FILTERS: Mapping[str, Callable[..., Any]] = {
    filter.__name__: filter
    for filter in (
        both,
        words,
        finding_text,
        cell,
        ratio,
        token_text,
        token_kinds,
        leaf_kinds,
        kind,
        drawings,
    )
}


def _in_order(seen: set[TokenKind]) -> list[str]:
    return [kind for kind in get_args(TokenKind) if kind in seen]


def _in_each(texts: Mapping[str, Markup]) -> Markup:
    if len(set(texts.values())) == 1:
        return texts[LANGUAGES[0]]
    span = Markup('<span class="{}" lang="{}">{}</span>')
    return Markup("").join(span.format(k, _TAGS[k], text) for k, text in texts.items())


def _html(value: Param, language: str, spec: str = "") -> Markup:
    if isinstance(value, Text):
        template = Catalogue.load(language).template(value.key)
        return _filled(template, value.params, language)
    if isinstance(value, RuleTitle):
        return _with_code(value.within(language))
    return escape(visible(show_plain(value, spec)))


def _filled(template: str, params: Mapping[str, Param], language: str) -> Markup:
    def show(value: Param, spec: str) -> str:
        return _html(value, language, spec)

    pieces = (fill(piece, params, show, escape) for piece in template.split("`"))
    return _code_at_odd_places(map(Markup, pieces))


def _with_code(text: str) -> Markup:
    """Text that is filled in already: a pair of backticks makes code, a lone one stays."""
    return _code_at_odd_places(map(escape, re.split(r"`([^`\n]+)`", visible(text))))


def _code_at_odd_places(pieces: Iterable[Markup]) -> Markup:
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(p) if i % 2 else p for i, p in enumerate(pieces))

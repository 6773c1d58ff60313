"""One value of a configuration changed in its text; all else stays as it is."""

from __future__ import annotations

import json
import re
from typing import Any

from glmprep.errors import UsageError

from glmdiag.configs.document import Document, Syntax

PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9_\-]*$")
WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def render(syntax: Syntax, value: Any) -> str:
    """A value as it is written in a syntax."""
    if isinstance(value, float):
        text = repr(value)
        # YAML 1.1 wants a point and a sign: 2.0e-05 is a number, 2e-05 is text.
        return re.sub(r"^(-?\d+)e", r"\1.0e", text) if syntax == "yaml" else text
    if isinstance(value, str) and syntax == "yaml" and PLAIN.match(value):
        return value if value.lower() not in WORDS else json.dumps(value)
    if value is None and syntax == "toml":
        raise UsageError("TOML has no null")
    return json.dumps(value, ensure_ascii=False)


def with_value(document: Document, key: str, value: Any) -> str:
    """The text with `key` set; raises UsageError where there is no place for it."""
    span, text = document.spans.get(key), document.text
    if span is not None:
        gap = " " if text[span.start - 1 : span.start] in (":", "=") else ""
        return text[: span.start] + gap + render(document.syntax, value) + text[span.end :]
    if document.syntax == "json":
        return _into_json(document, key, value)
    return _as_line(document, key, value)


def _siblings(document: Document, parent: str) -> list[str]:
    return [key for key in document.spans if key.rpartition(".")[0] == parent]


def _as_line(document: Document, key: str, value: Any) -> str:
    """A new line behind the last entry beside it that stands on one line; else a new table."""
    parent, _, name = key.rpartition(".")
    text = document.text if document.text.endswith("\n") else document.text + "\n"
    sign = " = " if document.syntax == "toml" else ": "
    entry = f"{name}{sign}{render(document.syntax, value)}\n"
    spans = [document.spans[each] for each in _siblings(document, parent)]
    single = [span for span in spans if "\n" not in text[span.key : span.end].rstrip()]
    if not single:
        if document.syntax != "toml" or spans:
            raise UsageError(f"{document.path}: no place for {key}")
        return f"{text}\n[{parent}]\n{entry}"
    last = max(single, key=lambda span: span.key)
    begin = text.rfind("\n", 0, last.key) + 1
    end = text.find("\n", last.key) + 1
    return text[:end] + text[begin : last.key] + entry + text[end:]


def _into_json(document: Document, key: str, value: Any) -> str:
    """A new member behind the last one of its object; the object too, where there is none."""
    parent, _, name = key.rpartition(".")
    text, siblings = document.text, _siblings(document, parent)
    if not siblings:
        if not parent or parent in document.spans:
            raise UsageError(f"{document.path}: no place for {key}")
        return _into_json(document, parent, {name: value})
    last = max((document.spans[each] for each in siblings), key=lambda span: span.end)
    begin = text.rfind("\n", 0, last.key) + 1
    own_line = text[begin : last.key].isspace()
    gap = f",\n{text[begin : last.key]}" if own_line else ", "
    member = f"{json.dumps(name)}: {render('json', value)}"
    return text[: last.end] + gap + member + text[last.end :]

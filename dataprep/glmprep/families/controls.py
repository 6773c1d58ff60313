"""Control tokens in rendered text, and content that must not be taken for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from glmprep.tokenizer import Tokenizer

PRIVATE = re.compile("[\U000f0000-\U000ffffd]")
"""Characters that no one writes; those that a conversation does not use stand in for text."""


class Disguise:
    """Single characters in place of texts that a template must neither see nor change."""

    def __init__(self, *values: Any) -> None:
        taken = set(PRIVATE.findall("".join(texts(values))))
        self._free = (c for c in map(chr, range(0xF0000, 0xFFFFE)) if c not in taken)
        self._texts: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """The character that stands for a text from now on."""
        mark = next(self._free)
        self._texts[mark] = text
        return mark

    def reveal(self, rendered: str) -> str:
        """The text with what was hidden in its place, also where it went through JSON."""
        for mark, text in self._texts.items():
            rendered = rendered.replace(mark, text)
            rendered = rendered.replace(json.dumps(mark)[1:-1], json.dumps(text)[1:-1])
        return rendered


class Controls:
    """The added tokens of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids = dict(tokenizer.added)
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def find(self, text: str, start: int, end: int) -> Iterator[re.Match[str]]:
        """The control tokens in a stretch of text, in order."""
        return self._any.finditer(text, start, end)

    def in_any(self, value: Any) -> bool:
        """Whether a text in a JSON value holds the text of a control token."""
        return any(self._any.search(text) for text in texts(value))

    def hide(self, value: Any, disguise: Disguise) -> Any:
        """A JSON value in which characters of the disguise stand for texts of control tokens."""
        if isinstance(value, str):
            return self._any.sub(lambda match: disguise.hide(match[0]), value)
        if isinstance(value, dict):
            return {self.hide(k, disguise): self.hide(v, disguise) for k, v in value.items()}
        if isinstance(value, list):
            return [self.hide(item, disguise) for item in value]
        return value


def texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)

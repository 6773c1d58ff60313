"""Texts that a person wants to be tokens: as options name them, and which ones there can be."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from glmprep.errors import UsageError
from glmprep.tokenizer import Tokenizer

MOST = 1000


def extended(tokenizer: Tokenizer, asked: Sequence[str]) -> Tokenizer:
    """The tokenizer with the tokens of `--add-token`: each is TEXT or TEXT=DESCRIPTION.

    Raises UsageError for a text that cannot be told from others wherever it stands: one that is a
    token already, that contains another or a control token, that is blank or begins or ends so.
    """
    if len(asked) > MOST:
        raise UsageError(f"--add-token: {len(asked)} tokens; at most {MOST}")
    texts: dict[str, str] = {}
    for each in asked:
        text, _, description = each.partition("=")
        _require(text not in texts, text, "is given twice")
        texts[text] = description.strip()
    _require_visible(list(texts))
    _require_new(list(texts), tokenizer)
    return tokenizer.adding(texts)


def _require_visible(texts: Sequence[str]) -> None:
    for text in texts:
        _require(bool(text.strip()), text, "is blank; write TEXT or TEXT=DESCRIPTION")
        _require(text == text.strip(), text, "begins or ends with a blank; leave that out")
        control = any(unicodedata.category(character) == "Cc" for character in text)
        _require(not control, text, "holds a line break or another control character")


def _require_new(texts: Sequence[str], tokenizer: Tokenizer) -> None:
    if not texts:
        return
    lengths = tokenizer.encode_batch(texts)[1].tolist()
    for text, length in zip(texts, lengths, strict=True):
        known = length == 1 or text in tokenizer.added
        _require(not known, text, "is a token already; leave it out")
        near = next((name for name in tokenizer.added if name in text or text in name), None)
        _require(near is None, text, f"and the control token {near}: one contains the other")
    for text in texts:
        inner = next((other for other in texts if other != text and other in text), None)
        _require(inner is None, text, f"contains {inner!r}; only one of them can be added")


def _require(holds: bool, text: str, reason: str) -> None:
    if not holds:
        raise UsageError(f"--add-token {text!r} {reason}")

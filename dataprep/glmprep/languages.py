"""In which language a conversation is, by its script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.records import Conversation

LANGUAGES = ("chinese", "english", "mixed", "other")
UNKNOWN, OTHER, HAN, LATIN = range(4)
_known = np.full(0x110000, UNKNOWN, np.int8)
CLEAR = 0.8
"""Above this share of one script a text counts as of one language: terms of another are common."""


def languages(conversations: Sequence[Conversation]) -> npt.NDArray[np.int8]:
    """For each conversation the place of its language in LANGUAGES.

    Han characters are weighed against words in Latin letters, so `english` stands for every
    language in that script; `other` has neither.
    """
    if not conversations:
        return np.zeros(0, np.int8)
    texts = ["\0".join([m.content for m in c.messages]) + "\0" for c in conversations]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths) - lengths
    script = _scripts(np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32))
    begins = script == LATIN
    begins[1:] &= script[:-1] != LATIN
    han = np.add.reduceat(script == HAN, starts, dtype=np.float64)
    latin = np.add.reduceat(begins, starts, dtype=np.float64)
    share = han / np.maximum(han + latin, 1)
    found = np.where(share >= CLEAR, 0, np.where(share <= 1 - CLEAR, 1, 2))
    return np.where(han + latin == 0, 3, found).astype(np.int8)


def _scripts(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.int8]:
    """HAN, LATIN or OTHER of each character; what a character is, is looked up once."""
    scripts = _known[codes]
    if (scripts == UNKNOWN).any():
        new = np.unique(codes[scripts == UNKNOWN])
        character = pl.Series([chr(code) for code in new.tolist()], dtype=pl.String)
        for script, pattern in ((HAN, r"\p{Han}"), (LATIN, r"\p{Latin}")):
            _known[new[character.str.contains(pattern).to_numpy()]] = script
        _known[new] = np.maximum(_known[new], OTHER)
        scripts = _known[codes]
    return scripts

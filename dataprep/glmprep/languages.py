"""In which language a conversation is, by its script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.records import Conversation

LANGUAGES = ("chinese", "english", "mixed", "other")
CLEAR = 0.8
"""Above this share of one script a text counts as of one language: terms of another are common."""


def languages(conversations: Sequence[Conversation]) -> npt.NDArray[np.int8]:
    """For each conversation the place of its language in LANGUAGES.

    Han characters are weighed against words in Latin letters, so `english` stands for every
    language in that script; `other` has neither.
    """
    counts = [len(c.messages) for c in conversations]
    row = np.repeat(np.arange(len(counts)), counts)
    text = pl.Series([m.content for c in conversations for m in c.messages], dtype=pl.String)
    han = _per_row(row, text.str.count_matches(r"\p{Han}"), len(counts))
    latin = _per_row(row, text.str.count_matches(r"\p{Latin}+"), len(counts))
    share = han / np.maximum(han + latin, 1)
    found = np.where(share >= CLEAR, 0, np.where(share <= 1 - CLEAR, 1, 2))
    return np.where(han + latin == 0, 3, found).astype(np.int8)


def _per_row(row: npt.NDArray[np.int64], counts: pl.Series, rows: int) -> npt.NDArray[np.float64]:
    return np.bincount(row, counts.to_numpy(), rows).astype(np.float64)

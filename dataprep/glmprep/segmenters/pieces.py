"""Units joined to pieces that are long enough to tell what they are about."""

from __future__ import annotations

import numpy as np

from glmprep.segmenters.stretch import Int64, Stretch

PIECE = 64
"""Tokens that a piece has at least, the last one aside: many a turn only says `Yeah`."""


def pieces(stretch: Stretch) -> tuple[Int64, list[str]]:
    """The number of the piece that each unit is in, from 0 on, and the texts of the pieces."""
    number = np.zeros(len(stretch), np.int64)
    texts: list[str] = []
    first = held = 0
    for unit, tokens in enumerate(stretch.tokens.tolist()):
        number[unit] = len(texts)
        held += tokens
        if held >= PIECE or unit == len(stretch) - 1:
            texts.append("\n".join(stretch.texts[first : unit + 1]))
            first, held = unit + 1, 0
    return number, texts

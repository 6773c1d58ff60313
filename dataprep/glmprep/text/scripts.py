"""Which writing a text is in, told from its characters."""

from __future__ import annotations

import re
from typing import Literal

Writing = Literal["han", "latin"]
HAN, LATIN = re.compile(r"[\u3400-\u9fff]"), re.compile(r"[A-Za-z\u00c0-\u024f]+")
LEAST = 12
"""Characters or words from which a text is taken to be in a language."""
SHARE = 0.9


def writing(text: str) -> Writing | None:
    """Chinese characters or Latin letters, where nine words in ten are; None for others and both.

    A Chinese character counts as one word, as does a run of Latin letters.
    """
    han, latin = len(HAN.findall(text)), len(LATIN.findall(text))
    if han + latin < LEAST:
        return None
    if han >= SHARE * (han + latin):
        return "han"
    return "latin" if latin >= SHARE * (han + latin) else None

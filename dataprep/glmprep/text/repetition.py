"""How much a text repeats itself, in linear time."""

from __future__ import annotations

import re

import pyarrow as pa

STRETCH = 400
"""Characters that are looked at together."""
LEAST = 100
"""A last stretch with fewer characters is no loop yet: people laugh and sigh that long, too."""
GRAM = 8
REPEATED = 0.6
"""Share of repeated runs from which a stretch is a loop. In real answers, loops come to 0.65 and
more; tables, code and lists of numbers to 0.57."""
PACKED = 0.45
"""Text that LZ4 packs worse than this does not repeat itself; 99.8 % of real stretches do not."""
PACKER = pa.Codec("lz4_raw")
FILLER = re.compile(r"([\s\-=_|+*.#~·—─│]{2})[\s\-=_|+*.#~·—─│]+")
"""What draws tables, forms and rules repeats itself without harm."""


def find(text: str) -> tuple[int, int] | None:
    """The first stretch of a text that is nearly all repetition, None where there is none.

    A model that runs in circles writes one phrase or line until it is cut off, so each stretch of
    the text is judged alone. Packing it finds the few that are worth a closer look (OpenAI's
    Whisper finds loops in transcripts by their compression ratio).
    """
    for start in range(0, max(1, len(text) - LEAST), STRETCH):
        stretch = text[start : start + STRETCH]
        raw = stretch.encode("utf-8", "replace")
        if len(stretch) < LEAST or PACKER.compress(raw).size > PACKED * len(raw):
            continue
        stretch = FILLER.sub(r"\1", stretch)
        if len(stretch) >= LEAST and repeated_share(stretch) >= REPEATED:
            return start, min(start + STRETCH, len(text))
    return None


def repeated_share(text: str, size: int = GRAM) -> float:
    """Of the runs of `size` characters in a text, how many stood there before; 0 for short ones."""
    runs = len(text) - size + 1
    if runs < 2:
        return 0.0
    return 1 - len({text[place : place + size] for place in range(runs)}) / runs

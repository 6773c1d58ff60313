"""Text to ids and back by a vocabulary alone: no token is added, and none is recognised in text.

An `Encoder` makes ids, of many texts at a time and in one array. A `Vocabulary` is an encoder that
can be asked about single texts too. `BytePairs` (the `tokenizers` library) and `SentencePieces` are
vocabularies, and the reference; `Ranked` and `Fastokens` only encode: one is there at once, the
other encodes quickly, and `Growing` takes them in turn. `Extended` stands before any of them where
a person adds tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt

Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Ids of all texts, one after the other, and the number of ids of each text."""
Offsets = list[tuple[int, int]]


class Encoder(Protocol):
    """Text to ids."""

    @property
    def name(self) -> str:
        """The library that does it."""

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""


class Vocabulary(Encoder, Protocol):
    """An encoder of `size` ids, from 0 on, that also tells places and reads ids back."""

    size: int

    def encode_with_offsets(self, text: str) -> tuple[list[int], Offsets]:
        """Ids of one text and, for each, its start and end in characters.

        The ids of one character that is spelt in bytes all span that character.
        """

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text in which the names of added tokens stand for these tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


def flat(parts: Sequence[Sequence[int]]) -> Flat:
    """Lists of ids as arrays."""
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    return np.fromiter(chain.from_iterable(parts), np.int32, int(lengths.sum())), lengths


def joined(parts: Sequence[Flat]) -> Flat:
    """The ids of several batches, at least one, as those of one."""
    ids, lengths = zip(*parts, strict=True)
    return (ids[0], lengths[0]) if len(ids) == 1 else (np.concatenate(ids), np.concatenate(lengths))

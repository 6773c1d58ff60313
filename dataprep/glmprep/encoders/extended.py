"""Texts that are tokens of their own: found first, and what stands between them encoded apart.

So published tokenizers do with their added tokens, and so it is the same with every library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from glmprep.encoders import Encoder, Flat, Offsets, Vocabulary


class Extended:
    """Another encoder, for which each text of `ids`, at least one, is a token wherever it stands.

    Of two that overlap the one that begins first counts, of two that begin at one place the longer.
    """

    def __init__(self, encoder: Encoder, ids: Mapping[str, int]) -> None:
        self._encoder = encoder
        self._ids = ids
        longest_first = sorted(ids, key=len, reverse=True)
        self._tokens = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    @property
    def name(self) -> str:
        """The library that encodes the rest."""
        return self._encoder.name

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        parted = [self._tokens.split(text) for text in texts]  # rest, token, rest, …, rest
        counts = np.fromiter((len(parts) // 2 + 1 for parts in parted), np.int64, len(parted))
        if len(parted) == counts.sum():
            return self._encoder.encode(texts)
        ids, lengths = self._encoder.encode([rest for parts in parted for rest in parts[::2]])
        tokens = [self._ids[token] for parts in parted for token in parts[1::2]]
        ends = np.cumsum(counts)
        before = np.delete(np.cumsum(lengths), ends - 1)  # no token follows the last rest of a text
        widths = np.add.reduceat(lengths, ends - counts) + counts - 1
        return np.insert(ids, before, tokens), widths


class ExtendedVocabulary(Extended):
    """The same of a vocabulary."""

    def __init__(self, vocabulary: Vocabulary, ids: Mapping[str, int]) -> None:
        super().__init__(vocabulary, ids)
        self._vocabulary = vocabulary
        self.size = vocabulary.size

    def encode_with_offsets(self, text: str) -> tuple[list[int], Offsets]:
        """Ids of one text and, for each, its start and end in characters."""
        own = self._vocabulary.encode_with_offsets
        ids: list[int] = []
        offsets: Offsets = []
        for begin, part, token in self._parts(text):
            found, places = ([token], [(0, len(part))]) if token is not None else own(part)
            ids += found
            offsets += [(begin + start, begin + end) for start, end in places]
        return ids, offsets

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text in which the names of all added tokens stand for these tokens."""
        ids: list[int] = []
        for _, part, token in self._parts(text):
            ids += self._vocabulary.encode_marked(part) if token is None else [token]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of them of a token that was added here."""
        return self._vocabulary.decode(ids)

    def _parts(self, text: str) -> Iterator[tuple[int, str, int | None]]:
        """Where each part of a text begins, the part, and its id where it is such a token."""
        begin = 0
        for place, part in enumerate(self._tokens.split(text)):
            yield begin, part, self._ids[part] if place % 2 else None
            begin += len(part)

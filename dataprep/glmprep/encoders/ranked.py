"""Byte pairs joined in Python: slow to encode, but there at once, for little text."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from glmprep.encoders import Flat, flat

Join = tuple[int, int, int, int]
"""A pair that makes a token: that token's id, the ids of the two sides, and where the pair is."""


class Ranked:
    """A vocabulary given as the id of each token's bytes; `pattern` parts a text in words.

    The pair that makes the lowest id is joined first; of pairs that make the same token, the one
    whose sides have the lower ids, and then the leftmost. That is the order of the merges that
    `ranks.from_ranks` gives to the `tokenizers` library.
    """

    name = "ranks"

    def __init__(self, ranks: Mapping[bytes, int], pattern: str) -> None:
        from tokenizers import Regex, pre_tokenizers

        self._ranks = ranks
        self._words = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str
        self._known: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        return flat([self._encode(text) for text in texts])

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word, _ in self._words(text):
            known = self._known.get(word)
            if known is None:
                self._known[word] = known = self._word(word.encode())
            ids += known
        return ids

    def _word(self, word: bytes) -> list[int]:
        """The id of a word if it has one, else those of its bytes, joined."""
        whole = self._ranks.get(word)
        return self._joined(word) if whole is None else [whole]

    def _joined(self, word: bytes) -> list[int]:
        size = len(word)
        ids = [self._ranks[word[place : place + 1]] for place in range(size)]
        ends = [*range(1, size + 1)]  # of the piece that begins at a place, 0 if none does
        befores = [*range(-1, size)]  # where the piece before a place begins

        def pair(left: int) -> Join | None:
            right = ends[left]
            made = self._ranks.get(word[left : ends[right]]) if right < size else None
            return None if made is None else (made, ids[left], ids[right], left)

        heap = [found for found in map(pair, range(size)) if found]
        heapq.heapify(heap)
        while heap:
            found = heapq.heappop(heap)
            left = found[-1]
            if not ends[left] or pair(left) != found:
                continue  # a side of it was joined to another piece
            right = ends[left]
            ids[left], ends[left], ends[right] = found[0], ends[right], 0
            befores[ends[left]] = left
            for place in (befores[left], left):
                if place >= 0 and (other := pair(place)):
                    heapq.heappush(heap, other)
        return [number for number, end in zip(ids, ends, strict=True) if end]

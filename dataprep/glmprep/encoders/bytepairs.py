"""Byte-pair vocabularies by the `tokenizers` library: the reference for the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from glmprep.encoders import Flat, Offsets, flat, joined

if TYPE_CHECKING:
    import tokenizers

AT_ONCE = 500_000
"""Characters that the library is given at once: it keeps some hundred bytes for each token."""


class BytePairs:
    """A vocabulary of the `tokenizers` library."""

    name = "tokenizers"

    def __init__(self, whole: tokenizers.Tokenizer) -> None:
        import tokenizers

        whole.no_truncation()
        self._whole = whole
        # The same model, without the added tokens and without truncation or padding.
        self._encoder = tokenizers.Tokenizer(whole.model)
        if whole.normalizer is not None:
            self._encoder.normalizer = whole.normalizer
        if whole.pre_tokenizer is not None:
            self._encoder.pre_tokenizer = whole.pre_tokenizer
        if whole.decoder is not None:
            self._encoder.decoder = whole.decoder
        self.size: int = self._encoder.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        return joined([self._encode(part) for part in _parts(texts)])

    def encode_with_offsets(self, text: str) -> tuple[list[int], Offsets]:
        """Ids of one text and, for each, its start and end in characters."""
        encoding = self._encoder.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text in which the names of added tokens stand for these tokens."""
        return list(self._whole.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return self._encoder.decode(list(ids), skip_special_tokens=False)

    def _encode(self, texts: Sequence[str]) -> Flat:
        encodings = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        return flat([encoding.ids for encoding in encodings])


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    begin = characters = 0
    for place, text in enumerate(texts):
        if characters > AT_ONCE:
            yield texts[begin:place]
            begin, characters = place, 0
        characters += len(text)
    yield texts[begin:]

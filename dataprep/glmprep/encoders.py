"""Text to ids and back by a vocabulary alone: no token is added, and none is recognised in text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tokenizers

Offsets = list[tuple[int, int]]
BREAK = "\n"


class Encoder(Protocol):
    """A vocabulary: `size` ids, from 0 on."""

    size: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], Offsets]:
        """Ids of one text and, for each, its start and end in characters.

        The ids of one character that is spelt in bytes all span that character.
        """

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text in which the names of added tokens stand for these tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


class BytePairs:
    """A vocabulary of the `tokenizers` library."""

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

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        encodings = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

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


class SentencePieces:
    """A SentencePiece model, such as ChatGLM3's `tokenizer.model`.

    The library puts a space before every text, so that the ids of two parts are not those of the
    whole. Here no space is added: whoever wants the library's ids of a text encodes it with a
    space before it. Raises ValueError for bytes that hold no model.
    """

    def __init__(self, data: bytes) -> None:
        import sentencepiece

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
            self.size: int = self._model.vocab_size()
        except RuntimeError as error:
            raise ValueError("not a SentencePiece model") from error
        if not self.size:
            raise ValueError("an empty SentencePiece model")
        # Behind a line break, which joins with nothing, a text is encoded as it stands.
        self._break: list[int] = self._model.encode(BREAK)
        self.unknown: int = self._model.unk_id()
        self.begin: int = self._model.bos_id()
        self.end: int = self._model.eos_id()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        skip = len(self._break)
        encoded: list[list[int]] = self._model.encode([BREAK + text for text in texts])
        return [ids[skip:] for ids in encoded]

    def encode_with_offsets(self, text: str) -> tuple[list[int], Offsets]:
        """Ids of one text and, for each, its start and end in characters."""
        encoded = self._model.encode(BREAK + text, return_type="offset_mapping")
        skip, shift = len(self._break), len(BREAK)
        ids: list[int] = encoded["ids"][skip:]
        offsets = [(start - shift, end - shift) for start, end in encoded["offsets"][skip:]]
        # The library gives a character spelt in bytes to the last of them.
        for place in range(len(ids) - 2, -1, -1):
            if self._model.is_byte(ids[place]) and offsets[place][0] == offsets[place][1]:
                offsets[place] = offsets[place + 1]
        return ids, offsets

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text; the model's own code never takes a name in it for a token."""
        return self.encode([text])[0]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        text: str = self._model.decode([*self._break, *ids])
        return text.removeprefix(BREAK)

"""SentencePiece vocabularies, such as ChatGLM3's."""

from __future__ import annotations

from collections.abc import Sequence

from glmprep.encoders import Flat, Offsets, flat

BREAK = "\n"


class SentencePieces:
    """A SentencePiece model, such as ChatGLM3's `tokenizer.model`.

    The library puts a space before every text, so that the ids of two parts are not those of the
    whole. Here no space is added: whoever wants the library's ids of a text encodes it with a
    space before it. Raises ValueError for bytes that hold no model.
    """

    name = "sentencepiece"

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

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        return flat(self._encode(texts))

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
        return self._encode([text])[0]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        text: str = self._model.decode([*self._break, *ids])
        return text.removeprefix(BREAK)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        skip = len(self._break)
        encoded: list[list[int]] = self._model.encode([BREAK + text for text in texts])
        return [ids[skip:] for ids in encoded]

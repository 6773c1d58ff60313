"""Text to ids: the tokenizer with every added token taken out, and the added tokens by id.

Content never turns into a control token: `<|assistant|>` typed by a user stays text. The
`tokenizers` option `encode_special_tokens` would cover only tokens that are marked special, so the
added tokens are removed from the encoder altogether, and the templates put them in by id.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glmprep.errors import InputError

EMBEDDED = "glm4"
Int32 = npt.NDArray[np.int32]


class Tokenizer:
    """Encodes content; knows the ids of the added tokens.

    `fingerprint` is the sha256 of the tokenizer.json, so that shards tell which one made them.
    """

    def __init__(self, data: bytes, name: str) -> None:
        import tokenizers

        self.name = name
        self.fingerprint = hashlib.sha256(data).hexdigest()
        try:
            whole = tokenizers.Tokenizer.from_str(data.decode())
        except Exception as error:  # the library raises plain Exception for a malformed file
            reason = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise InputError(f"{name}: not a tokenizer ({reason})") from error
        self.added: Mapping[str, int] = {
            token.content: number for number, token in whole.get_added_tokens_decoder().items()
        }
        # The same model, without the added tokens and without truncation or padding.
        self._encoder = tokenizers.Tokenizer(whole.model)
        if whole.normalizer is not None:
            self._encoder.normalizer = whole.normalizer
        if whole.pre_tokenizer is not None:
            self._encoder.pre_tokenizer = whole.pre_tokenizer
        if whole.decoder is not None:
            self._encoder.decoder = whole.decoder

    def encode_batch(self, texts: Sequence[str]) -> tuple[Int32, npt.NDArray[np.int64]]:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        encodings = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        parts = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        return np.fromiter(chain.from_iterable(parts), np.int32, int(lengths.sum())), lengths

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of one text and, for each, its start and end in characters."""
        encoding = self._encoder.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, added tokens by their names."""
        parts: list[str] = []
        run: list[int] = []
        for token in [*map(int, ids), None]:
            if token is not None and token not in self._names:
                run.append(token)
                continue
            if run:
                parts.append(self._encoder.decode(run, skip_special_tokens=False))
                run = []
            if token is not None:
                parts.append(self._names[token])
        return "".join(parts)

    def is_added(self, token: int) -> bool:
        """Whether the id is an added token (a role, a prefix or another control token)."""
        return token in self._names

    def added_id(self, text: str) -> int:
        """Id of an added token; raises InputError when this tokenizer lacks it."""
        if text not in self.added:
            raise InputError(f"{self.name}: the tokenizer has no token {text}; is it a GLM one?")
        return self.added[text]

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max([self._encoder.get_vocab_size() - 1, *self.added.values()]) + 1

    @cached_property
    def _names(self) -> dict[int, str]:
        return {token: text for text, token in self.added.items()}


def load(spec: str = EMBEDDED) -> Tokenizer:
    """The embedded GLM-4 tokenizer (`glm4`), a tokenizer.json, or a folder that holds one.

    Raises InputError for anything else.
    """
    if spec == EMBEDDED:
        packed = resources.files("glmprep").joinpath("assets/glm4.tokenizer.json.gz")
        return Tokenizer(gzip.decompress(packed.read_bytes()), EMBEDDED)
    path = Path(spec)
    if path.is_dir():
        path = path / "tokenizer.json"
        if not path.exists() and path.with_suffix(".json.gz").exists():
            path = path.with_suffix(".json.gz")
    try:
        data = path.read_bytes()
        return Tokenizer(gzip.decompress(data) if path.suffix == ".gz" else data, spec)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{spec}: no tokenizer there ({reason}); give glm4 or a folder with tokenizer.json"
        ) from error


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a manifest keeps of a tokenizer; a path on this machine is not part of it."""
    return {"name": Path(tokenizer.name).name, "sha256": tokenizer.fingerprint}

"""Text to ids: the tokenizer with every added token taken out, and the added tokens by id.

Content never turns into a control token: `<|assistant|>` typed by a user stays text. The
`tokenizers` option `encode_special_tokens` would cover only tokens that are marked special, so the
added tokens are removed from the encoder altogether, and the templates put them in by id. Texts
that a person adds are the exception: they are tokens wherever they stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from glmprep.encoders import Encoder, Vocabulary
from glmprep.encoders.choosing import ENGINES as ENGINES
from glmprep.encoders.extended import Extended, ExtendedVocabulary
from glmprep.encoders.growing import Growing
from glmprep.encoders.loading import CONFIG as CONFIG
from glmprep.encoders.loading import Loaded, Wanted, from_file, from_package
from glmprep.encoders.loading import read_json as read_json
from glmprep.encoders.sentencepieces import SentencePieces
from glmprep.errors import InputError, UsageError

EMBEDDED = "glm4"
FILES = ("tokenizer.json", "tokenizer.json.gz", "tokenizer.model")
"""What a tokenizer is read from, the first of them that a folder has."""
Int32 = npt.NDArray[np.int32]


class Tokenizer:
    """Encodes content; knows the ids of the added tokens.

    `added` holds the vocabulary's own added tokens that can be told from words by their text (not
    ChatGLM3's `sop`), `new` the tokens of `adding`, and `descriptions` what those of them stand for
    that were described; `vocab_size` is one more than the largest id. `fingerprint` is the sha256
    of what the tokenizer was made from, so that shards tell which one made them; `folder` is where
    that lies, None for the embedded one.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        name: str,
        folder: Path | None = None,
        new: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        new = new or {}
        size = max([loaded.size - 1, *loaded.added.values()]) + 1
        fresh = [text for text in new if text not in loaded.added]
        self._ids = {**loaded.added, **{text: size + n for n, text in enumerate(fresh)}}
        self._names = {token: text for text, token in self._ids.items()}
        self.vocab_size = size + len(fresh)
        self.new = {text: self._ids[text] for text in new}
        self.descriptions = {text: described for text, described in new.items() if described}
        self.added = {
            text: token
            for text, token in loaded.added.items()
            if not text.isalpha() and text not in new
        }
        self.fingerprint = _extended(loaded.fingerprint, fresh) if fresh else loaded.fingerprint
        self._loaded = loaded
        self._encoder: Encoder = Extended(loaded.encoder, self.new) if new else loaded.encoder

    def adding(self, texts: Mapping[str, str]) -> Tokenizer:
        """This tokenizer with texts that are tokens wherever they stand, described or not ("").

        Their ids follow those of the vocabulary, in the order given; a text that is an added token
        already keeps its id. What may be added is for `added` to tell.
        """
        if not texts:
            return self
        return Tokenizer(self._loaded, name=self.name, folder=self.folder, new=texts)

    @property
    def plain(self) -> Tokenizer:
        """This tokenizer without the tokens of `adding`."""
        return Tokenizer(self._loaded, name=self.name, folder=self.folder) if self.new else self

    @property
    def engine(self) -> str:
        """The library that encodes at present."""
        return self._encoder.name

    @property
    def notes(self) -> list[str]:
        """Why another library encodes than was meant to; empty where all is well."""
        return self._loaded.encoder.notes if isinstance(self._loaded.encoder, Growing) else []

    def get_ready(self) -> None:
        """Load now what is needed for as much text as is expected, not with the first text.

        To be called before worker processes are forked, so that they share it.
        """
        if isinstance(self._loaded.encoder, Growing):
            self._loaded.encoder.grow()

    @property
    def is_sentencepiece(self) -> bool:
        """Whether the vocabulary is a SentencePiece model, as ChatGLM3's is."""
        return isinstance(self._loaded.encoder, SentencePieces)

    def encode_batch(self, texts: Sequence[str]) -> tuple[Int32, npt.NDArray[np.int64]]:
        """Ids of all texts, one after the other, and the number of ids of each text.

        Raises InputError for a text that is not Unicode: half of a surrogate pair.
        """
        try:
            return self._encoder.encode(texts)
        except (TypeError, UnicodeEncodeError) as error:
            if all(map(_is_unicode, texts)):
                raise
            raise InputError("a text holds half of a surrogate pair, which has no ids") from error

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of one text and, for each, its start and end in characters."""
        return self._vocabulary.encode_with_offsets(text)

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        ids: list[int] = self.encode_batch([text])[0].tolist()
        return ids

    def encode_marked(self, text: str) -> list[int]:
        """Ids of one text in which the names of added tokens stand for these tokens.

        For what a template writes; what people write goes through `encode`.
        """
        return self._vocabulary.encode_marked(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, added tokens by their names."""
        return "".join(self._decoded(ids))

    def is_added(self, token: int) -> bool:
        """Whether the id is a role, a prefix or another control token of the vocabulary."""
        return token in self._names and self._names[token] not in self.new

    def added_id(self, text: str) -> int:
        """Id of an added token; raises InputError when this tokenizer lacks it."""
        if text not in self._ids:
            raise InputError(f"{self.name}: the tokenizer has no token {text}; is it a GLM one?")
        return self._ids[text]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        found = self._loaded.vocabulary()
        return ExtendedVocabulary(found, self.new) if self.new else found

    def _decoded(self, ids: Sequence[int]) -> Iterator[str]:
        run: list[int] = []
        for token in [*map(int, ids), None]:
            if token is not None and token not in self._names:
                run.append(token)
                continue
            if run:
                yield self._vocabulary.decode(run)
                run = []
            if token is not None:
                yield self._names[token]


def load(spec: str = EMBEDDED, *, engine: str = "auto", text_bytes: int = 0) -> Tokenizer:
    """The embedded GLM-4 tokenizer (`glm4`), or the one of a model's folder, or of a file in it.

    Reads a tokenizer.json, ChatGLM3's SentencePiece model and GLM-4's ranks (tokenizer.model).
    `engine` is one of ENGINES; all give the same ids. `auto` takes what is quickest for
    `text_bytes` of text, or for what has come so far if that is more. Raises InputError for any
    other file, UsageError for an engine that there is not or that cannot take this vocabulary.
    """
    if engine not in ENGINES:
        raise UsageError(f"no tokenizer engine is called {engine}; there are {', '.join(ENGINES)}")
    wanted = Wanted(name=spec, engine=engine, text_bytes=text_bytes)
    if spec == EMBEDDED:
        return Tokenizer(from_package(wanted), name=spec)
    path = Path(spec)
    if path.is_dir():
        path = next((path / name for name in FILES if (path / name).exists()), path / FILES[0])
    return Tokenizer(from_file(path, wanted), name=spec, folder=path.parent)


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a manifest keeps of a tokenizer; a path on this machine is not part of it."""
    return {"name": Path(tokenizer.name).name, "sha256": tokenizer.fingerprint}


def _extended(fingerprint: str, texts: Sequence[str]) -> str:
    return hashlib.sha256(orjson.dumps([fingerprint, *texts])).hexdigest()


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)

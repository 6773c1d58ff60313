"""Text to ids: the tokenizer with every added token taken out, and the added tokens by id.

Content never turns into a control token: `<|assistant|>` typed by a user stays text. The
`tokenizers` option `encode_special_tokens` would cover only tokens that are marked special, so the
added tokens are removed from the encoder altogether, and the templates put them in by id.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from glmprep.encoders import BytePairs, Encoder, SentencePieces
from glmprep.errors import InputError
from glmprep.ranks import are_ranks, from_ranks

EMBEDDED = "glm4"
FILES = ("tokenizer.json", "tokenizer.json.gz", "tokenizer.model")
"""What a tokenizer is read from, the first of them that a folder has."""
CONFIG = "tokenizer_config.json"
CHATGLM3 = (
    *("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
"""The tokens that ChatGLM3's own code adds to its SentencePiece model, in this order."""
RANKS_CLASSES = ("ChatGLM4Tokenizer", "PreTrainedTokenizerFast", None)
Int32 = npt.NDArray[np.int32]


class Tokenizer:
    """Encodes content; knows the ids of the added tokens.

    `added` holds the added tokens that can be told from words by their text (not ChatGLM3's `sop`).
    `fingerprint` is the sha256 of what the tokenizer was made from, so that shards tell which one
    made them; `folder` is where that lies, None for the embedded one.
    """

    def __init__(
        self,
        encoder: Encoder,
        added: Mapping[str, int],
        *,
        name: str,
        fingerprint: str,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.folder = folder
        self.added = {text: token for text, token in added.items() if not text.isalpha()}
        self._ids = dict(added)
        self._names = {token: text for text, token in added.items()}
        self._encoder = encoder

    @property
    def is_sentencepiece(self) -> bool:
        """Whether the vocabulary is a SentencePiece model, as ChatGLM3's is."""
        return isinstance(self._encoder, SentencePieces)

    def encode_batch(self, texts: Sequence[str]) -> tuple[Int32, npt.NDArray[np.int64]]:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        parts = self._encoder.encode(texts)
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        return np.fromiter(chain.from_iterable(parts), np.int32, int(lengths.sum())), lengths

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of one text and, for each, its start and end in characters."""
        return self._encoder.encode_with_offsets(text)

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        return list(self._encoder.encode([text])[0])

    def encode_marked(self, text: str) -> list[int]:
        """Ids of one text in which the names of added tokens stand for these tokens.

        For what a template writes; what people write goes through `encode`.
        """
        return self._encoder.encode_marked(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, added tokens by their names."""
        return "".join(self._decoded(ids))

    def is_added(self, token: int) -> bool:
        """Whether the id is an added token (a role, a prefix or another control token)."""
        return token in self._names

    def added_id(self, text: str) -> int:
        """Id of an added token; raises InputError when this tokenizer lacks it."""
        if text not in self._ids:
            raise InputError(f"{self.name}: the tokenizer has no token {text}; is it a GLM one?")
        return self._ids[text]

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max([self._encoder.size - 1, *self._names]) + 1

    def _decoded(self, ids: Sequence[int]) -> Iterator[str]:
        run: list[int] = []
        for token in [*map(int, ids), None]:
            if token is not None and token not in self._names:
                run.append(token)
                continue
            if run:
                yield self._encoder.decode(run)
                run = []
            if token is not None:
                yield self._names[token]


def load(spec: str = EMBEDDED) -> Tokenizer:
    """The embedded GLM-4 tokenizer (`glm4`), or the one of a model's folder, or of a file in it.

    Reads a tokenizer.json, ChatGLM3's SentencePiece model and GLM-4's ranks (tokenizer.model).
    Raises InputError for anything else.
    """
    if spec == EMBEDDED:
        packed = resources.files("glmprep").joinpath("assets/glm4.tokenizer.json.gz")
        return _from_json(gzip.decompress(packed.read_bytes()), EMBEDDED, None)
    path = Path(spec)
    if path.is_dir():
        path = next((path / name for name in FILES if (path / name).exists()), path / FILES[0])
    data = _read(path, spec)
    if path.suffix != ".model":
        return _from_json(data, spec, path.parent)
    return (
        _from_ranks(data, spec, path.parent)
        if are_ranks(data)
        else _from_pieces(data, spec, path.parent)
    )


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a manifest keeps of a tokenizer; a path on this machine is not part of it."""
    return {"name": Path(tokenizer.name).name, "sha256": tokenizer.fingerprint}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder, empty where there is no such file.

    Raises InputError for a file that holds anything else.
    """
    if not path.is_file():
        return {}
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not readable as JSON ({reason})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no JSON object")
    return value


def _read(path: Path, spec: str) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{spec}: no tokenizer there ({reason}); "
            "give glm4 or a folder with tokenizer.json or tokenizer.model"
        ) from error


def _from_json(data: bytes, name: str, folder: Path | None) -> Tokenizer:
    import tokenizers

    try:
        whole = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises plain Exception for a malformed file
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{name}: not a tokenizer ({reason})") from error
    return Tokenizer(
        BytePairs(whole),
        {token.content: number for number, token in whole.get_added_tokens_decoder().items()},
        name=name,
        fingerprint=hashlib.sha256(data).hexdigest(),
        folder=folder,
    )


def _from_pieces(data: bytes, name: str, folder: Path) -> Tokenizer:
    try:
        encoder = SentencePieces(data)
    except ValueError as error:
        raise InputError(
            f"{name}: tokenizer.model is neither a SentencePiece model nor byte-pair ranks; "
            "is it cut off, or a pointer of Git LFS?"
        ) from error
    own = {"<unk>": encoder.unknown, "<s>": encoder.begin, "</s>": encoder.end}
    return Tokenizer(
        encoder,
        {**own, **{text: encoder.size + place for place, text in enumerate(CHATGLM3)}},
        name=name,
        fingerprint=hashlib.sha256(data).hexdigest(),
        folder=folder,
    )


def _from_ranks(data: bytes, name: str, folder: Path) -> Tokenizer:
    import tokenizers

    config = read_json(folder / CONFIG)
    kind = config.get("tokenizer_class")
    if kind not in RANKS_CLASSES:
        raise InputError(f"{name}: the ranks are of a {kind}, not of a GLM; give a tokenizer.json")
    try:
        whole = from_ranks(data)
    except ValueError as error:
        raise InputError(f"{name}: tokenizer.model is damaged ({error})") from error
    listed = _added(config, whole.get_vocab_size())
    if not listed:
        raise InputError(f"{name}: {CONFIG} beside tokenizer.model names no added tokens")
    whole.add_special_tokens(
        [
            tokenizers.AddedToken(text, normalized=False)
            for text in sorted(listed, key=listed.__getitem__)
        ]
    )
    added = {token.content: number for number, token in whole.get_added_tokens_decoder().items()}
    if added != listed:
        raise InputError(f"{name}: {CONFIG}: the added tokens' ids do not follow the ranks")
    stamp = hashlib.sha256(data + orjson.dumps(added, option=orjson.OPT_SORT_KEYS))
    return Tokenizer(
        BytePairs(whole), added, name=name, fingerprint=stamp.hexdigest(), folder=folder
    )


def _added(config: Mapping[str, Any], first: int) -> dict[str, int]:
    """Added tokens as a tokenizer_config.json lists them: with their ids, or in order."""
    try:
        listed = config.get("added_tokens_decoder") or {}
        added = {str(token["content"]): int(number) for number, token in listed.items()}
        names = [] if added else config.get("additional_special_tokens") or []
        return added or {str(text): first + place for place, text in enumerate(names)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{CONFIG}: its added tokens are malformed") from error

"""Vocabularies from files: a tokenizer.json, byte-pair ranks, a SentencePiece model, our own."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from glmprep.encoders import Encoder, Vocabulary, embedded, known
from glmprep.encoders.bytepairs import BytePairs
from glmprep.encoders.choosing import choose
from glmprep.encoders.fastokens import plain
from glmprep.encoders.ranked import Ranked
from glmprep.encoders.sentencepieces import SentencePieces
from glmprep.errors import InputError, UsageError
from glmprep.ranks import WORDS, are_ranks, from_ranks

if TYPE_CHECKING:
    import tokenizers

CONFIG = "tokenizer_config.json"
CHATGLM3 = (
    *("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
"""The tokens that ChatGLM3's own code adds to its SentencePiece model, in this order."""
RANKS_CLASSES = ("ChatGLM4Tokenizer", "PreTrainedTokenizerFast", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A vocabulary of `size` ids, with its added tokens and the sha256 of what it was made from.

    `vocabulary` loads it; `encoder` may do without.
    """

    encoder: Encoder
    vocabulary: Callable[[], Vocabulary]
    added: Mapping[str, int]
    size: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The engine that is asked for, the text that is expected, and what to call it in messages."""

    name: str
    engine: str
    text_bytes: int


def from_package(wanted: Wanted) -> Loaded:
    """The embedded GLM-4 vocabulary."""
    facts = embedded.facts()
    reference = cache(embedded.reference)
    encoder = choose(
        wanted.name,
        wanted.engine,
        reference,
        small=lambda: Ranked(embedded.ranks(), WORDS),
        data=embedded.bare,
        answers=lambda: facts.answers,
        expected=wanted.text_bytes,
    )
    return Loaded(
        encoder=encoder,
        vocabulary=reference,
        added=facts.added,
        size=facts.size,
        fingerprint=facts.sha256,
    )


def from_file(path: Path, wanted: Wanted) -> Loaded:
    """The vocabulary of a tokenizer.json, plain or with gzip, or of a tokenizer.model.

    Raises InputError for anything else, UsageError for an engine that cannot take it.
    """
    data = _read(path, wanted.name)
    if path.suffix != ".model":
        return _from_json(data, wanted)
    return _from_ranks(data, path.parent, wanted) if are_ranks(data) else _from_pieces(data, wanted)


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


def _byte_pairs(
    whole: tokenizers.Tokenizer, data: Callable[[], bytes], fingerprint: str, wanted: Wanted
) -> Loaded:
    vocabulary = BytePairs(whole)
    encoder = choose(
        wanted.name,
        wanted.engine,
        lambda: vocabulary,
        data=lambda: plain(data()),
        answers=lambda: vocabulary.encode(known.texts()),
        expected=wanted.text_bytes,
    )
    return Loaded(
        encoder=encoder,
        vocabulary=lambda: vocabulary,
        added=_added_of(whole),
        size=vocabulary.size,
        fingerprint=fingerprint,
    )


def _added_of(whole: tokenizers.Tokenizer) -> dict[str, int]:
    tokens = whole.get_added_tokens_decoder().items()
    return {token.content: number for number, token in tokens}


def _from_json(data: bytes, wanted: Wanted) -> Loaded:
    import tokenizers

    try:
        whole = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises plain Exception for a malformed file
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{wanted.name}: not a tokenizer ({reason})") from error
    return _byte_pairs(whole, lambda: data, hashlib.sha256(data).hexdigest(), wanted)


def _from_pieces(data: bytes, wanted: Wanted) -> Loaded:
    if wanted.engine == "fastokens":
        raise UsageError(
            f"{wanted.name}: fastokens cannot take a SentencePiece model; leave it to auto"
        )
    try:
        encoder = SentencePieces(data)
    except ValueError as error:
        raise InputError(
            f"{wanted.name}: tokenizer.model is neither a SentencePiece model nor byte-pair ranks; "
            "is it cut off, or a pointer of Git LFS?"
        ) from error
    own = {"<unk>": encoder.unknown, "<s>": encoder.begin, "</s>": encoder.end}
    first = {text: encoder.size + place for place, text in enumerate(CHATGLM3)}
    return Loaded(
        encoder=encoder,
        vocabulary=lambda: encoder,
        added={**own, **first},
        size=encoder.size,
        fingerprint=hashlib.sha256(data).hexdigest(),
    )


def _from_ranks(data: bytes, folder: Path, wanted: Wanted) -> Loaded:
    import tokenizers

    config = read_json(folder / CONFIG)
    kind = config.get("tokenizer_class")
    if kind not in RANKS_CLASSES:
        raise InputError(
            f"{wanted.name}: the ranks are of a {kind}, not of a GLM; give a tokenizer.json"
        )
    try:
        whole = from_ranks(data)
    except ValueError as error:
        raise InputError(f"{wanted.name}: tokenizer.model is damaged ({error})") from error
    listed = _added(config, whole.get_vocab_size())
    if not listed:
        raise InputError(f"{wanted.name}: {CONFIG} beside tokenizer.model names no added tokens")
    whole.add_special_tokens(
        [
            tokenizers.AddedToken(text, normalized=False)
            for text in sorted(listed, key=listed.__getitem__)
        ]
    )
    added = _added_of(whole)
    if added != listed:
        raise InputError(f"{wanted.name}: {CONFIG}: the added tokens' ids do not follow the ranks")
    stamp = hashlib.sha256(data + orjson.dumps(added, option=orjson.OPT_SORT_KEYS))
    return _byte_pairs(whole, lambda: whole.to_str().encode(), stamp.hexdigest(), wanted)


def _added(config: Mapping[str, Any], first: int) -> dict[str, int]:
    """Added tokens as a tokenizer_config.json lists them: with their ids, or in order."""
    try:
        listed = config.get("added_tokens_decoder") or {}
        added = {str(token["content"]): int(number) for number, token in listed.items()}
        names = [] if added else config.get("additional_special_tokens") or []
        return added or {str(text): first + place for place, text in enumerate(names)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{CONFIG}: its added tokens are malformed") from error

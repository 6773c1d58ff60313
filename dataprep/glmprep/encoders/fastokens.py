"""Byte-pair vocabularies by the `fastokens` library, which makes no Python object per token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from glmprep.encoders import Flat


class Unfit(ValueError):
    """A vocabulary of a kind that the library is not used for."""


class Fastokens:
    """A vocabulary of the `fastokens` library, from the text of a tokenizer.json (see `plain`).

    Raises ImportError where the library is not installed, and what the library raises.
    """

    name = "fastokens"

    def __init__(self, text: str) -> None:
        import fastokens

        self._native = fastokens.Tokenizer.from_json_str(text)

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        ids, ends = self._native.encode_batch_flat(list(texts))
        bounds = np.frombuffer(ends, np.int64)
        return np.frombuffer(ids, np.int32), bounds[1:] - bounds[:-1]


def plain(data: bytes) -> str:
    """A tokenizer.json without added tokens, with merges in the form that loads the quickest.

    Raises Unfit for a vocabulary that is not byte pairs over the bytes of a text as it stands.
    """
    whole = orjson.loads(data)
    _require_bytes(whole)
    model = {**whole["model"], "merges": [_spaced(merge) for merge in whole["model"]["merges"]]}
    kept = {key: whole.get(key) for key in ("version", "pre_tokenizer", "decoder")}
    unused = dict.fromkeys(("normalizer", "post_processor", "truncation", "padding"))
    return orjson.dumps({**kept, **unused, "added_tokens": [], "model": model}).decode()


def _spaced(merge: str | Sequence[str]) -> str:
    text = merge if isinstance(merge, str) else " ".join(merge)
    if text.count(" ") != 1:
        raise Unfit("a token holds a space, so that its bytes are not spelt as usual")
    return text


def _require_bytes(whole: Mapping[str, Any]) -> None:
    model = whole["model"]
    words = whole.get("pre_tokenizer") or {}
    *before, last = words.get("pretokenizers") or [words]
    if model.get("type") != "BPE":
        raise Unfit(f"its model is {model.get('type')}, not byte pairs")
    if whole.get("normalizer") is not None:
        raise Unfit("it changes a text before it encodes it")
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise Unfit("it does not encode the bytes of a text as they are")
    if any(step.get("type") != "Split" for step in before):
        raise Unfit("it parts a text in words in an unusual way")
    marks = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "unk_token")
    if any(model.get(key) for key in (*marks, "byte_fallback", "fuse_unk")):
        raise Unfit("its byte pairs are of an unusual kind")

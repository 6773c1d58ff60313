"""The GLM-4 vocabulary that comes with the package, in the forms in which it loads quickly.

`glm4.tokenizer.json.gz` is the published tokenizer.json without line breaks, and without the added
tokens, so that it can be loaded as it is; `glm4.ranks.gz` the bytes of its tokens;
`glm4.facts.json.gz` what else it says and what is known of it beforehand, so that neither the
published file nor the reference must be loaded. `make` makes them, as `bench/embed.py` calls it.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson

from glmprep.encoders import Flat, known
from glmprep.encoders.bytepairs import BytePairs

BARE, RANKS, FACTS = "glm4.tokenizer.json", "glm4.ranks", "glm4.facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the published tokenizer.json: its sha256, ids in its vocabulary, added tokens, answers.

    `left_out` are its parts that the bare file has not.
    """

    sha256: str
    size: int
    left_out: Mapping[str, Any]
    answers: Flat

    @property
    def added(self) -> dict[str, int]:
        """The added tokens and their ids."""
        return {token["content"]: token["id"] for token in self.left_out["added_tokens"]}


def bare() -> str:
    """The tokenizer.json without added tokens, and with merges as strings."""
    return _read(BARE).decode()


def whole() -> bytes:
    """The tokenizer.json with merges as strings."""
    return orjson.dumps({**orjson.loads(bare()), **facts().left_out})


def reference() -> BytePairs:
    """The vocabulary by the `tokenizers` library."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(bare())
    listed = [
        tokenizers.AddedToken(**{key: x for key, x in token.items() if key != "id"})
        for token in facts().left_out["added_tokens"]
    ]
    made.add_tokens(listed)
    return BytePairs(made)


@cache
def facts() -> Facts:
    """What is known of it beforehand."""
    value = orjson.loads(_read(FACTS))
    ids, lengths = value.pop("ids"), value.pop("lengths")
    return Facts(**value, answers=(np.array(ids, np.int32), np.array(lengths, np.int64)))


def ranks() -> dict[bytes, int]:
    """The id of each token's bytes."""
    data = _read(RANKS)
    size = facts().size
    lengths = np.frombuffer(data, "<u2", size).tolist()
    ends = accumulate(lengths, initial=2 * size)
    return {data[begin:end]: rank for rank, (begin, end) in enumerate(pairwise(ends))}


def make(published: bytes) -> dict[str, bytes]:
    """The files of the package from the published tokenizer.json, by name, not yet compressed."""
    import tokenizers

    from glmprep.ranks import unspelt

    value: dict[str, Any] = orjson.loads(published)
    value["model"]["merges"] = [" ".join(merge) for merge in value["model"]["merges"]]
    left_out = {"added_tokens": value["added_tokens"], "post_processor": value["post_processor"]}
    value |= {"added_tokens": [], "post_processor": None}
    vocabulary = value["model"]["vocab"]
    tokens = [unspelt(text) for text in sorted(vocabulary, key=vocabulary.__getitem__)]
    ids, lengths = BytePairs(tokenizers.Tokenizer.from_str(published.decode())).encode(
        known.texts()
    )
    about = {
        "sha256": hashlib.sha256(published).hexdigest(),
        "size": len(tokens),
        "left_out": left_out,
        "lengths": lengths.tolist(),
        "ids": ids.tolist(),
    }
    widths = np.array([len(token) for token in tokens], "<u2").tobytes()
    return {
        BARE: orjson.dumps(value),
        RANKS: widths + b"".join(tokens),
        FACTS: orjson.dumps(about),
    }


def _read(name: str) -> bytes:
    packed = resources.files("glmprep").joinpath(f"assets/{name}.gz")
    return gzip.decompress(packed.read_bytes())

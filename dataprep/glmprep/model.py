"""What a model's config.json says of its shape and of its window. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep.errors import InputError, UsageError
from glmprep.shape import GLM4_9B, Shape
from glmprep.tokenizer import EMBEDDED, FILES, read_json

CONFIG = "config.json"
TINY = "tiny"
EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts")
NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size",),
    "layers": ("num_hidden_layers", "num_layers"),
    "heads": ("num_attention_heads",),
    "feed_forward": ("intermediate_size", "ffn_hidden_size"),
    "vocabulary": ("padded_vocab_size", "vocab_size"),
}
"""What a number is called in config.json: by transformers, and in the first GLM-4's own code."""
KV_HEADS = ("num_key_value_heads", "multi_query_group_num")
HEAD = ("head_dim", "kv_channels")
WINDOW = ("max_position_embeddings", "seq_length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model to train: `spec` as `glmtrain run --model` takes it, and where its tokenizer is.

    `shape` is None for a mixture of experts, whose memory is not reckoned here; `window` is None
    where it is not told. `assumed` says that no model was named.
    """

    name: str
    spec: str
    tokenizer: str
    shape: Shape | None
    window: int | None
    assumed: bool = False


ASSUMED = Model(
    name=GLM4_9B.name, spec=TINY, tokenizer=EMBEDDED, shape=GLM4_9B, window=131_072, assumed=True
)
SMALL = Model(
    name=TINY,
    spec=TINY,
    tokenizer=EMBEDDED,
    shape=Shape(name=TINY, hidden=128, layers=2, kv=64, feed_forward=256, vocabulary=151_552),
    window=131_072,
)
"""The random model of `glmtrain`, for trying things out."""


def read(spec: str | None) -> Model:
    """The model of `--model`; without one, GLM-4-9B is assumed.

    Raises UsageError for what is no folder with a config.json, InputError for a config.json that
    lacks what it needs.
    """
    if spec is None:
        return ASSUMED
    if spec == TINY:
        return SMALL
    folder = Path(spec)
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"--model {spec}: no folder with a {CONFIG}; name a model's folder, or tiny"
        )
    config = read_json(folder / CONFIG)
    own = any((folder / name).is_file() for name in FILES)
    return Model(
        name=folder.resolve().name,
        spec=spec,
        tokenizer=spec if own else EMBEDDED,
        shape=None if _experts(config) else _shape(config, folder),
        window=_number(config, WINDOW),
    )


def _experts(config: Mapping[str, Any]) -> bool:
    return (_number(config, EXPERTS) or 0) > 1


def _shape(config: Mapping[str, Any], folder: Path) -> Shape:
    found = {ours: _number(config, theirs) for ours, theirs in NAMES.items()}
    known = {name: number for name, number in found.items() if number is not None}
    if lacking := sorted(found.keys() - known.keys()):
        names = ", ".join(NAMES[name][0] for name in lacking)
        raise InputError(f"{folder / CONFIG}: does not say {names}; is it a language model?")
    heads = known.pop("heads")
    per_head = _number(config, HEAD) or known["hidden"] // heads
    kv = (_number(config, KV_HEADS) or heads) * per_head
    return Shape(
        name=folder.resolve().name,
        kv=kv,
        hidden=known["hidden"],
        layers=known["layers"],
        feed_forward=known["feed_forward"],
        vocabulary=known["vocabulary"],
    )


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of these that is a number above 0."""
    values = (config.get(name) for name in names)
    return next((v for v in values if type(v) is int and v > 0), None)

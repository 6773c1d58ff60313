"""Shapes of models by name, and by their config.json. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmprep.errors import InputError, UsageError
from glmprep.model import CONFIG, HEAD, KV_HEADS, NAMES, SMALL, TINY
from glmprep.shape import GLM4_9B, Experts, Shape
from glmprep.tokenizer import read_json

MOST = 1 << 40
"""No number of a real model's shape is larger; a larger one is a slip."""
_9B = replace(GLM4_9B, query=4096, rotary=128)
KNOWN: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        replace(_9B, name="GLM-4-9B-chat"),
        replace(_9B, name="GLM-4-9B-0414", norms=4),
        Shape(
            name="GLM-4-32B-0414",
            hidden=6144,
            layers=61,
            kv=256,
            query=6144,
            feed_forward=23_040,
            vocabulary=151_552,
            norms=4,
        ),
        Shape(
            name="GLM-4.5-Air",
            hidden=4096,
            layers=46,
            kv=1024,
            query=12_288,
            feed_forward=10_944,
            vocabulary=151_552,
            experts=Experts(count=128, chosen=8, inner=1408, shared=1408, dense=1),
        ),
        Shape(
            name="GLM-4.5",
            hidden=5120,
            layers=92,
            kv=1024,
            query=12_288,
            feed_forward=12_288,
            vocabulary=151_552,
            head_norms=True,
            experts=Experts(count=160, chosen=8, inner=1536, shared=1536, dense=3),
        ),
    )
}
"""As their config.json says; the layer that GLM-4.5 predicts a second token with is not trained."""
TYPES = ("chatglm", "glm", "glm4", "glm4_moe", "glm4_moe_lite")
"""What config.json calls the models whose layers are as the arithmetic takes them."""
UNLIKE = {"glm4_moe_lite": "its attention keeps compressed keys and values"}


def read(spec: str) -> Shape:
    """The shape of a model's folder, of `tiny`, or of a model that is known by name.

    Raises UsageError for a name that is none, InputError for a config.json of another kind.
    """
    if spec == TINY:
        return replace(SMALL.shape, query=128, rotary=64) if SMALL.shape else GLM4_9B
    known = {_key(name): shape for name, shape in KNOWN.items()}
    if _key(spec) in known:
        return known[_key(spec)]
    if not (Path(spec) / CONFIG).is_file():
        raise UsageError(
            f"--model {spec}: no folder with a {CONFIG}, and no model known by that name; "
            f"known are {', '.join(KNOWN)} and {TINY}"
        )
    return from_config(read_json(Path(spec) / CONFIG), Path(spec))


def from_config(config: Mapping[str, Any], folder: Path) -> Shape:
    """The shape that a config.json tells; raises InputError where it does not tell all of it."""
    where, kind = folder / CONFIG, config.get("model_type")
    if kind not in TYPES or kind in UNLIKE:
        because = UNLIKE.get(str(kind), f"known are {', '.join(TYPES)}")
        raise InputError(
            f"{where}: of a model of type {str(kind)[:40]!r}, whose layers are not those that the "
            f"arithmetic knows ({because}); measure it instead: glmtrain run --dry-run"
        )
    found = {ours: _number(config, theirs, where) for ours, theirs in NAMES.items()}
    if lacking := sorted(name for name, number in found.items() if number is None):
        names = ", ".join(NAMES[name][0] for name in lacking)
        raise InputError(f"{where}: does not say {names}; is it a language model?")
    numbers = {name: number for name, number in found.items() if number is not None}
    heads = numbers.pop("heads")
    width = _number(config, HEAD, where) or max(1, numbers["hidden"] // heads)
    return Shape(
        name=folder.resolve().name,
        kv=(_number(config, KV_HEADS, where) or heads) * width,
        query=heads * width,
        norms=4 if kind == "glm4" else 2,
        rotary=round(2 * _rotated(config) * width),
        tied=config.get("tie_word_embeddings") is True,
        head_norms=config.get("use_qk_norm") is True,
        experts=_experts(config, where),
        **numbers,
    )


def _experts(config: Mapping[str, Any], where: Path) -> Experts | None:
    if (_number(config, ("n_routed_experts",), where) or 0) < 2:
        return None
    names = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
    found = [_number(config, (name,), where) for name in names]
    count, chosen, inner = (number or 0 for number in found)
    if not (chosen and inner):
        lacking = ", ".join(n for n, number in zip(names, found, strict=True) if number is None)
        raise InputError(f"{where}: has experts but does not say {lacking}")
    dense = config.get("first_k_dense_replace")
    return Experts(
        count=count,
        chosen=min(chosen, count),
        inner=inner,
        shared=inner * (_number(config, ("n_shared_experts",), where) or 0),
        dense=dense if type(dense) is int and dense >= 0 else 1,
    )


def _rotated(config: Mapping[str, Any]) -> float:
    """The share of a head that is rotated; half in all GLM-4 models."""
    parameters = config.get("rope_parameters")
    told = parameters if isinstance(parameters, Mapping) else config
    share = told.get("partial_rotary_factor", 0.5)
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else 0.5


def _number(config: Mapping[str, Any], names: tuple[str, ...], where: Path) -> int | None:
    """The first of these that is a number above 0; raises InputError for one beyond reason."""
    values = ((name, config.get(name)) for name in names)
    found = next(((n, v) for n, v in values if type(v) is int and v > 0), None)
    if found is None:
        return None
    if found[1] > MOST:
        raise InputError(f"{where}: {found[0]} = {str(found[1])[:40]} is no size of a model")
    return found[1]


def _key(name: str) -> str:
    """A name without its owner, in lower case, dashes and underscores alike."""
    return name.rpartition("/")[2].lower().replace("_", "-").removesuffix("-hf")

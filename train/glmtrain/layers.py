"""The parts of a language model by their purpose: linear layers, fused experts, routers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from torch import nn

from glmtrain.model import CausalModel

Kind: TypeAlias = Literal[
    "attention", "feed-forward", "experts", "router", "embeddings", "head", "norms", "others"
]
KINDS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("experts", frozenset({"experts"})),
    ("router", frozenset({"gate"})),
    ("feed-forward", frozenset({"mlp", "shared_experts"})),
    ("attention", frozenset({"self_attn", "self_attention"})),
    ("embeddings", frozenset({"embed_tokens", "embedding"})),
    ("head", frozenset({"lm_head", "output_layer"})),
)
"""What a part of a parameter's dotted name says of it, the first that fits."""


def kind(name: str) -> Kind:
    """What the parameter of this name is for."""
    parts = name.split(".")
    if any("norm" in part for part in parts):
        return "norms"
    return next((kind for kind, names in KINDS if names & set(parts)), "others")


def linears(model: CausalModel) -> dict[str, nn.Linear]:
    """The linear layers by name, without the output layer."""
    head = model.get_output_embeddings()
    named = model.named_modules()
    return {name: part for name, part in named if isinstance(part, nn.Linear) and part is not head}


def head_name(model: CausalModel) -> str:
    """The output layer's name, e.g. `lm_head`."""
    return _name(model, model.get_output_embeddings())


def embeddings_name(model: CausalModel) -> str:
    """The input embeddings' name, e.g. `model.embed_tokens`."""
    return _name(model, model.get_input_embeddings())


def fused_experts(model: CausalModel) -> dict[str, tuple[str, ...]]:
    """Modules that hold all experts of a layer in three-dimensional parameters, and these."""
    found = {
        name: tuple(p for p, weight in part.named_parameters(recurse=False) if weight.ndim == 3)
        for name, part in model.named_modules()
    }
    return {name: parameters for name, parameters in found.items() if parameters}


def routers(model: CausalModel) -> Iterator[str]:
    """The names of what chooses the experts, `Glm4MoeTopkRouter` and its like."""
    for name in fused_experts(model):
        block = name.rpartition(".")[0]
        for child, part in model.get_submodule(block).named_children():
            weight = getattr(part, "weight", None)
            if isinstance(weight, nn.Parameter) and not isinstance(part, nn.Linear):
                yield f"{block}.{child}"


def _name(model: CausalModel, wanted: nn.Module) -> str:
    named: Iterator[tuple[str, nn.Module]] = model.named_modules()
    return next(name for name, part in named if part is wanted)

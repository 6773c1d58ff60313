"""A LoRA adapter as its configuration describes it, beside what its file has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmdiag.checkpoints.base import Base
from glmdiag.checkpoints.tensors import Measured

PREFIX = "base_model.model."
PART = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?(\.weight)?$")
OTHER = ("lora_magnitude_vector", "lora_embedding_", "token_adapter", "trainable_tokens")
EMBEDDINGS = ("embed_tokens", "word_embeddings", "lm_head", "output_layer")
"""Modules that peft saves whole by itself where their size was changed."""
LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The two factors of one module; None for one that the file lacks."""

    module: str
    a: Measured | None
    b: Measured | None

    @property
    def layer(self) -> int | None:
        """The number of its layer."""
        found = LAYER.search(f".{self.module}.")
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter: what its configuration says, and its pairs by module.

    `prefixed` says whether names begin as peft writes them; `strays` belong to no pair, and are not
    of the modules that are saved `whole`. A `kind` other than LORA has no pairs.
    """

    kind: str
    rank: int | None
    alpha: float | None
    rslora: bool
    targets: Sequence[str] | str | None
    ranks: Mapping[str, Any]
    base_path: str | None
    pairs: Mapping[str, Pair]
    prefixed: bool
    whole: Sequence[str]
    strays: Sequence[str]

    @property
    def scale(self) -> float | None:
        """What B·A is multiplied by."""
        if not self.rank or self.alpha is None:
            return None
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def wrong_ranks(self) -> Iterator[Measured]:
        """Factors whose inner dimension is not the rank that was set."""
        if self.rank is None or self.ranks:
            return
        for pair in self.pairs.values():
            if pair.a is not None and len(pair.a.shape) == 2 and pair.a.shape[0] != self.rank:
                yield pair.a
            if pair.b is not None and len(pair.b.shape) == 2 and pair.b.shape[1] != self.rank:
                yield pair.b

    def unhit_targets(self) -> list[str]:
        """Target modules that no pair belongs to."""
        if self.targets is None or isinstance(self.targets, str):
            return []
        ends = {module.rpartition(".")[2] for module in self.pairs}
        whole = tuple(self.pairs)
        return [
            target
            for target in self.targets
            if target not in ends and not any(f".{m}".endswith(f".{target}") for m in whole)
        ]

    def unknown_modules(self, base: Base) -> list[str]:
        """Modules that the base has no weight for."""
        return [module for module in self.pairs if f"{module}.weight" not in base.shapes]

    def misfits(self, base: Base) -> list[str]:
        """Modules whose weight in the base has other sizes than B·A."""
        return [
            module
            for module, pair in self.pairs.items()
            if pair.a is not None
            and pair.b is not None
            and (shape := base.shapes.get(f"{module}.weight")) is not None
            and (pair.b.shape[:1] + pair.a.shape[-1:]) != tuple(shape)
        ]

    def missing_layers(self, base: Base) -> list[int]:
        """Layers of the base without any pair, where all layers were to have some."""
        there = {pair.layer for pair in self.pairs.values()}
        return [layer for layer in range(base.layers or 0) if layer not in there]


def read_adapter(config: Mapping[str, Any], tensors: Mapping[str, Measured]) -> Adapter:
    """The adapter of a configuration and the tensors of its file."""
    sides: dict[str, dict[str, Measured]] = {}
    whole, strays = [], []
    prefixed = True
    for name, tensor in tensors.items():
        found = PART.match(name)
        if found is None:
            if _is_whole(name, config):
                whole.append(name)
            elif not any(part in name for part in OTHER):
                strays.append(name)
            continue
        prefixed &= name.startswith(PREFIX)
        module = found["module"].removeprefix(PREFIX)
        sides.setdefault(module, {})[found["side"]] = tensor
    rank, alpha = config.get("r"), config.get("lora_alpha")
    targets, path = config.get("target_modules"), config.get("base_model_name_or_path")
    ranks = {**_mapping(config.get("rank_pattern")), **_mapping(config.get("alpha_pattern"))}
    return Adapter(
        kind=str(config.get("peft_type")),
        rank=rank if isinstance(rank, int) and rank > 0 else None,
        alpha=float(alpha) if isinstance(alpha, int | float) else None,
        rslora=config.get("use_rslora") is True,
        targets=targets if isinstance(targets, str | list) else None,
        ranks=ranks,
        base_path=path if isinstance(path, str) and path else None,
        pairs={
            module: Pair(module=module, a=found.get("A"), b=found.get("B"))
            for module, found in sides.items()
        },
        prefixed=prefixed,
        whole=whole,
        strays=strays,
    )


def _is_whole(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a tensor is of a module that is trained and saved itself, beside the adapters."""
    asked = config.get("modules_to_save")
    module, _, last = name.rpartition(".")
    saved = (*EMBEDDINGS, *(map(str, asked) if isinstance(asked, list) else ()))
    biases = config.get("bias", "none") != "none"
    return any(f".{module}".endswith(f".{each}") for each in saved) or (biases and last == "bias")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

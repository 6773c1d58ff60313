"""How far training moved the base: |ΔW| / |W| of each module and layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from glmdiag.checkpoints.adapter import LAYER, Adapter
from glmdiag.checkpoints.base import Base
from glmdiag.checkpoints.tensors import PICKLES, Weights, load_pickle


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One weight of the base: its norm, and that of what training adds to it."""

    module: str
    layer: int | None
    change: float
    norm: float

    @property
    def relative(self) -> float:
        """|ΔW| / |W|; NaN where either is no number."""
        return self.change / self.norm if self.norm else math.nan


def by_layer(changes: Sequence[Change]) -> list[tuple[int | None, float]]:
    """|ΔW| / |W| of each layer, its weights taken together; None for what is in none."""
    sums: dict[int | None, list[float]] = {}
    for each in changes:
        found = sums.setdefault(each.layer, [0.0, 0.0])
        found[0] += each.change**2
        found[1] += each.norm**2
    order = sorted(sums, key=lambda layer: math.inf if layer is None else layer)
    return [(layer, math.sqrt(sums[layer][0] / (sums[layer][1] or math.nan))) for layer in order]


def of_adapter(adapter: Adapter, base: Base, folder: Path) -> Iterator[Change]:
    """What B·A times the scale adds to each weight; modules that fit no weight are left out."""
    if adapter.scale is None:
        return
    unfit = {*adapter.unknown_modules(base), *adapter.misfits(base)}
    for module, pair in adapter.pairs.items():
        if pair.a is None or pair.b is None or module in unfit or pair.a.bad or pair.b.bad:
            continue
        if len(pair.a.shape) != 2 or len(pair.b.shape) != 2:
            continue
        a = tensor_of(folder / pair.a.file, pair.a.name).double()
        b = tensor_of(folder / pair.b.file, pair.b.name).double()
        if a.shape[0] != b.shape[1]:
            continue
        # |BA|² = tr(BᵀB · AAᵀ), which needs matrices of the rank's size alone.
        square = float(((b.T @ b) * (a @ a.T)).sum())
        yield Change(
            module=module,
            layer=_layer(module),
            change=adapter.scale * math.sqrt(max(0.0, square)),
            norm=float(torch.linalg.vector_norm(base.weight(f"{module}.weight").float())),
        )


def of_whole(weights: Weights, base: Base, folder: Path) -> Iterator[Change]:
    """How far each matrix of a whole model is from the base's."""
    for name, measured in weights.tensors.items():
        if base.shapes.get(name) != measured.shape or measured.bad or len(measured.shape) < 2:
            continue
        before = base.weight(name).float()
        after = tensor_of(folder / measured.file, name).float()
        yield Change(
            module=name.removesuffix(".weight"),
            layer=_layer(name),
            change=float(torch.linalg.vector_norm(after - before)),
            norm=float(torch.linalg.vector_norm(before)),
        )


def tensor_of(path: Path, name: str) -> Tensor:
    """One tensor of a file that was measured before."""
    if path.suffix in PICKLES:
        held: Mapping[str, Tensor] = load_pickle(path)
        return held[name]
    with safe_open(path, framework="pt") as file:
        found: Tensor = file.get_tensor(name)
        return found


def _layer(name: str) -> int | None:
    found = LAYER.search(f".{name}.")
    return int(found[1]) if found else None

"""How large the numbers of a pass are: outputs of every module, and gradients, by powers of two.

Seen are the outputs of modules and the gradients by them and by the weights. What goes on inside a
module (the scores of attention, the logits, which are always float32) is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from glmtrain import layers
from glmtrain.learner import Learner
from torch import Tensor, nn

LEAST, MOST = -160, 128
"""Exponents of float32, and some below for what was divided by a loss scale."""
Int64 = npt.NDArray[np.int64]
PASSING = (nn.Dropout, nn.Identity)
"""They may give the very tensor that they got, which would count twice."""
NUMBERED = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)")


@dataclass(slots=True, kw_only=True)
class Magnitudes:
    """The numbers of one layer: `count` activations, of which `overflowed` are inf or NaN.

    `largest` is the largest finite activation, `steepest` the largest finite gradient, without a
    loss scale. `exponents` counts gradients by floor(log2 |g|), from LEAST on.
    """

    count: int = 0
    overflowed: int = 0
    largest: float = 0.0
    gradients: int = 0
    gradients_overflowed: int = 0
    zeros: int = 0
    steepest: float = 0.0
    exponents: Int64 = field(default_factory=lambda: np.zeros(MOST - LEAST, np.int64))

    def add(self, output: Tensor) -> None:
        """Count an activation."""
        finite = output.isfinite()
        self.count += output.numel()
        self.overflowed += int((~finite).sum())
        self.largest = max(self.largest, _largest(output, finite))

    def add_gradient(self, gradient: Tensor, scale: float) -> None:
        """Count a gradient that was multiplied by a loss scale."""
        finite = gradient.isfinite()
        self.gradients += gradient.numel()
        self.gradients_overflowed += int((~finite).sum())
        self.steepest = max(self.steepest, _largest(gradient, finite) / scale)
        kept = gradient[finite & (gradient != 0)]
        self.zeros += int((gradient == 0).sum())
        # log2|g| lies in [exponent - 1, exponent).
        exponents = torch.frexp(kept.float())[1].long() - 1 - round(math.log2(scale)) - LEAST
        counts = torch.bincount(exponents.clamp(0, MOST - LEAST - 1), minlength=MOST - LEAST)
        self.exponents += counts.cpu().numpy()

    def merged(self, other: Magnitudes) -> Magnitudes:
        """Both together."""
        return Magnitudes(
            count=self.count + other.count,
            overflowed=self.overflowed + other.overflowed,
            largest=max(self.largest, other.largest),
            gradients=self.gradients + other.gradients,
            gradients_overflowed=self.gradients_overflowed + other.gradients_overflowed,
            zeros=self.zeros + other.zeros,
            steepest=max(self.steepest, other.steepest),
            exponents=self.exponents + other.exponents,
        )

    def below(self, limit: float) -> float:
        """The share of the gradients other than zero that are smaller than a power of two."""
        known = int(self.exponents.sum())
        end = max(0, math.floor(math.log2(limit)) - LEAST)
        return int(self.exponents[:end].sum()) / known if known else 0.0

    def vanished(self, exact: Magnitudes) -> float:
        """The share of gradients that are zero here, of those that are not in `exact`."""
        known = exact.gradients - exact.zeros
        return max(0.0, (self.zeros - exact.zeros) / known) if known else 0.0

    def quantile(self, share: float) -> float | None:
        """The power of two below which at most so many of them lie; None without any."""
        known = int(self.exponents.sum())
        if not known:
            return None
        place = int(np.searchsorted(np.cumsum(self.exponents), share * known, side="right"))
        return float(2.0 ** (place + LEAST))


def layer_of(name: str) -> str:
    """The layer that a module or weight is part of: `embeddings`, a number, `head`, or `others`."""
    if found := NUMBERED.search(name):
        return found[1]
    kind = layers.kind(name)
    return kind if kind in ("embeddings", "head") else "others"


@contextmanager
def watched(learner: Learner, scale: float) -> Iterator[dict[str, Magnitudes]]:
    """Look at the outputs of all modules without children, and at gradients, by layer."""
    found: dict[str, Magnitudes] = {}
    hooks = []
    for name, module in learner.causal.named_modules():
        if not any(True for _ in module.children()) and not isinstance(module, PASSING):
            here = found.setdefault(layer_of(name), Magnitudes())
            hooks.append(module.register_forward_hook(_looking(here, scale)))
    for name, weight in learner.learning().items():
        here = found.setdefault(layer_of(name), Magnitudes())
        hooks.append(_on_gradient(weight, here, scale))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _looking(here: Magnitudes, scale: float) -> Any:
    def look(_module: nn.Module, _args: Any, output: Any) -> None:
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                here.add(tensor.detach())
                if tensor.requires_grad:
                    _on_gradient(tensor, here, scale)

    return look


def _on_gradient(tensor: Tensor, here: Magnitudes, scale: float) -> Any:
    def count(gradient: Tensor) -> None:
        here.add_gradient(gradient.detach(), scale)

    return tensor.register_hook(count)  # type: ignore[no-untyped-call]


def _largest(values: Tensor, finite: Tensor) -> float:
    return float(values.masked_fill(~finite, 0).abs().max()) if values.numel() else 0.0

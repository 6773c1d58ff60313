"""What passes through a model's modules: where it first is not finite, and how large it gets.

Every module's inputs and outputs are looked at as they are made, and the gradients of the outputs
as they come back. A module whose *input* is the first not finite did not make it: an
operation between the modules did, such as the product of gate and up projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias
from typing import Literal as OneOf

import torch
from glmtrain.model import CausalModel
from torch import Tensor, nn

Side: TypeAlias = OneOf["input", "output", "gradient"]
Key: TypeAlias = tuple[str, Side]
STATES = "hidden_states"
"""By which name decoders pass what they compute on; other inputs by name are masks and places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A module's input, output or the gradient of its output, and the largest magnitude there.

    `peak` is NaN or infinite where the spot holds what is not finite; `place` is then the first
    token at which it does, where a single row was computed.
    """

    module: str
    side: Side
    peak: float
    place: int | None = None

    @property
    def finite(self) -> bool:
        """Whether all of it is finite."""
        return math.isfinite(self.peak)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        peak = self.peak if self.finite else str(self.peak)
        return {"module": self.module, "side": self.side, "peak": peak}


@dataclass(slots=True)
class Trace:
    """What was seen: the first spots not finite, forward and backward, and all peaks."""

    first: Spot | None = None
    gradient: Spot | None = None
    peaks: dict[Key, float] = field(default_factory=dict)

    def see(self, module: str, side: Side, tensor: Tensor) -> None:
        """Look at a tensor."""
        peak = magnitude(tensor)
        if math.isfinite(peak):
            self.peaks[module, side] = max(self.peaks.get((module, side), 0.0), peak)
            return
        spot = Spot(module=module, side=side, peak=peak, place=_place(tensor))
        if side == "gradient":
            self.gradient = self.gradient or spot
        else:
            self.first = self.first or spot

    @property
    def largest(self) -> Spot | None:
        """Where the forward pass was largest."""
        forward = [key for key in self.peaks if key[1] != "gradient"]
        if not forward:
            return None
        module, side = max(forward, key=self.peaks.__getitem__)
        return Spot(module=module, side=side, peak=self.peaks[module, side])


@contextmanager
def watching(causal: CausalModel) -> Iterator[Trace]:
    """Look at all that passes through the model's modules inside."""
    trace = Trace()
    with ExitStack() as stack:
        for name, part in causal.named_modules():
            if not name:
                continue
            known = name.replace(".base_layer", "")
            handles = [
                part.register_forward_pre_hook(_before(trace, known), with_kwargs=True),
                part.register_forward_hook(_after(trace, known)),
            ]
            for handle in handles:
                stack.callback(handle.remove)
        yield trace


def magnitude(tensor: Tensor) -> float:
    """The largest magnitude; NaN or infinite where there is one."""
    if not tensor.numel():
        return 0.0
    low, high = torch.aminmax(tensor.detach())
    return float(torch.maximum(low.abs(), high.abs()))


def _place(tensor: Tensor) -> int | None:
    """The first token not finite of [1, tokens, width]."""
    if tensor.ndim != 3 or len(tensor) != 1:
        return None
    return int(torch.nonzero(~tensor[0].isfinite().all(dim=-1))[0])


Before: TypeAlias = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
After: TypeAlias = Callable[[nn.Module, Any, Any], None]


def _before(trace: Trace, name: str) -> Before:
    def look(_: nn.Module, passed: tuple[Any, ...], named: dict[str, Any]) -> None:
        for tensor in _floats([*passed, named.get(STATES)]):
            trace.see(name, "input", tensor)

    return look


def _after(trace: Trace, name: str) -> After:
    def look(_: nn.Module, __: Any, made: Any) -> None:
        for tensor in _floats(made):
            trace.see(name, "output", tensor)
            if tensor.requires_grad:
                back = partial(trace.see, name, "gradient")
                tensor.register_hook(back)  # type: ignore[no-untyped-call]

    return look


def _floats(values: Any) -> Iterator[Tensor]:
    """The tensors of real numbers in what is passed between modules."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, Mapping):
        yield from _floats(list(values.values()))
    elif isinstance(values, Sequence) and not isinstance(values, str):
        for value in values:
            yield from _floats(value)

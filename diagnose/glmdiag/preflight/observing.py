"""What a model really does in a step: which functions and kernels run, how often, and with what.

Settings are promises; here each is looked for in the step itself.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from glmtrain.learner import Learner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

KERNELS = ("scaled_dot_product", "flash_attn", "flex_attention")


@dataclass(slots=True, kw_only=True)
class Observed:
    """What was seen in one forward and backward pass.

    attention: calls of the function that the model's attention is registered with.
    backends: fused kernels by their names. layers: how often each decoder layer ran.
    dropped: for each dropout module the share of numbers that it made zero.
    dtypes: the format of what each linear layer gave. noise: the largest change of an embedding.
    loss_calls: calls of the kernel of the loss.
    """

    attention: int = 0
    attention_dropout: float = 0.0
    backends: Counter[str] = field(default_factory=Counter)
    layers: Counter[int] = field(default_factory=Counter)
    dropped: dict[str, float] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    noise: float = 0.0
    loss_calls: int = 0


@contextmanager
def observing(learner: Learner) -> Iterator[Observed]:
    """Look on while a learner computes; it is as before afterwards."""
    found, causal = Observed(), learner.causal
    objective = learner.objective
    hooks = [*_hooks(learner, found)]
    if (kernel := objective.kernel).compute is not None:
        counted = replace(kernel, compute=_counted(kernel.compute, found, "loss_calls"))
        learner.objective = replace(objective, kernel=counted)
    try:
        with _attention(causal, found), _Functions(found), _Kernels(found):
            yield found
    finally:
        learner.objective = objective
        for hook in hooks:
            hook.remove()


def _hooks(learner: Learner, found: Observed) -> Iterator[Any]:
    causal = learner.causal
    for number, layer in enumerate(getattr(causal.get_decoder(), "layers", ())):
        # Its parts, for hooks of the layer itself may stand outside of what is computed again; and
        # before they run, because that may end before a layer does.
        counts: Counter[nn.Module] = Counter()
        for part in layer.children():
            yield part.register_forward_pre_hook(_counting_layer(found, number, counts))
    for name, module in causal.named_modules():
        if isinstance(module, nn.Dropout):
            yield module.register_forward_hook(_measuring_dropout(found, name))
        elif isinstance(module, nn.Linear):
            yield module.register_forward_hook(_noting_dtype(found, name))
    embeddings = causal.get_input_embeddings()
    yield embeddings.register_forward_hook(_measuring_noise(found))


def _counting_layer(found: Observed, number: int, counts: Counter[nn.Module]) -> Any:
    def count(part: nn.Module, _args: Any) -> None:
        counts[part] += 1
        found.layers[number] = max(counts.values())

    return count


def _measuring_dropout(found: Observed, name: str) -> Any:
    def measure(_module: nn.Module, args: Any, output: Tensor) -> None:
        alive = args[0].detach() != 0
        zeroed = int((alive & (output.detach() == 0)).sum())
        share = zeroed / max(1, int(alive.sum()))
        found.dropped[name] = max(found.dropped.get(name, 0.0), share)

    return measure


def _noting_dtype(found: Observed, name: str) -> Any:
    def note(_module: nn.Module, _args: Any, output: Tensor) -> None:
        found.dtypes[name] = output.dtype

    return note


def _measuring_noise(found: Observed) -> Any:
    def measure(module: Any, args: Any, output: Tensor) -> None:
        if isinstance(module, nn.Embedding):  # peft's own kinds add rows of their own
            plain = nn.functional.embedding(args[0], module.weight).detach()
            found.noise = max(found.noise, float((output.detach() - plain).abs().max()))

    return measure


def _counted(function: Callable[..., Any], found: Observed, name: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        setattr(found, name, getattr(found, name) + 1)
        return function(*args, **options)

    return call


@contextmanager
def _attention(causal: Any, found: Observed) -> Iterator[None]:
    """Count calls of the attention that the configuration names, where the model looks it up."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    kind = causal.config._attn_implementation
    if kind == "eager":
        module: Any = sys.modules[type(causal).__module__]
        plain = getattr(module, "eager_attention_forward", None)
        if plain is None:
            yield
            return
        module.eager_attention_forward = _counted(plain, found, "attention")
        try:
            yield
        finally:
            module.eager_attention_forward = plain
        return
    with suppress(KeyError):
        known = ALL_ATTENTION_FUNCTIONS[kind]
        ALL_ATTENTION_FUNCTIONS[kind] = _counted(known, found, "attention")
        try:
            yield
        finally:
            ALL_ATTENTION_FUNCTIONS[kind] = known
        return
    yield


class _Functions(TorchFunctionMode):
    """Sees the dropout that attention is called with."""

    def __init__(self, found: Observed) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the function."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "scaled_dot_product_attention":
            chance = float(kwargs.get("dropout_p", 0.0))
            self._found.attention_dropout = max(self._found.attention_dropout, chance)
            self._found.backends["scaled_dot_product_attention"] += 1
        return func(*args, **kwargs)


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees which fused kernels run in the forward pass."""

    def __init__(self, found: Observed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation."""
        name = str(func).removeprefix("aten.").partition(".")[0]
        if any(known in name for known in KERNELS) and not name.endswith("backward"):
            self._found.backends[name] += 1
        return func(*args, **(kwargs or {}))

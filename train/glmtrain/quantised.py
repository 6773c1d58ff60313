"""The base in four bits for QLoRA: nf4 with double quantisation (Dettmers et al. 2023).

The base is loaded as for LoRA and quantised here, layer by layer on its way to the device: so its
fingerprint is the same as LoRA's, fused experts can be quantised too (transformers quantises linear
layers alone), and the device never holds more than one layer in 16 bits. The price is that the
machine's own memory holds the base in 16 bits at first.

Not quantised: embeddings, output layer and router, whose errors go everywhere, and norms. GLM's
norms compute in float32 whatever their weights are in, so these are left as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from glmprep.errors import UsageError
from torch import Tensor, nn

from glmtrain import layers
from glmtrain.lora import is_weight
from glmtrain.model import CausalModel

FORMAT: dict[str, Any] = {"quant_type": "nf4", "compress_statistics": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """How much of a base was quantised, in parameters, and its bytes before and after."""

    parameters: int
    quantised: int
    bytes_before: int
    bytes_after: int

    @property
    def share(self) -> float:
        """The quantised share of the parameters, and so of the bytes before."""
        return self.quantised / self.parameters


def require() -> None:
    """Raise UsageError where bitsandbytes is missing."""
    if find_spec("bitsandbytes") is None:
        raise UsageError(
            "model.method = qlora needs bitsandbytes: pip install 'glm-finetune-suite[qlora]', "
            "or pip install bitsandbytes"
        )


def quantise(
    model: CausalModel,
    dtype: torch.dtype,
    device: torch.device,
    targets: Collection[str] = (),
) -> Quantised:
    """Quantise a loaded base in place, moving it to `device`; it multiplies in `dtype`.

    Linear layers that `targets` adapts by their weight stay as they are.
    """
    require()
    before = _bytes(model)
    parameters = sum(weight.numel() for weight in model.parameters())
    done = 0
    model.requires_grad_(False)
    for module, parameter in list(_weights(model, targets)):
        part = model.get_submodule(module)
        done += getattr(part, parameter).numel()
        part.to(device)
        if isinstance(part, nn.Linear):
            model.set_submodule(module, _linear(part, dtype))
        else:
            _quantise_parameter(part, parameter)
    model.to(device)
    model.is_loaded_in_4bit = True  # how peft knows that there are such layers
    return Quantised(
        parameters=parameters, quantised=done, bytes_before=before, bytes_after=_bytes(model)
    )


def round_trip(model: CausalModel, targets: Collection[str] = ()) -> None:
    """Give a loaded base the values that training saw: to four bits and back, in place.

    An adapter made by QLoRA fits these better than the base's own.
    """
    require()
    from bitsandbytes import functional

    for module, parameter in _weights(model, targets):
        weight: Tensor = getattr(model.get_submodule(module), parameter).data
        packed, state = functional.quantize_4bit(weight, **FORMAT)
        weight.copy_(functional.dequantize_4bit(packed, state))


def sizes(model: nn.Module) -> dict[int, int]:
    """How many numbers each quantised parameter stands for, by its `id`."""
    found = {}
    for part in model.modules():
        for held in getattr(part, "parametrizations", {}).values():
            found[id(held.original)] = held[0].quant_state.shape.numel()
        state = getattr(getattr(part, "weight", None), "quant_state", None)
        if state is not None:
            found[id(part.weight)] = state.shape.numel()
    return found


def state_tensors(model: nn.Module) -> Iterator[Tensor]:
    """The scales of quantised weights, which are no parameters and no buffers."""
    for part in model.modules():
        held = [each[0].quant_state for each in getattr(part, "parametrizations", {}).values()]
        own = getattr(getattr(part, "weight", None), "quant_state", None)
        for state in [*held, *([] if own is None else [own])]:
            nested = [state.state2.absmax, state.state2.code] if state.nested else []
            yield from (each for each in (state.absmax, state.code, *nested) if each is not None)


def _weights(model: CausalModel, targets: Collection[str]) -> Iterator[tuple[str, str]]:
    """Modules' names and the names of those of their parameters that are to be quantised."""
    kept = tuple(f".{target}" for target in targets if is_weight(target))
    for name in layers.linears(model):
        if not f".{name}.weight".endswith(kept):
            yield name, "weight"
    for name, parameters in layers.fused_experts(model).items():
        for parameter in parameters:
            yield name, parameter


def _linear(layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    from bitsandbytes.nn import modules

    library: Any = modules  # half of it has no types
    shape, biased = (layer.in_features, layer.out_features), layer.bias is not None
    made = library.Linear4bit(*shape, biased, compute_dtype=dtype, device="meta")
    weight = library.Params4bit(layer.weight.data, requires_grad=False, **FORMAT)
    made.weight, made.bias = weight.to(layer.weight.device), layer.bias
    # Else evaluation on a CPU packs the weights in a way that has no gradient afterwards.
    made.support_avx512bf16_for_cpu = False
    return made  # type: ignore[no-any-return]


def _quantise_parameter(part: nn.Module, name: str) -> None:
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    replace_parameter_4bit(part, name, **FORMAT)


def _bytes(model: nn.Module) -> int:
    return sum(weight.nbytes for weight in model.parameters())

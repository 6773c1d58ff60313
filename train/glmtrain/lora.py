"""Low-rank adapters: which layers get them, and their settings for peft.

Three kinds: LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023) and DoRA (Liu et al. 2024).

A mixture of experts takes some care. Its experts are fused into three-dimensional parameters, which
peft adapts by `target_parameters`. Moreover peft reads `gate_proj`, `up_proj` and `down_proj` as
the experts there, as they were called before they were fused, so that as names of modules they
would lose the shared experts and the dense layers; these are targeted by their weights instead. An
adapter on a linear layer's weight is stored as one on the layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from glmprep.errors import UsageError
from torch import nn

from glmtrain import layers
from glmtrain.model import CausalModel
from glmtrain.settings import ALL_LINEAR, Lora

READ_AS_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj"})


def targets(model: CausalModel, lora: Lora, *, quantised: bool = False) -> tuple[str, ...]:
    """What gets adapters, sorted: a layer's last name, or `module.parameter` of a weight.

    `all-linear` is all but the output layer, and with fused experts unless the base is to be
    `quantised`: peft 0.21 cannot adapt a fused parameter that bitsandbytes holds. The router comes
    along where it is asked for. To be called before the model is quantised or adapted. Raises
    UsageError for what the model hasn't.
    """
    known = _all_linear(model, quantised=quantised)
    routers = {_short(name, "weight") for name in layers.routers(model)}
    head = layers.head_name(model)
    chosen = set(routers if lora.train_router else ())
    for target in lora.target_modules:
        if target == ALL_LINEAR:
            chosen |= known
        elif target in known or target == head:
            chosen.add(target)
        else:
            raise UsageError(
                f"lora.target_modules: no linear layer {target!r} to adapt; "
                f"there are {', '.join(sorted(known))} and, for the output, {head}"
            )
    return tuple(sorted(chosen))


def is_weight(target: str) -> bool:
    """Whether a target is a weight rather than a layer."""
    return "." in target


def takes_dropout(targets: Sequence[str]) -> bool:
    """Whether adapters on these targets can have dropout, or be DoRA's: not those on weights."""
    return not any(map(is_weight, targets))


def attach(
    model: CausalModel,
    lora: Lora,
    *,
    seed: int,
    tokens: Mapping[str, Sequence[int]] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """peft's view of the model, with new adapters in it that learn in `dtype`.

    `tokens` are the rows to train of the embeddings and the output layer, by these layers' names.
    Raises UsageError for settings that do not go together.
    """
    from peft import get_peft_model

    settings = _configuration(lora, tokens)
    # The generator is seeded here, so that the first adapter weights follow from the seed alone.
    torch.manual_seed(seed)
    adapter = get_peft_model(model, settings)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(dtype)
    return adapter


def _configuration(lora: Lora, tokens: Mapping[str, Sequence[int]] | None) -> Any:
    from peft import LoraConfig

    chosen = lora.target_modules
    if not takes_dropout(chosen) and (lora.dropout or lora.dora):
        setting = "lora.dora" if lora.dora else "lora.dropout"
        raise UsageError(
            f"{setting}: peft has none for the weights of a mixture of experts "
            f"({next(filter(is_weight, chosen))}); turn it off, or name the layers of attention "
            "alone in lora.target_modules"
        )
    if tokens and (both := sorted(set(tokens) & set(chosen))):
        raise UsageError(
            f"lora.target_modules: {both[0]} learns the new tokens' rows already; leave it out"
        )
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout or 0.0,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=[target for target in chosen if not is_weight(target)],
        target_parameters=[target for target in chosen if is_weight(target)] or None,
        trainable_token_indices={name: list(ids) for name, ids in tokens.items()}
        if tokens
        else None,
        task_type="CAUSAL_LM",
    )


def _all_linear(model: CausalModel, *, quantised: bool) -> set[str]:
    experts = layers.fused_experts(model)
    found = {_target(name, mixture=bool(experts)) for name in layers.linears(model)}
    if not quantised:
        found |= {_short(name, weight) for name, held in experts.items() for weight in held}
    return found


def _target(name: str, *, mixture: bool) -> str:
    last = name.rpartition(".")[2]
    return _short(name, "weight", parts=2) if mixture and last in READ_AS_EXPERTS else last


def _short(module: str, parameter: str, parts: int = 1) -> str:
    """`module.parameter` by the last parts of the module's name, the same in each layer."""
    return ".".join([*module.split(".")[-parts:], parameter])


def adapted(part: nn.Module) -> list[nn.Parameter]:
    """The base's own parameters that an adapter in `part` changes; none where there is none."""
    from peft.tuners.lora import LoraLayer, ParamWrapper

    if isinstance(part, ParamWrapper):
        held = part.get_base_layer()
        if nn.utils.parametrize.is_parametrized(held, part.parameter_name):
            return [held.parametrizations[part.parameter_name].original]
        return [part.get_param()]
    return list(part.get_base_layer().parameters()) if isinstance(part, LoraLayer) else []

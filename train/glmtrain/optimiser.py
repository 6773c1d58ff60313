"""Optimisers with decay where it belongs, one guarded update, and their state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final, TypeAlias

import torch
from glmprep.errors import UsageError
from torch import Tensor, nn

from glmtrain import settings
from glmtrain.precision import Precision
from glmtrain.together import Together

Parameters: TypeAlias = Mapping[str, nn.Parameter]

RATE_FACTOR: Final[dict[settings.OptimiserName, float]] = {
    "adamw": 1.0,
    # Moments in 8 bits are made for the same settings (Dettmers et al. 2022).
    "adamw8bit": 1.0,
    # An update that is not scaled by the weight has a root mean square of 1 at most, like AdamW's.
    "adafactor": 1.0,
    # Updates scaled to AdamW's usual size take its rate and decay as they are (Liu et al. 2025,
    # "Muon is scalable for LLM training").
    "muon": 1.0,
    # Every number moves by the whole rate: 3 to 10 times less than AdamW's (Chen et al. 2023).
    "lion": 0.2,
}
"""What AdamW's learning rate is multiplied with, for about the same speed.

Tried: five rates a factor of three apart, with a small GLM, LoRA and full. The best was AdamW's
times this for adamw8bit, one lower for adafactor in full training, one higher for muon and lion.
Decay acts as rate times `weight_decay`: AdamW's divided by this is as strong.
"""

FUSED = frozenset({"cpu", "cuda", "xpu", "mps"})  # a third of the time of the plain loop on a CPU

# Tables of vectors, by parts of their names. New tokens and prefixes are inputs rather than maps:
# there is nothing to gain from shrinking them. Nor has Muon a use for any table.
INPUT_VECTORS = ("trainable_tokens", "prefix", "prompt_encoder")
TABLES = (*INPUT_VECTORS, "embed", "lm_head", "output_layer")

PREFIX = "optimiser."
COUNT = f"{PREFIX}weights"


def make(parameters: Parameters, chosen: settings.Optimiser) -> torch.optim.Optimizer:
    """The optimiser of that name; rates are set before each step.

    Matrices decay; biases, norms and the vectors of new tokens and prefixes do not. Beta 1 and 2
    mean nothing to adafactor, and muon passes them on to its AdamW.

    Raises UsageError where a library is missing or the optimiser has nothing to train.
    """
    return _BUILDERS[chosen.name](parameters, chosen)


def clip(weights: Iterable[nn.Parameter], limit: float) -> float:
    """Scale gradients to a common norm of `limit` at most; returns the norm before that.

    With a limit of 0 they stay as they are.
    """
    weights = list(weights)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if limit:
        torch.nn.utils.clip_grads_with_norm_(weights, limit, norm)
    return float(norm)


def finish(optimiser: torch.optim.Optimizer, precision: Precision, *, take: bool) -> None:
    """Make the step if it is to be taken, then forget the gradients.

    Under fp16 the scale is adapted either way.
    """
    if take:
        optimiser.step()
    if precision.scaler is not None:
        precision.scaler.update()
    optimiser.zero_grad(set_to_none=True)


def update(
    optimiser: torch.optim.Optimizer, precision: Precision, max_grad_norm: float, *, sound: bool
) -> float:
    """Clip and step; returns the norm before clipping.

    Nothing is changed where `sound` is false or the norm is not finite.
    """
    if precision.scaler is not None:
        precision.scaler.unscale_(optimiser)
    norm = clip(_weights(optimiser), max_grad_norm)
    finish(optimiser, precision, take=sound and math.isfinite(norm))
    return norm


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def state_tensors(optimiser: torch.optim.Optimizer, parameters: Parameters) -> dict[str, Tensor]:
    """Copies of all that an optimiser remembers, in main memory, as `optimiser.KEY.PARAMETER`.

    Plain numbers become tensors without dimensions. `optimiser.weights` counts the weights that
    have a state: none before the first step.
    """
    known = {name: weight for name, weight in parameters.items() if weight in optimiser.state}
    tensors = {
        f"{PREFIX}{key}.{name}": torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
        for name, weight in known.items()
        for key, value in optimiser.state[weight].items()
    }
    return {**tensors, COUNT: torch.tensor(len(known))}


def load_state_tensors(
    optimiser: torch.optim.Optimizer,
    parameters: Parameters,
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `state_tensors` gave, by copying.

    Raises KeyError where something is missing, ValueError where it is of other weights.
    """
    count = int(tensors[COUNT])
    if count == 0:
        optimiser.state.clear()
        return
    if any(weight not in optimiser.state for weight in parameters.values()):
        _make_state(optimiser)
    found = sum(_load(optimiser, name, weight, tensors) for name, weight in parameters.items())
    if found != count:
        raise ValueError(f"optimiser state for {found} of these weights, saved for {count}")


def _load(
    optimiser: torch.optim.Optimizer,
    name: str,
    weight: nn.Parameter,
    tensors: Mapping[str, Tensor],
) -> bool:
    """Whether there was a state for this weight, which then is put back."""
    state = optimiser.state[weight]
    if not any(f"{PREFIX}{key}.{name}" in tensors for key in state):
        del optimiser.state[weight]  # it never had a gradient
        return False
    for key, value in state.items():
        saved = tensors[f"{PREFIX}{key}.{name}"]
        wanted = torch.as_tensor(value)
        if (saved.shape, saved.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{key} of {name} is {saved.dtype} {tuple(saved.shape)}, "
                f"not {wanted.dtype} {tuple(wanted.shape)}"
            )
        if isinstance(value, Tensor):
            value.copy_(saved)
        else:
            state[key] = saved.item()
    return True


def _make_state(optimiser: torch.optim.Optimizer) -> None:
    """Have the optimiser lay out its state: a step without gradients at rate zero moves nothing."""
    rates = [group["lr"] for group in optimiser.param_groups]
    for weight in _weights(optimiser):
        weight.grad = torch.zeros_like(weight)
    set_rate(optimiser, 0.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate


def _weights(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _adamw(parameters: Parameters, chosen: settings.Optimiser) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        _groups(parameters, chosen),
        lr=_rate(chosen),
        betas=_betas(chosen),
        eps=chosen.epsilon,
        fused={weight.device.type for weight in parameters.values()} <= FUSED,
    )


def _adamw8bit(parameters: Parameters, chosen: settings.Optimiser) -> torch.optim.Optimizer:
    """Weights of fewer than 4,096 numbers keep moments of 32 bits."""
    made: torch.optim.Optimizer = _library("bitsandbytes", "bitsandbytes", chosen).optim.AdamW8bit(
        _groups(parameters, chosen), lr=_rate(chosen), betas=_betas(chosen), eps=chosen.epsilon
    )
    return made


def _adafactor(parameters: Parameters, chosen: settings.Optimiser) -> torch.optim.Optimizer:
    """torch's, whose rate is relative to the size of a weight, or to `eps[1]` if that is larger.

    Weights are smaller than 1 as a rule, so 1 makes the rate absolute: LoRA's B begins at zero,
    and in proportion to zero it would hardly move.
    """
    return torch.optim.Adafactor(_groups(parameters, chosen), lr=_rate(chosen), eps=(None, 1.0))


def _muon(parameters: Parameters, chosen: settings.Optimiser) -> torch.optim.Optimizer:
    """Muon (Jordan et al. 2024) for hidden matrices, AdamW for all else.

    All else are embeddings, output layers, norms, biases, and experts that are fused into one
    three-dimensional weight.
    """
    if not hasattr(torch.optim, "Muon"):
        raise UsageError("optimiser.name = muon needs a newer torch: pip install 'torch>=2.9'")
    hidden = {name: weight for name, weight in parameters.items() if _is_hidden(name, weight)}
    others = {name: weight for name, weight in parameters.items() if name not in hidden}
    if not hidden:
        raise UsageError("optimiser.name = muon trains matrices, and none learns here: use adamw")
    muon = torch.optim.Muon(
        _groups(hidden, chosen), lr=_rate(chosen), adjust_lr_fn="match_rms_adamw"
    )
    return Together([muon, _adamw(others, chosen)]) if others else muon


def _lion(parameters: Parameters, chosen: settings.Optimiser) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = _library("lion_pytorch", "lion-pytorch", chosen).Lion(
        _groups(parameters, chosen), lr=_rate(chosen), betas=_betas(chosen)
    )
    return made


_Builder: TypeAlias = Callable[[Parameters, settings.Optimiser], torch.optim.Optimizer]
_BUILDERS: Final[dict[settings.OptimiserName, _Builder]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "muon": _muon,
    "lion": _lion,
}


def _library(module: str, package: str, chosen: settings.Optimiser) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        message = f"optimiser.name = {chosen.name} needs {package}: pip install {package}"
        raise UsageError(message) from error


def _groups(parameters: Parameters, chosen: settings.Optimiser) -> list[dict[str, Any]]:
    """Weights that decay and weights that don't, without empty groups."""
    assert chosen.weight_decay is not None
    decaying = [weight for name, weight in parameters.items() if _decays(name, weight)]
    others = [weight for name, weight in parameters.items() if not _decays(name, weight)]
    groups = (
        {"params": decaying, "weight_decay": chosen.weight_decay},
        {"params": others, "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]


def _decays(name: str, weight: nn.Parameter) -> bool:
    return weight.ndim >= 2 and not any(part in name for part in INPUT_VECTORS)


def _is_hidden(name: str, weight: nn.Parameter) -> bool:
    return weight.ndim == 2 and not any(part in name for part in TABLES)


def _rate(chosen: settings.Optimiser) -> float:
    assert chosen.learning_rate is not None
    return chosen.learning_rate


def _betas(chosen: settings.Optimiser) -> tuple[float, float]:
    first, second = (0.9, 0.99) if chosen.name == "lion" else (0.9, 0.999)
    return (
        first if chosen.beta1 is None else chosen.beta1,
        second if chosen.beta2 is None else chosen.beta2,
    )

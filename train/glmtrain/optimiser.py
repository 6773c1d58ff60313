"""AdamW with decay where it belongs, one guarded update, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glmtrain.precision import Precision
from glmtrain.settings import Optimiser

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def adamw(parameters: Mapping[str, nn.Parameter], settings: Optimiser) -> torch.optim.AdamW:
    """Decay on matrices, none on biases and norms; rates are set before each step."""
    assert settings.learning_rate is not None
    assert settings.weight_decay is not None
    matrices = [weight for weight in parameters.values() if weight.ndim >= 2]
    others = [weight for weight in parameters.values() if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(
            0.9 if settings.beta1 is None else settings.beta1,
            0.999 if settings.beta2 is None else settings.beta2,
        ),
        eps=settings.epsilon,
    )


def update(
    optimiser: torch.optim.AdamW, precision: Precision, max_grad_norm: float, *, sound: bool
) -> float:
    """Clip and step, then forget the gradients; returns the norm before clipping.

    Nothing is changed where `sound` is false or the norm is not finite. Under fp16 the scale is
    adapted either way.
    """
    scaler = precision.scaler
    if scaler is not None:
        scaler.unscale_(optimiser)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(weights, max_grad_norm or math.inf))
    if sound and math.isfinite(norm):
        optimiser.step()
    if scaler is not None:
        scaler.update()
    optimiser.zero_grad(set_to_none=True)
    return norm


def set_rate(optimiser: torch.optim.AdamW, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def state_tensors(
    optimiser: torch.optim.AdamW, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """All that AdamW remembers, as `moment.parameter`; empty before the first step."""
    return {
        f"{moment}.{name}": optimiser.state[weight][moment].detach().cpu().contiguous()
        for name, weight in parameters.items()
        if weight in optimiser.state
        for moment in MOMENTS
    }


def load_state_tensors(
    optimiser: torch.optim.AdamW,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `state_tensors` gave; raises KeyError where a moment is missing."""
    for name, weight in parameters.items():
        if f"step.{name}" in tensors:
            state = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
            moved = {m: t if m == "step" else t.to(weight.device) for m, t in state.items()}
            optimiser.state[weight] = moved

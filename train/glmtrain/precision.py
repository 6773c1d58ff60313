"""The number format of a run: what the weights are kept in, what is multiplied in, and scaling."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from glmreport.text import Text

from glmtrain import settings

DTYPES: dict[settings.DType, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How numbers are computed on `device`; `scaler` is there for fp16 alone."""

    dtype: torch.dtype
    device: torch.device
    reason: Text
    scaler: torch.amp.GradScaler | None

    @property
    def name(self) -> settings.DType:
        """`bf16`, `fp16` or `fp32`."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in this format; weights that learn stay in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def frozen_dtype(self, method: str) -> torch.dtype:
        """In which the base model is loaded: weights that learn need float32."""
        return torch.float32 if method == "full" else self.dtype

    @property
    def loss_scale(self) -> float | None:
        """What losses are multiplied with before the backward pass, None without scaling."""
        return None if self.scaler is None else float(self.scaler.get_scale())


def choose(settings: settings.Precision, device: torch.device) -> Precision:
    """The precision that was asked for; `auto` takes what the device computes correctly."""
    if settings.dtype == "auto":
        from glmtrain.probe import recommend

        advice = recommend(device)
        dtype = getattr(torch, advice.dtype)
        reason = Text(f"train.reason.bf16_{advice.bf16.state}", device=advice.device)
    else:
        dtype, reason = DTYPES[settings.dtype], Text("train.reason.given")
    scaled = dtype == torch.float16
    scaler = torch.amp.GradScaler(device.type, init_scale=settings.initial_loss_scale)
    return Precision(dtype=dtype, device=device, reason=reason, scaler=scaler if scaled else None)

"""The number format of a run: what the weights are kept in, what is multiplied in, and scaling."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from glmprep.errors import UsageError
from glmreport.text import Text

from glmtrain import probe, settings

DTYPES: dict[settings.DType, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How numbers are computed on `device`; `scaler` is there for fp16 alone.

    `check` is what the format came to when it was tried, None for fp32. `pure` keeps weights that
    learn in the format itself.
    """

    dtype: torch.dtype
    device: torch.device
    reason: Text
    scaler: torch.amp.GradScaler | None
    check: probe.DtypeCheck | None = None
    pure: bool = False

    @property
    def name(self) -> settings.DType:
        """`bf16`, `fp16` or `fp32`."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in this format, whatever the weights that learn are kept in."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def frozen_dtype(self, method: str) -> torch.dtype:
        """In which the base model is loaded: weights that learn need float32, unless `pure`."""
        return torch.float32 if method == "full" and not self.pure else self.dtype

    @property
    def loss_scale(self) -> float | None:
        """What losses are multiplied with before the backward pass, None without scaling."""
        return None if self.scaler is None else float(self.scaler.get_scale())


def choose(asked: settings.Precision, device: torch.device) -> Precision:
    """The precision that was asked for; `auto` takes what the device computes correctly.

    Raises UsageError for weights that learn in fp16.
    """
    if asked.dtype == "auto":
        advice = probe.recommend(device)
        dtype = getattr(torch, advice.dtype)
        reason = Text(f"train.reason.bf16_{advice.bf16.state}", device=advice.device)
        tried = {torch.bfloat16: advice.bf16, torch.float16: advice.fp16}.get(dtype)
    else:
        dtype, reason = DTYPES[asked.dtype], Text("train.reason.given")
        names: dict[torch.dtype, probe.DType] = {
            torch.bfloat16: "bfloat16",
            torch.float16: "float16",
        }
        tried = probe.check(names[dtype], device) if dtype in names else None
    scaled = dtype == torch.float16
    if scaled and asked.pure:
        raise UsageError(
            "precision.pure: small updates vanish in weights of fp16; leave it out, or take bf16"
        )
    scaler = torch.amp.GradScaler(device.type, init_scale=asked.initial_loss_scale)
    return Precision(
        dtype=dtype,
        device=device,
        reason=reason,
        scaler=scaler if scaled else None,
        check=tried,
        pure=asked.pure,
    )

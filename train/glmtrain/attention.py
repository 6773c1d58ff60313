"""Which implementation of attention a model is loaded with."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from glmprep.errors import UsageError

from glmtrain.settings import Attention

PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


def choose(
    asked: Attention, device: torch.device, dtype: torch.dtype, *, prefix: bool = False
) -> str:
    """What to load: `auto` is flash_attention_2 where it can run, else sdpa.

    `dtype` is what the forward pass computes in; a `prefix` has to be joined to keys and values,
    which flash attention does not allow. Raises UsageError for one that cannot run here.
    """
    if asked == "auto":
        return (
            "sdpa"
            if prefix or _obstacle("flash_attention_2", device, dtype)
            else "flash_attention_2"
        )
    obstacle = _obstacle(asked, device, dtype)
    if obstacle is not None:
        raise UsageError(f"model.attention = {asked}: {obstacle}; use sdpa")
    return asked


def _obstacle(kind: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why this kind cannot run here."""
    if kind == "flex_attention" and device.type == "cpu":
        return "it has no backward pass on a CPU"
    if kind not in PACKAGES:
        return None
    if find_spec(PACKAGES[kind]) is None:
        return f"the package {PACKAGES[kind]} is not installed"
    if device.type != "cuda":
        return "it runs on CUDA devices alone"
    if dtype not in (torch.float16, torch.bfloat16):
        return "it computes in fp16 and bf16 alone"
    return None

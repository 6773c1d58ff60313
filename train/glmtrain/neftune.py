"""Noise on the embeddings while a model learns, as a regulariser (NEFTune, Jain et al. 2023)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from glmtrain.model import CausalModel


def install(model: CausalModel, alpha: float) -> None:
    """Add uniform noise of at most alpha / sqrt(length x width) to embeddings, in training mode.

    Length is that of the row, padding and all packed conversations included. The noise comes from
    torch's generator of the device, so that it is resumed with it.
    """

    def add_noise(part: nn.Module, _: Any, embedded: Tensor) -> Tensor:
        if not part.training:
            return embedded
        length, width = embedded.shape[-2:]
        limit = alpha / math.sqrt(length * width)
        return embedded + torch.empty_like(embedded).uniform_(-limit, limit)

    model.get_input_embeddings().register_forward_hook(add_noise)

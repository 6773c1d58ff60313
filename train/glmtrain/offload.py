"""Activations in main memory between forward and backward pass, so that a GPU need not hold them.

As torch.autograd.graph.save_on_cpu, without moving weights, which operations keep as well and
which stay where they are anyway. Together with gradient checkpointing it is the layers' inputs that
move. Copies are made in order with the computation: a slower, simpler way than streams of their
own. On a CPU there is nothing to gain and nothing is done. Not tried on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

LEAST = 1 << 16
"""Numbers from which on a tensor is worth its copy."""


def offloaded(
    weights: Iterable[Tensor], device: torch.device, *, wanted: bool
) -> AbstractContextManager[object]:
    """Around a forward pass: keep its activations in main memory until they are needed."""
    if not wanted or device.type == "cpu":
        return nullcontext()
    return MainMemory(weights)


class MainMemory(saved_tensors_hooks):
    """Moves what a forward pass saves, but for `weights` and what is small; `moved` counts bytes.

    One for each forward pass, as sharded weights may lie elsewhere at the next.
    """

    def __init__(self, weights: Iterable[Tensor], least: int = LEAST) -> None:
        self.moved = 0
        self._least = least
        self._stay = {weight.untyped_storage().data_ptr() for weight in weights}
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> tuple[torch.device, Tensor]:
        if tensor.numel() < self._least or tensor.untyped_storage().data_ptr() in self._stay:
            return tensor.device, tensor
        pinned = tensor.device.type == "cuda"
        # A view may be of a larger tensor: only what it shows is copied.
        kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
        kept.copy_(tensor, non_blocking=pinned)
        self.moved += kept.nbytes
        return tensor.device, kept

    @staticmethod
    def _unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, kept = packed
        return kept.to(device, non_blocking=True)

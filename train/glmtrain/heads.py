"""The output layer by chunks: logits of some hidden states, and gradients given the logits' slopes.

A plain linear layer is multiplied out in one piece of memory for all chunks, and so is a frozen one
of which peft trains single rows (new special tokens). Any other module, such as an adapter with
dropout on the output layer, runs its own forward and backward pass within each chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

CHUNK = 512


def is_plain(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether logits are hidden states times the layer's weight, and nothing else."""
    return type(head) is nn.Linear and head.bias is None


def weights(head: nn.Module) -> tuple[Tensor, ...]:
    """The weights that `layer` finds gradients for.

    They are read anew for each loss: where weights are shared out, they are whole only now.
    """
    if is_plain(head):
        return (head.weight,)
    if (trained := _trained_rows(head)) is not None:
        return (trained.values,)
    return tuple(weight for weight in head.parameters() if weight.requires_grad)


def layer(head: nn.Module, rows: Tensor, dtype: torch.dtype, wanted: Sequence[bool] = ()) -> Layer:
    """What computes `head` for rows [n, width], multiplying in `dtype`.

    wanted: whether the gradient of the rows, and of each of the `weights`, will be asked for.
    """
    if is_plain(head):
        return PlainLayer(head.weight, rows, dtype, wanted)
    if (trained := _trained_rows(head)) is not None:
        return RowsLayer(trained, rows, dtype, wanted)
    return AnyLayer(head, rows, dtype, wanted)


class PlainLayer:
    """A linear layer. `gradients` are those of the rows and of the weight, in float32, or None."""

    def __init__(
        self, weight: Tensor, rows: Tensor, dtype: torch.dtype, wanted: Sequence[bool]
    ) -> None:
        self.rows, self.weight = rows.to(dtype), weight.to(dtype)
        self.gradients = _zeros((rows, weight), wanted)
        # One piece of memory for all chunks: fresh pages cost a sixth of the time on a CPU.
        shape = min(CHUNK, len(rows)), len(weight)
        self.memory = torch.empty(shape, dtype=torch.float32, device=rows.device)

    def logits(self, chunk: slice) -> Tensor:
        """The chunk's logits in float32; the next chunk's take their memory."""
        rows = self.rows[chunk]
        logits = self.memory[: len(rows)]
        if rows.dtype == logits.dtype:
            return torch.mm(rows, self.weight.T, out=logits)
        return logits.copy_(rows @ self.weight.T)

    def pull(self, chunk: slice, slope: Tensor) -> None:
        """Add up the gradients, given the derivative by the chunk's logits, which is used up."""
        of_rows, of_weight = self.gradients
        slope = slope.to(self.weight.dtype)
        if of_rows is not None:
            of_rows[chunk] = slope @ self.weight
        if of_weight is not None and of_weight.dtype == slope.dtype:
            of_weight.addmm_(slope.T, self.rows[chunk])
        elif of_weight is not None:
            of_weight += slope.T @ self.rows[chunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRows:
    """A frozen weight [vocabulary, width] with other values [n, width] at the places [n]."""

    weight: Tensor
    places: Tensor
    values: Tensor


class RowsLayer(PlainLayer):
    """A linear layer with trained rows. `gradients` are those of the hidden states and the values.

    The module's own way would copy the whole weight for each chunk, and find its whole gradient.
    """

    def __init__(
        self, trained: TrainedRows, rows: Tensor, dtype: torch.dtype, wanted: Sequence[bool]
    ) -> None:
        super().__init__(trained.weight, rows, dtype, ())
        self.places, self.values = trained.places, trained.values.to(dtype)
        self.gradients = _zeros((rows, trained.values), wanted)

    def logits(self, chunk: slice) -> Tensor:
        """The chunk's logits in float32; the next chunk's take their memory."""
        logits = super().logits(chunk)
        logits[:, self.places] = (self.rows[chunk] @ self.values.T).float()
        return logits

    def pull(self, chunk: slice, slope: Tensor) -> None:
        """Add up the gradients, given the derivative by the chunk's logits, which is used up."""
        of_rows, of_values = self.gradients
        slope = slope.to(self.weight.dtype)
        of_places = slope[:, self.places]
        slope[:, self.places] = 0
        if of_rows is not None:
            of_rows[chunk] = slope @ self.weight + of_places @ self.values
        if of_values is not None:
            of_values += of_places.T @ self.rows[chunk]


class AnyLayer:
    """Any module. `gradients` are those of the rows and of the `weights`, in float32, or None."""

    def __init__(
        self, head: nn.Module, rows: Tensor, dtype: torch.dtype, wanted: Sequence[bool]
    ) -> None:
        self.head, self.rows, self.dtype, self.wanted = head, rows, dtype, wanted
        self.weights = weights(head)
        self.gradients = _zeros((rows, *self.weights), wanted)

    def logits(self, chunk: slice) -> Tensor:
        """The chunk's logits in float32, which may be overwritten."""
        device = self.rows.device.type
        with (
            torch.set_grad_enabled(any(self.wanted)),
            # A cached cast would join the graphs of the chunks.
            torch.autocast(device, self.dtype, self.dtype != torch.float32, cache_enabled=False),
        ):
            self.chunk = self.rows[chunk].detach().requires_grad_(any(self.wanted))
            self.made = self.head(self.chunk)
        logits: Tensor = self.made.detach().float()
        return logits

    def pull(self, chunk: slice, slope: Tensor) -> None:
        """Add up the gradients, given the derivative by the chunk's logits, which is used up."""
        pairs = zip((self.chunk, *self.weights), self.gradients, strict=True)
        wanted = [(tensor, total) for tensor, total in pairs if total is not None]
        inputs = [tensor for tensor, _ in wanted]
        slope = slope.to(self.made.dtype)
        found = torch.autograd.grad(self.made, inputs, slope, allow_unused=True)
        for (tensor, total), gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                place = total[chunk] if tensor is self.chunk else total
                place += gradient
        del self.chunk, self.made


Layer: TypeAlias = PlainLayer | AnyLayer


def _trained_rows(head: nn.Module) -> TrainedRows | None:
    """What peft's trainable tokens put in the place of single rows; None for any other module."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    tokens = getattr(head, "token_adapter", head)
    if not isinstance(tokens, TrainableTokensLayer) or tokens.merged or tokens.disable_adapters:
        return None
    base, active = tokens.base_layer, tokens.active_adapters
    if not is_plain(base) or base.weight.requires_grad or len(active) != 1:
        return None
    places = torch.tensor(tokens.token_indices[active[0]], device=base.weight.device)
    values = tokens.trainable_tokens_delta[active[0]]
    return TrainedRows(weight=base.weight, places=places, values=values)


def _zeros(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Where gradients add up in float32; None for a tensor that has none, or if none is wanted."""
    if not any(wanted):
        return [None] * len(tensors)
    pairs = zip(tensors, wanted, strict=True)
    return [torch.zeros_like(t, dtype=torch.float32) if want else None for t, want in pairs]

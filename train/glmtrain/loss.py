"""Cross-entropy at labelled positions only, without ever holding tokens x vocabulary logits.

Gradients are computed in the forward pass, one chunk of labelled tokens at a time, so each chunk's
logits are made once and dropped (the idea of Liger-Kernel's fused linear cross-entropy,
https://github.com/linkedin/Liger-Kernel, here in plain torch).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

CHUNK = 512
IGNORED = -100


def summed_loss(hidden: Tensor, labels: Tensor, head: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of the cross-entropy over all labelled tokens, a float32 scalar.

    hidden: [batch, length, width], the decoder's last hidden state.
    labels: [batch, length], the token at each place or -100; place t is predicted from t - 1.
    head: [vocabulary, width], the output projection's weight.
    dtype: in which logits are multiplied out; their log-sum-exp is always float32.

    Divide by the labelled tokens of the whole accumulated batch. Without any label the result is a
    zero that is still connected to the graph, so that `backward` works.
    """
    targets = labels[:, 1:]
    labelled = targets != IGNORED
    chosen = hidden[:, :-1][labelled]
    total: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        chosen, head, targets[labelled], dtype, torch.is_grad_enabled()
    )
    return total


def each_loss(hidden: Tensor, labels: Tensor, head: Tensor, dtype: torch.dtype) -> Tensor:
    """The cross-entropy of every labelled token, float32 [labelled], without a gradient."""
    targets = labels[:, 1:]
    labelled = targets != IGNORED
    rows, wanted = hidden[:, :-1][labelled].detach(), targets[labelled]
    losses = torch.empty(len(rows), device=rows.device)
    for start in range(0, len(rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        logits = (rows[chunk].to(dtype) @ head.detach().to(dtype).T).float()
        losses[chunk] = cross_entropy(logits, wanted[chunk], reduction="none")
    return losses


class _ChunkedCrossEntropy(torch.autograd.Function):
    """hidden [labelled, width], head [vocabulary, width], targets [labelled] -> scalar sum."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype, grad: bool
    ) -> Tensor:
        device = hidden.device.type
        with torch.autocast(device, enabled=False):
            rows, weight = hidden.to(dtype), head.to(dtype)
            grad_rows = _zeros(rows) if grad and ctx.needs_input_grad[0] else None
            grad_weight = _zeros(weight) if grad and ctx.needs_input_grad[1] else None
            total = torch.zeros((), dtype=torch.float32, device=hidden.device)
            # One piece of memory for all chunks: fresh pages cost a sixth of the time on a CPU.
            memory = rows.new_empty((min(CHUNK, len(rows)), len(weight)), dtype=torch.float32)
            for start in range(0, len(rows), CHUNK):
                chunk = slice(start, start + CHUNK)
                logits = _product(rows[chunk], weight, memory)
                loss, slope = _loss_and_slope(logits, targets[chunk])
                total += loss
                if grad_rows is not None:
                    grad_rows[chunk] = slope.to(dtype) @ weight
                if grad_weight is not None:
                    grad_weight += slope.to(dtype).T @ rows[chunk]
        ctx.grad_rows, ctx.grad_weight = grad_rows, grad_weight
        ctx.dtypes = hidden.dtype, head.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in float32 before the cast, so that a half-precision gradient doesn't vanish.
        (scale,) = upstream
        gradients = zip((ctx.grad_rows, ctx.grad_weight), ctx.dtypes, strict=True)
        scaled = [None if g is None else (g * scale).to(dtype) for g, dtype in gradients]
        return *scaled, None, None, None


def _product(rows: Tensor, weight: Tensor, memory: Tensor) -> Tensor:
    """The chunk's logits in float32, in the beginning of `memory`."""
    logits = memory[: len(rows)]
    if weight.dtype == logits.dtype:
        return torch.mm(rows, weight.T, out=logits)
    return logits.copy_(rows @ weight.T)


def _loss_and_slope(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The chunk's summed loss and its derivative by the logits, which takes their memory."""
    places = torch.arange(len(logits), device=logits.device)
    logits -= logits.amax(dim=-1, keepdim=True)
    of_target = logits[places, targets]
    exponentials = logits.exp_()
    sums = exponentials.sum(dim=-1)
    loss = (sums.log() - of_target).sum()
    slope = exponentials.div_(sums.unsqueeze(-1))
    slope[places, targets] -= 1
    return loss, slope


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.float32)

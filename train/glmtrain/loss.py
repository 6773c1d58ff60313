"""Cross-entropy at labelled positions only, without ever holding tokens x vocabulary logits.

Gradients are computed in the forward pass, one chunk of labelled tokens at a time, so each chunk's
logits are made once and dropped (the idea of Liger-Kernel's fused linear cross-entropy,
https://github.com/linkedin/Liger-Kernel, here in plain torch).

The output layer may be any module from hidden states to logits, see `heads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from glmreport.text import Text
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from glmtrain import heads

IGNORED = -100

Score: TypeAlias = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""From a chunk's logits in float32, and which rows it is, to its summed loss and the derivative by
the logits, which may take their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Who computes the summed loss, and why; `kernels.resolve` chooses.

    `compute(rows, weight, targets, objective)` takes rows [labelled, width], the plain output
    layer's weight [vocabulary, width] and targets [labelled], and gives a differentiable float32
    sum. None is this module.
    """

    name: str
    reason: Text
    compute: Callable[[Tensor, Tensor, Tensor, Objective], Tensor] | None = None


TORCH = Kernel(name="torch", reason=Text("kernel.reason.asked"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised, and how it is computed.

    dtype: in which logits are multiplied out; their log-sum-exp is always float32.
    label_smoothing: the share of a label that is spread evenly over the vocabulary
    (Szegedy et al. 2016).
    z_loss: the weight of the squared log-sum-exp of each labelled token's logits
    (Chowdhery et al. 2022).
    """

    dtype: torch.dtype
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    kernel: Kernel = TORCH

    def within(self, dtype: torch.dtype) -> Objective:
        """The same in another format, by this module: a kernel is proven in one format alone."""
        return replace(self, dtype=dtype, kernel=TORCH)


def summed_loss(hidden: Tensor, labels: Tensor, head: nn.Module, objective: Objective) -> Tensor:
    """Sum of the objective over all labelled tokens, a float32 scalar.

    hidden: [batch, length, width], the decoder's last hidden state.
    labels: [batch, length], the token at each place or -100; place t is predicted from t - 1.
    head: the output layer, hidden states [n, width] to logits [n, vocabulary].

    Divide by the labelled tokens of the whole accumulated batch. Without any label the result is a
    zero that is still connected to the graph, so that `backward` works. Gradients are freed by the
    first backward pass.
    """
    rows, targets = labelled(hidden, labels)
    kernel = objective.kernel
    if kernel.compute is not None and len(rows):
        if not heads.is_plain(head):
            raise TypeError(f"{kernel.name} was chosen for a plain output layer, not {type(head)}")
        return kernel.compute(rows, head.weight, targets, objective)

    def score(logits: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        return loss_and_slope(logits, targets[chunk], objective)

    return chunked_loss(rows, head, objective.dtype, score)


def chunked_loss(rows: Tensor, head: nn.Module, dtype: torch.dtype, score: Score) -> Tensor:
    """Sum of `score` over all chunks of the rows [n, width], a float32 scalar with its gradients.

    Logits are multiplied out in `dtype`.
    """
    total: Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        rows, head, dtype, score, torch.is_grad_enabled(), *heads.weights(head)
    )
    return total


def each_loss(hidden: Tensor, labels: Tensor, head: nn.Module, objective: Objective) -> Tensor:
    """The cross-entropy of every labelled token, float32 [labelled], without a gradient.

    There is neither smoothing nor z-loss in it.
    """
    rows, targets = labelled(hidden, labels)
    losses = torch.empty(len(rows), device=rows.device)
    with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
        layer = heads.layer(head, rows, objective.dtype)
        for chunk in _chunks(rows):
            losses[chunk] = cross_entropy(layer.logits(chunk), targets[chunk], reduction="none")
    return losses


class _ChunkedLoss(torch.autograd.Function):
    """rows [n, width], the head, its weights and a score of its logits -> scalar sum."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        head: nn.Module,
        dtype: torch.dtype,
        score: Score,
        grad: bool,
        *weights: Tensor,
    ) -> Tensor:
        needed = ctx.needs_input_grad
        wanted = [grad and need for need in (needed[0], *needed[5:])]
        total = torch.zeros((), dtype=torch.float32, device=rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            layer = heads.layer(head, rows, dtype, wanted)
            for chunk in _chunks(rows):
                loss, slope = score(layer.logits(chunk), chunk)
                total += loss
                if any(wanted):
                    layer.pull(chunk, slope)
        ctx.gradients = layer.gradients
        ctx.dtypes = [tensor.dtype for tensor in (rows, *weights)]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the loss's gradients were freed by its first backward pass")
        gradients, ctx.gradients = ctx.gradients, None
        # Scaled in float32 before the cast, so that a half-precision gradient doesn't vanish.
        (scale,) = upstream
        pairs = zip(gradients, ctx.dtypes, strict=True)
        of_rows, *of_weights = [None if g is None else g.mul_(scale).to(d) for g, d in pairs]
        return of_rows, None, None, None, None, *of_weights


def labelled(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden states [labelled, width] that predict a label, and the labels [labelled]."""
    targets = labels[:, 1:]
    labelled = targets != IGNORED
    return hidden[:, :-1][labelled], targets[labelled]


def _chunks(rows: Tensor) -> Iterator[slice]:
    return (slice(start, start + heads.CHUNK) for start in range(0, len(rows), heads.CHUNK))


def loss_and_slope(logits: Tensor, targets: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """The chunk's summed loss and its derivative by the logits, which takes their memory."""
    smoothing, z_loss = objective.label_smoothing, objective.z_loss
    places = torch.arange(len(logits), device=logits.device)
    peaks = logits.amax(dim=-1, keepdim=True)
    logits -= peaks
    of_target = logits[places, targets]
    of_all = logits.mean(dim=-1) if smoothing else torch.zeros_like(of_target)
    exponentials = logits.exp_()
    sums = exponentials.sum(dim=-1)
    normalisers = sums.log() + peaks.squeeze(-1)
    losses = sums.log() - (1 - smoothing) * of_target - smoothing * of_all
    losses += z_loss * normalisers.square()
    slope = exponentials.mul_(((1 + 2 * z_loss * normalisers) / sums).unsqueeze(-1))
    slope[places, targets] -= 1 - smoothing
    if smoothing:
        slope -= smoothing / logits.shape[-1]
    return losses.sum(), slope

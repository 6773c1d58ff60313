"""Forward and backward passes of a learner, and how far two of them are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from glmtrain.batches import Inputs
from glmtrain.strategies import Strategy
from torch import Tensor

VALUES = 1 << 18
"""So many values of each weight's gradient are compared, at even distances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a batch gives: the mean loss per label, each label's, and gradients by weight.

    `losses` [labelled] and the gradients (evenly spaced values of each, None for none) are float64
    on the CPU, without a loss scale.
    """

    loss: float
    losses: Tensor
    gradients: Mapping[str, Tensor | None]

    @property
    def finite(self) -> bool:
        """Whether all of it are numbers."""
        found = [self.losses, *(g for g in self.gradients.values() if g is not None)]
        return math.isfinite(self.loss) and all(bool(t.isfinite().all()) for t in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Relative distances of losses and of gradients, and the gradients' cosine."""

    losses: float
    gradients: float
    cosine: float

    @property
    def worst(self) -> float:
        """The larger one; inf where one is not a number."""
        found = max(self.losses, self.gradients)
        return found if math.isfinite(self.losses + self.gradients) else math.inf


def compute(
    strategy: Strategy, parts: Sequence[Inputs], scale: float = 1.0, *, each: bool = True
) -> Pass:
    """The pass of batches whose gradients are added up, each divided by the labels of all.

    Losses are multiplied by `scale` before the backward pass, and gradients divided by it after.
    Without `each` the losses of single labels are left out, and the mean loss stands for them.
    """
    labels = sum(part.supervised for part in parts)
    forget(strategy)
    losses, total = [], 0.0
    for part in parts:
        if each:
            with torch.no_grad():
                losses.append(strategy.model(part, "each").double().cpu())
        loss = strategy.model(part) / labels
        total += float(loss.detach())
        (loss * scale).backward()  # type: ignore[no-untyped-call]
    found = gradients(strategy, scale)
    by_label = torch.cat(losses) if each else torch.tensor([total], dtype=torch.float64)
    return Pass(loss=total, losses=by_label, gradients=found)


def gradients(strategy: Strategy, scale: float = 1.0) -> dict[str, Tensor | None]:
    """The gradients that the weights hold, which are dropped."""
    found = {
        name: None if weight.grad is None else spaced(weight.grad) / scale
        for name, weight in strategy.learner.learning().items()
    }
    forget(strategy)
    return found


def forget(strategy: Strategy) -> None:
    """Drop all gradients."""
    for weight in strategy.learner.parameters():
        weight.grad = None


def distance(one: Pass, other: Pass, names: Sequence[str] | None = None) -> Distance:
    """How far a pass is from another, of which differences are taken as shares.

    Gradients are those of the weights in `names`, of all for None; a missing one counts as zero.
    """
    pairs = [_pair(one.gradients[n], other.gradients[n]) for n in names or other.gradients]
    difference = math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs))
    dot = sum(float((a * b).sum()) for a, b in pairs)
    mine = math.sqrt(sum(float(a.square().sum()) for a, _ in pairs))
    theirs = math.sqrt(sum(float(b.square().sum()) for _, b in pairs))
    return Distance(
        losses=relative(one.losses, other.losses),
        gradients=_share(difference, theirs),
        cosine=dot / (mine * theirs) if mine * theirs > 0 else float(mine == theirs),
    )


def relative(one: Tensor, other: Tensor) -> float:
    """The norm of the difference as a share of the other's norm; inf for other lengths."""
    if one.shape != other.shape:
        return math.inf
    return _share(float((one - other).norm()), float(other.norm()))


def spaced(values: Tensor) -> Tensor:
    """Evenly spaced values, float64 on the CPU; an odd stride meets all columns of a matrix."""
    flat = values.detach().reshape(-1)
    stride = max(1, flat.numel() // VALUES) | 1
    return flat[::stride].to("cpu", torch.float64)


@contextmanager
def evaluating(strategy: Strategy) -> Iterator[None]:
    """Without dropout and noise, but with gradients."""
    training = strategy.learner.training
    strategy.learner.eval()
    try:
        yield
    finally:
        strategy.learner.train(training)


def _pair(one: Tensor | None, other: Tensor | None) -> tuple[Tensor, Tensor]:
    if one is None and other is None:
        return torch.zeros(0), torch.zeros(0)
    if one is None or other is None:
        known = other if one is None else one
        assert known is not None
        zero = torch.zeros_like(known)
        return (zero, known) if one is None else (known, zero)
    return one, other


def _share(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole else math.inf

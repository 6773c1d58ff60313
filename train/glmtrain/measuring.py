"""Looking at a model without changing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

from glmtrain.strategies import Strategy

Call: TypeAlias = Callable[..., Tensor]
"""A learner's way in (see `Learner.forward`)."""


@contextmanager
def measuring(strategy: Strategy) -> Iterator[Call]:
    """The model without dropout and gradients; a joint act of all processes, as each call is."""
    learner = strategy.learner
    training = learner.training
    learner.eval()
    try:
        with torch.no_grad():
            yield strategy.model
    finally:
        learner.train(training)

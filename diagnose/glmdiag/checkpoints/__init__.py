"""What a run left, examined tensor by tensor: adapters, whole models, optimisers, checkpoints.

`read` gives a `Checkpoint`, which `checkpoint_rules.judge` judges. No tensor file is loaded whole,
and nothing in a folder is ever executed.
"""

from __future__ import annotations

from glmdiag.checkpoints.adapter import Adapter, Pair
from glmdiag.checkpoints.base import Base
from glmdiag.checkpoints.optimiser import Optimiser
from glmdiag.checkpoints.reading import Checkpoint, read
from glmdiag.checkpoints.tensors import Measured, Weights

__all__ = [
    "Adapter",
    "Base",
    "Checkpoint",
    "Measured",
    "Optimiser",
    "Pair",
    "Weights",
    "read",
]

"""Two checks of the loaded model on a few real tokens, before the first step.

The loss must be the model's own, and segments packed into one row must not see each other.
transformers keeps packed segments apart by position ids alone, and drops that silently when an
attention mask or a cache is passed, so it is measured rather than trusted.
"""

from __future__ import annotations

import torch
from glmprep.errors import UsageError
from torch import Tensor

from glmtrain.batches import Inputs
from glmtrain.data import TrainingData
from glmtrain.learner import Learner
from glmtrain.loss import IGNORED
from glmtrain.precision import Precision

TOKENS = 24
LEAK = 0.25  # of the difference that a row makes whose segments do see each other
LOSS_ERROR = 0.02  # relative; the model's own loss may be rounded to half precision


def check(model: Learner, data: TrainingData, precision: Precision) -> None:
    """Raise UsageError where packing leaks, or the loss differs from the model's own."""
    tokens = _first_tokens(data, precision.device)
    model.eval()
    with torch.no_grad(), precision.autocast():
        _check_loss(model, tokens)
        if data.packed.any():
            _check_packing(model, tokens)
    model.train()


def _check_loss(model: Learner, tokens: Tensor) -> None:
    inputs = _row(tokens, torch.arange(len(tokens), device=tokens.device))
    ours, own = model(inputs, "each").mean(), model(inputs, "own").mean()
    if not abs(ours - own) <= LOSS_ERROR * abs(own):
        raise UsageError(
            f"{type(model.causal).__name__}: its own loss is {own:.3f} where "
            f"ours is {ours:.3f}, so this model is not supported"
        )


def _check_packing(model: Learner, tokens: Tensor) -> None:
    """The second half of a row, packed, must be as it is alone, and not as it is in one text."""
    half = len(tokens) // 2
    rest = len(tokens) - half - 1
    places = torch.arange(len(tokens), device=tokens.device)
    restarting = torch.cat((places[:half], places[: len(tokens) - half]))
    alone = model(_row(tokens[half:], places[: len(tokens) - half]), "each")
    packed = model(_row(tokens, restarting), "each")[-rest:]
    joined = model(_row(tokens, places), "each")[-rest:]
    if not _distance(packed, alone) <= LEAK * _distance(joined, alone):
        raise UsageError(
            "packed rows leak: this model lets a segment see the one before it; "
            "make the shards with glmprep bucket --layout buckets"
        )


def _row(tokens: Tensor, positions: Tensor) -> Inputs:
    return Inputs(
        input_ids=tokens[None],
        position_ids=positions[None],
        attention_mask=None,
        labels=torch.cat((torch.full_like(tokens[:1], IGNORED), tokens[1:]))[None],
        tokens=len(tokens),
        supervised=len(tokens) - 1,
    )


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).norm())


def _first_tokens(data: TrainingData, device: torch.device) -> Tensor:
    return torch.from_numpy(data.rows.input_ids[:TOKENS].astype("int64")).to(device)

"""Did it learn: the loss on the same few rows before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from glmprep.findings import Finding

from glmtrain.batches import Batch, collate
from glmtrain.data import TrainingData
from glmtrain.learner import Learner
from glmtrain.precision import Precision
from glmtrain.rules import nothing_learned

NOTICEABLE = 0.02  # of the loss before; less is within what a change of batches does
MOST_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Mean loss of `tokens` labelled tokens in `rows` training rows, before and after."""

    before: float
    after: float
    rows: int
    tokens: int

    @property
    def verdict(self) -> Literal["learned", "unchanged", "worse"]:
        """Whether the loss fell, stayed, or rose."""
        if not self.after < self.before * (1 + NOTICEABLE):  # so that NaN counts as worse
            return "worse"
        return "learned" if self.after < self.before * (1 - NOTICEABLE) else "unchanged"

    def as_json(self) -> dict[str, float | int | str | None]:
        """The comparison as JSON values."""
        after = self.after if np.isfinite(self.after) else None
        counts: dict[str, float | int | str | None] = {"rows": self.rows, "tokens": self.tokens}
        return {"verdict": self.verdict, "before": self.before, "after": after, **counts}


def sample(data: TrainingData, tokens: int, seed: int) -> list[Batch]:
    """Rows drawn by `seed`, one a batch, until they hold `tokens` labelled tokens."""
    order = np.random.default_rng([seed]).permutation(data.trainable)[:MOST_ROWS]
    sums = np.cumsum(data.rows.supervised[order])
    rows = order[: int(np.searchsorted(sums, tokens)) + 1]
    return [
        Batch(
            rows=np.array([row]), bucket=int(data.rows.bucket[row]), packed=bool(data.packed[row])
        )
        for row in rows
    ]


def mean_loss(
    model: Learner, data: TrainingData, batches: list[Batch], precision: Precision
) -> tuple[float, int]:
    """Mean loss over the labelled tokens of these batches, without training, and their number."""
    model.causal.eval()
    total, tokens = 0.0, 0
    with torch.no_grad(), precision.autocast():
        for batch in batches:
            inputs = collate(data.rows, batch, data.pad_id, precision.device)
            total += float(model(inputs, "each").sum())
            tokens += inputs.supervised
    model.causal.train()
    return total / tokens, tokens


def judge(learned: Learned) -> list[Finding]:
    """A finding where the run taught nothing."""
    data = nothing_learned(learned)
    return [] if data is None else [nothing_learned.finding("run", **data)]

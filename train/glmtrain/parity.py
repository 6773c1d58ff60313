"""Whether a merged model says what the base with its adapter said: the same logits.

A merged weight is rounded to the number format that it is written in, where base and adapter were
rounded apart, so the logits differ by rounding. How much may be is said in parts of the logits'
own standard deviation, which makes it independent of the model's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from glmprep import shards
from glmprep.errors import InputError
from torch import Tensor

from glmtrain.model import CausalModel, head_weight
from glmtrain.precision import Precision
from glmtrain.settings import DType

PROMPTS, LENGTH = 4, 64
"""Prompts that are compared, and tokens of each at most."""
TOLERANCE: dict[DType, float] = {"fp32": 3e-5, "fp16": 1.5e-2, "bf16": 8e-2}
"""The mean difference that is allowed, in standard deviations of the logits.

Rounding alone came to 5e-7 to 3e-6, 1e-3 to 6e-3 and 1e-2 to 4e-2 in random GLMs of forty layers,
the more the larger their weights. A merge with a wrong scale is off by about what the adapter
changes, which is told beside it.
"""
LARGEST = 20
"""The largest difference may be so many times the mean one that is allowed."""
LOST = 0.1
"""Rounding that takes more than this of what the adapter changes is worth a remark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Differences of logits over `tokens` positions, in standard deviations of the logits.

    `agreement` is the share of positions with the same likeliest token; `effect` the mean
    difference that the adapter makes to the base, None without an adapter.
    """

    tokens: int
    mean: float
    largest: float
    agreement: float
    effect: float | None
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the differences are within the tolerance; NaN is not."""
        return self.mean <= self.tolerance and self.largest <= self.largest_allowed

    @property
    def largest_allowed(self) -> float:
        """The tolerance of the largest difference."""
        return LARGEST * self.tolerance

    @property
    def lost(self) -> float | None:
        """The share of the adapter's effect that rounding took; None where there is no effect."""
        return self.mean / self.effect if self.effect else None

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON values, None for what is not a number."""
        values = {**asdict(self), "lost": self.lost, "largest_allowed": self.largest_allowed}
        return {
            name: None if isinstance(x, float) and not np.isfinite(x) else x
            for name, x in values.items()
        } | {"holds": self.holds}


def prompts(folders: Sequence[str], vocabulary: int) -> tuple[list[list[int]], str]:
    """Ids to compare on, and where they are from: rows of the shards, else random ones."""
    for folder in folders:
        try:
            manifest = shards.read_manifest(Path(folder))
            rows = next(iter(shards.read_files(Path(folder), manifest)))
        except (InputError, StopIteration):
            continue
        begins = rows.offsets[: min(PROMPTS, len(rows))]
        ends = np.minimum(rows.offsets[1 : len(begins) + 1], begins + LENGTH)
        found = [
            rows.input_ids[begin:end].tolist() for begin, end in zip(begins, ends, strict=True)
        ]
        return found, f"rows of {folder}"
    random = np.random.default_rng(0)
    drawn = random.integers(0, vocabulary, size=(PROMPTS, LENGTH))
    return drawn.tolist(), "random tokens, since the shards are gone"


@torch.inference_mode()
def logits(causal: CausalModel, asked: Sequence[Sequence[int]], precision: Precision) -> Tensor:
    """The logits of all positions, [tokens, vocabulary], in float32 on the CPU."""
    decoder, head = causal.get_decoder(), head_weight(causal)
    found = []
    for ids in asked:
        with precision.autocast():
            inputs = torch.tensor([ids], device=precision.device)
            states = decoder(input_ids=inputs, use_cache=False).last_hidden_state[0]
            found.append((states.to(head.dtype) @ head.T).float().cpu())
    return torch.cat(found)


def compare(expected: Tensor, found: Tensor, base: Tensor | None, dtype: DType) -> Parity:
    """The parity of `found` with `expected`; `base` are the logits without the adapter."""
    scale = float(expected.std())
    apart = (expected - found).abs()
    return Parity(
        tokens=len(expected),
        mean=float(apart.mean()) / scale,
        largest=float(apart.max()) / scale,
        agreement=float((expected.argmax(1) == found.argmax(1)).float().mean()),
        effect=None if base is None else float((expected - base).abs().mean()) / scale,
        tolerance=TOLERANCE[dtype],
    )

"""What a maximum length costs: rows kept whole, padding, attention, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glmprep.edges import best_edges
from glmprep.memory import lora_bytes
from glmprep.shape import GLM4_9B, Shape, attention_flops, linear_flops

Int64 = npt.NDArray[np.int64]
BUCKETS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Training on rows of at most `max_length` tokens, longer ones split without replay.

    `whole` is the share of rows that need no split, `padding` the share of computed tokens that
    is padding in eight length buckets, `attention` the share of attention matrices in all FLOPs,
    `flops` the FLOPs of one epoch, and `memory` the bytes of a step of LoRA whose batch holds one
    row of that length; the last three for `model`.
    """

    max_length: int
    whole: float
    padding: float
    attention: float
    flops: float
    memory: int
    model: str


def costs(lengths: Int64, limits: Sequence[int], shape: Shape = GLM4_9B) -> list[Cost]:
    """The cost of each limit on conversations of these lengths in tokens; none for no lengths."""
    return [_cost(lengths, limit, shape) for limit in limits] if len(lengths) else []


def _cost(lengths: Int64, limit: int, shape: Shape) -> Cost:
    rows = _split(lengths, limit)
    edges = best_edges(rows, BUCKETS, limit)
    padded = edges[np.searchsorted(edges, rows)]
    attention = float(attention_flops(shape, 1.0) * np.square(padded, dtype=np.float64).sum())
    flops = attention + linear_flops(shape, float(padded.sum()))
    return Cost(
        max_length=limit,
        whole=float((lengths <= limit).mean()),
        padding=1 - float(rows.sum() / padded.sum()),
        attention=attention / flops,
        flops=flops,
        memory=lora_bytes(shape, limit),
        model=shape.name,
    )


def _split(lengths: Int64, limit: int) -> Int64:
    """Lengths after splitting what is longer than the limit into full rows and a rest."""
    full, rest = np.divmod(lengths, limit)
    return np.concatenate([np.full(int(full.sum()), limit), rest[rest > 0]]).astype(np.int64)

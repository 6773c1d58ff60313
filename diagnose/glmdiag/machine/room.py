"""How long a row each method can train on a device, by arithmetic on the model's shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from glmprep.memory import BF16, FP32, Batch, Method, Training, footprint
from glmprep.shape import Shape
from glmtrain.probe import DType

USABLE = 0.92  # of the memory; the rest is for the context, the kernels and fragmentation
SHORTEST, LONGEST = 512, 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a method needs in bytes for the longest row that fits, or for the shortest tried.

    `longest` is that row's tokens, None where even the shortest does not fit.
    """

    method: Method
    longest: int | None
    needs: int


def rooms(shape: Shape, memory: int, dtype: DType) -> Sequence[Room]:
    """Every method, one row a batch, half of it labelled, with gradient checkpointing."""
    width = FP32 if dtype == "float32" else BF16
    return [_room(shape, memory * USABLE, method, width) for method in get_args(Method)]


def _room(shape: Shape, memory: float, method: Method, width: int) -> Room:
    training = Training(method=method, width=width)
    longest, needs = None, _needs(shape, training, SHORTEST)
    length = SHORTEST
    while length <= LONGEST and (peak := _needs(shape, training, length)) <= memory:
        longest, needs, length = length, peak, length * 2
    return Room(method=method, longest=longest, needs=needs)


def _needs(shape: Shape, training: Training, length: int) -> int:
    batch = Batch(rows=1, length=length, labelled=length // 2)
    return footprint(shape, training, batch).peak

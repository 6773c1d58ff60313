"""A batch: rows that the model sees at once, and what tensors they become.

Rows are padded to the longest row *of the batch*: the bucket bounds the waste, and padding up to
its edge would only pay where shapes have to stay the same from step to step. Rows are never cut.
Rows that hold several segments are kept apart by position ids that restart, without an attention
mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from glmprep.shards import Int64, Rows
from torch import Tensor

from glmtrain.loss import IGNORED

NOTHING = 2
"""Tokens of padding that stand for a batch without rows; one would have no place to predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows that the model sees at once."""

    rows: Int64
    bucket: int
    packed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A batch as tensors of [rows, length]; `attention_mask` is None for packed rows.

    `tokens` counts real tokens, `supervised` those with a label.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    tokens: int
    supervised: int

    @property
    def computed(self) -> int:
        """Tokens that the model computes, padding included."""
        return self.input_ids.numel()

    def to(self, device: torch.device) -> Inputs:
        """The same on a device, copied while it computes where the memory is pinned."""
        mask = self.attention_mask
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            position_ids=self.position_ids.to(device, non_blocking=True),
            attention_mask=None if mask is None else mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )


def collate(
    rows: Rows,
    batch: Batch,
    pad_id: int,
    device: torch.device | None = None,
    *,
    pinned: bool = False,
) -> Inputs:
    """The tensors of a batch. Only here does the mask become labels, -100 where there is none.

    A batch without rows becomes padding without a label, so that its process takes part in the
    step. Raises ValueError for rows without any label.
    """
    starts, ends = rows.offsets[batch.rows], rows.offsets[batch.rows + 1]
    shape = (max(1, len(batch.rows)), int((ends - starts).max(initial=NOTHING)))
    ids = np.full(shape, pad_id, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    real = np.zeros(shape, dtype=np.int64)
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        length = end - start
        ids[place, :length] = rows.input_ids[start:end]
        trained = rows.loss_mask[start:end] == 1
        labels[place, :length][trained] = rows.input_ids[start:end][trained]
        positions[place, :length] = rows.position_ids[start:end]
        # Padding counts from 0 again, so that among packed rows it is a segment of its own.
        positions[place, length:] = np.arange(shape[1] - length)
        real[place, :length] = 1
    supervised = int((labels != IGNORED).sum())
    if supervised == 0 and len(batch.rows):
        raise ValueError(f"rows {batch.rows.tolist()} hold no training target")
    plain = batch.packed or not len(batch.rows)
    made = Inputs(
        input_ids=_tensor(ids, pinned),
        position_ids=_tensor(positions, pinned),
        attention_mask=None if plain else _tensor(real, pinned),
        labels=_tensor(labels, pinned),
        tokens=int(real.sum()),
        supervised=supervised,
    )
    return made if device is None else made.to(device)


def _tensor(values: Int64, pinned: bool) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor.pin_memory() if pinned else tensor

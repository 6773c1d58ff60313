"""Rows to batches: which rows go together (see `glmprep.batching`), and what tensors they become.

Rows of one bucket are batched together, as many as the token budget holds, and padded to the
longest row *of the batch*: the bucket bounds the waste, and padding up to its edge would only pay
where shapes have to stay the same from step to step. Rows are never cut. Rows that hold several
segments are kept apart by position ids that restart, without an attention mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from glmprep.batching import token_batches
from glmprep.shards import Int64, Rows
from torch import Tensor

from glmtrain.data import TrainingData
from glmtrain.loss import IGNORED


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


def epoch_batches(
    data: TrainingData,
    tokens_per_batch: int,
    seed: int,
    epoch: int,
    *,
    ranks: int = 1,
    rank: int = 0,
) -> list[Batch]:
    """The batches of one rank in an epoch (from 0); they follow from seed, epoch and ranks alone.

    Every row with a training target is in exactly one batch of one rank; the others teach nothing
    and are left out. All ranks have as many batches, and those in the same place cost nearly the
    same. Batches come in the order that the shards were made for. Only where there are fewer rows
    than ranks is a batch without rows.
    """
    rows = data.trainable
    buckets, packed = data.rows.bucket[rows], data.packed[rows]
    kinds, kind = np.unique(buckets * np.int64(2) + packed, return_inverse=True)
    made = token_batches(
        data.rows.lengths[rows],
        kind,
        kinds // 2,
        tokens=tokens_per_batch,
        seed=[seed, epoch],
        ranks=ranks,
        order=data.order,
        squares=data.squares[rows] if ranks > 1 else None,
    )
    return [
        Batch(
            rows=rows[chosen],
            bucket=int(buckets[chosen].max(initial=0)),
            packed=bool(packed[chosen].any()),
        )
        for chosen in made.of_rank(rank)
    ]


def accumulated(batches: Sequence[Batch], count: int) -> list[Sequence[Batch]]:
    """The batches of each optimiser step; the last step of an epoch may have fewer."""
    return [batches[start : start + count] for start in range(0, len(batches), count)]


def collate(rows: Rows, batch: Batch, pad_id: int, device: torch.device) -> Inputs:
    """The tensors of a batch. Only here does the mask become labels, -100 where there is none.

    Raises ValueError for a batch without any label.
    """
    starts, ends = rows.offsets[batch.rows], rows.offsets[batch.rows + 1]
    shape = (len(batch.rows), int((ends - starts).max()))
    ids = np.full(shape, pad_id, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
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
    if supervised == 0:
        raise ValueError(f"rows {batch.rows.tolist()} hold no training target")
    return Inputs(
        input_ids=torch.from_numpy(ids).to(device),
        position_ids=torch.from_numpy(positions).to(device),
        attention_mask=None if batch.packed else torch.from_numpy(real).to(device),
        labels=torch.from_numpy(labels).to(device),
        tokens=int(real.sum()),
        supervised=supervised,
    )

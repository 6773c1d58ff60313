"""Rows to batches: which rows go together, in which order, and the tensors they become.

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


def epoch_batches(data: TrainingData, tokens_per_batch: int, seed: int, epoch: int) -> list[Batch]:
    """All batches of an epoch (from 0), in an order that follows from seed and epoch alone.

    Every row with a training target is in exactly one batch; the others teach nothing and are left
    out.
    """
    random = np.random.default_rng([seed, epoch])
    batches: list[Batch] = []
    buckets, packed = data.rows.bucket[data.trainable], data.packed[data.trainable]
    for bucket, is_packed in sorted(set(zip(buckets.tolist(), packed.tolist(), strict=True))):
        rows = random.permutation(data.trainable[(buckets == bucket) & (packed == is_packed)])
        size = max(1, tokens_per_batch // bucket)
        batches += [
            Batch(rows=rows[start : start + size], bucket=bucket, packed=is_packed)
            for start in range(0, len(rows), size)
        ]
    return [batches[i] for i in random.permutation(len(batches))]


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

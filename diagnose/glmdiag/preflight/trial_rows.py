"""The few rows that a trial is made with: whole conversations of the shards, short and of several
lengths, alone, together with padding, or packed into one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from glmprep import shards
from glmprep.shards import Int64, Rows
from glmtrain.batches import Batch, Inputs, collate
from glmtrain.data import TrainingData
from glmtrain.rehearsal import by_length

LOOKED_AT = 256
"""Rows of the shards, of all lengths, among which the few are chosen."""
COUNT, LENGTH, LABELS = 4, 256, 8
"""How many segments, how long they should be at most, and how many labels of each are kept: with a
vocabulary of 151,552 tokens the output layer is most of the cost of a small model, and a processor
without units for half precision takes a fifth of a second for one label in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRows:
    """Segments, one a row, with some of their labels, on `device`."""

    rows: Rows
    pad_id: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Int64:
        """How many labels each segment has."""
        return self.rows.supervised

    def together(self, order: Sequence[int] | None = None) -> Inputs:
        """All segments as one batch, padded to the longest; in another order if one is given."""
        return self._batch(self.rows, range(len(self)) if order is None else order)

    def alone(self) -> Iterator[Inputs]:
        """Each segment as a batch of its own, without padding."""
        return (self._batch(self.rows, [row]) for row in range(len(self)))

    def packed(self) -> Inputs:
        """All segments in one row, positions restarting, as packed shards have them."""
        rows = self.rows
        joined = replace(
            rows,
            offsets=rows.offsets[[0, -1]],
            bucket=rows.offsets[-1:].astype(np.int32),
            segment_ids=np.repeat(np.arange(len(rows), dtype=np.int32), rows.lengths),
            conversation_ids=[[one for held in rows.conversation_ids for one in held]],
        )
        return self._batch(joined, [0], packed=len(rows) > 1)

    def other_ending(self) -> Inputs:
        """The batch with another last token, unlabelled, in every segment."""
        ids, mask = self.rows.input_ids.copy(), self.rows.loss_mask.copy()
        last = self.rows.offsets[1:] - 1
        ids[last], mask[last] = ids[self.rows.offsets[:-1]], 0
        return self._batch(replace(self.rows, input_ids=ids, loss_mask=mask), range(len(self)))

    def without_ending(self) -> Inputs:
        """The batch whose last tokens have no label."""
        mask = self.rows.loss_mask.copy()
        mask[self.rows.offsets[1:] - 1] = 0
        return self._batch(replace(self.rows, loss_mask=mask), range(len(self)))

    def halves(self) -> tuple[Inputs, Inputs]:
        """The batch with every other label, and with the others: two samples of one gradient."""
        places = np.flatnonzero(self.rows.loss_mask)
        made = []
        for parity in (0, 1):
            mask = np.zeros_like(self.rows.loss_mask)
            mask[places[parity::2]] = 1
            made.append(self._batch(replace(self.rows, loss_mask=mask), range(len(self))))
        return made[0], made[1]

    def _batch(self, rows: Rows, chosen: Sequence[int], *, packed: bool = False) -> Inputs:
        places = np.array(chosen, dtype=np.int64)
        batch = Batch(rows=places, bucket=int(rows.lengths[places].max()), packed=packed)
        return collate(rows, batch, self.pad_id, self.device)


def choose(data: TrainingData, device: torch.device) -> TrialRows:
    """Up to four segments of different lengths, the shortest that the shards have to offer.

    One with a token that was added for the data is among them where there is one.
    """
    rows = segments(shards.take(data.rows, by_length(data, LOOKED_AT)))
    able = np.flatnonzero(rows.supervised > 1)  # one label cannot be parted in halves
    able = able if len(able) else np.flatnonzero(rows.supervised)
    ordered = able[np.argsort(rows.lengths[able], kind="stable")]
    short = ordered[rows.lengths[ordered] <= LENGTH]
    short = short if len(short) >= COUNT else ordered[:COUNT]
    chosen = short[np.linspace(0, len(short) - 1, min(COUNT, len(short))).round().astype(np.int64)]
    added = {new for manifest in data.manifests for new in manifest.added_ids.values()}
    if (first := _first_with(rows, ordered, added)) is not None:
        chosen = np.append(first, chosen[chosen != first])[:COUNT]
    kept = shards.take(rows, chosen)
    return TrialRows(rows=_fewer_labels(kept), pad_id=data.pad_id, device=device)


def segments(rows: Rows) -> Rows:
    """Each segment of the rows as a row of its own."""
    starts = np.flatnonzero(rows.position_ids == 0)
    offsets = np.append(starts, len(rows.position_ids)).astype(np.int64)
    return replace(
        rows,
        offsets=offsets,
        bucket=np.diff(offsets).astype(np.int32),
        segment_ids=np.zeros_like(rows.segment_ids),
        conversation_ids=[[str(place)] for place in range(len(starts))],
    )


def _first_with(rows: Rows, ordered: Int64, tokens: set[int]) -> int | None:
    """The shortest segment that holds one of the tokens."""
    if not tokens:
        return None
    held = np.add.reduceat(np.isin(rows.input_ids, list(tokens)), rows.offsets[:-1], dtype=np.int64)
    return next((int(row) for row in ordered if held[row]), None)


def _fewer_labels(rows: Rows) -> Rows:
    """Labels at even distances, the last of each segment among them."""
    mask = np.zeros_like(rows.loss_mask)
    for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        places = start + np.flatnonzero(rows.loss_mask[start:end])
        kept = np.linspace(0, len(places) - 1, min(LABELS, len(places))).round().astype(np.int64)
        mask[places[kept]] = 1
    return replace(rows, loss_mask=mask)

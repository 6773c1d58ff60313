"""How long the data is, to hold a configuration's limit against; from data, or from shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from glmprep import shards
from glmprep.errors import InputError
from glmprep.lengths import Cut, Lengths, covering, percentiles

if TYPE_CHECKING:
    from glmprep.options import Reading

Int64 = npt.NDArray[np.int64]
COVERED = 0.95
"""Share of the conversations that a proposed limit holds whole."""
MULTIPLE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Tokens of each conversation, its trained answers, and what one limit would cut of them."""

    conversations: Int64
    answers: int
    supervised: int
    cut: Cut | None

    @property
    def covering(self) -> int:
        """The limit that holds nearly all conversations whole."""
        return covering(self.conversations, COVERED, MULTIPLE)

    @property
    def percentiles(self) -> dict[str, int]:
        """p50 to p100 of the conversations."""
        return percentiles(self.conversations)

    def share_longer(self, limit: int) -> float:
        """Share of the conversations that a limit does not hold whole."""
        return float((self.conversations > limit).mean())


def of_data(reading: Reading, limit: int | None) -> Measured:
    """The lengths of chat data; raises InputError where no conversation can be measured."""
    from glmprep.checks import checking
    from glmprep.labels import tokenize

    tokenizer, family = reading.load()
    lengths = Lengths([] if limit is None else [limit])
    intake = checking(reading.source, family, tokenizer)
    for batch in intake.batches():
        if batch.rows:
            lengths.add(batch.rows, tokenize(batch.rows, family, tokenizer))
    if not len(lengths.conversations):
        raise InputError(intake.nothing_left())
    return Measured(
        conversations=lengths.conversations,
        answers=len(lengths.answers),
        supervised=lengths.supervised,
        cut=next(iter(lengths.cuts()), None),
    )


def of_shards(folders: Sequence[Path], limit: int | None) -> Measured:
    """The lengths of the segments of shard folders; a packed row holds several."""
    parts = [shards.read(folder)[1] for folder in folders]
    rows = shards.join(parts)
    starts = np.flatnonzero(rows.position_ids == 0)
    ends = np.append(starts[1:], len(rows.position_ids))
    trained = rows.loss_mask.astype(np.int64)
    first = trained.copy()
    first[1:] &= (trained[:-1] == 0) | (rows.position_ids[1:] == 0)
    return Measured(
        conversations=(ends - starts).astype(np.int64),
        answers=int(first.sum()),
        supervised=int(trained.sum()),
        cut=None if limit is None else _cut(rows, starts, ends, limit),
    )


def _cut(rows: shards.Rows, starts: Int64, ends: Int64, limit: int) -> Cut:
    trained, place = rows.loss_mask > 0, rows.position_ids
    totals = np.add.reduceat(trained, starts, dtype=np.int64)
    kept = np.add.reduceat(trained & (place < limit), starts, dtype=np.int64)
    # An answer is cut where the tokens on both sides of the limit are trained.
    edge = np.flatnonzero(place == limit)
    edge = edge[edge > 0]
    return Cut(
        max_length=limit,
        rows=int((ends - starts > limit).sum()),
        without_labels=int(((totals > 0) & (kept == 0)).sum()),
        answers_cut=int((trained[edge] & trained[edge - 1]).sum()),
        supervised_lost=int(totals.sum() - kept.sum()),
    )

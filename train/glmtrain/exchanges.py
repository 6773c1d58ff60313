"""Trained answers with their prompts, drawn from the shards: what the run is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from glmprep.shards import Int32, Rows

from glmtrain.batches import Inputs
from glmtrain.data import TrainingData
from glmtrain.loss import IGNORED

MOST = 32
"""Answers at most; a verdict needs no more, and each is computed by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The last trained stretch of tokens of a segment, and what stands before it.

    `stops` says that the last token is one that ends a turn.
    """

    prompt: Int32
    answer: Int32
    stops: bool

    def inputs(self, answer: Int32 | None = None) -> Inputs:
        """As one row, [1, length]; with the answer of another exchange if one is given."""
        answer = self.answer if answer is None else answer
        ids = torch.from_numpy(np.concatenate((self.prompt, answer)).astype(np.int64))[None]
        labels = ids.clone()
        labels[:, : len(self.prompt)] = IGNORED
        return Inputs(
            input_ids=ids,
            position_ids=torch.arange(ids.shape[1])[None],
            attention_mask=None,
            labels=labels,
            tokens=ids.shape[1],
            supervised=len(answer),
        )


def draw(data: TrainingData, tokens: int, seed: int, *, most: int = MOST) -> list[Exchange]:
    """One exchange of each row that `seed` draws, until they hold `tokens` trained tokens.

    There are `most` at most, and at least two where the data has two rows, so that answers can be
    exchanged.
    """
    order = np.random.default_rng([seed]).permutation(data.trainable)[:most].tolist()
    stops = frozenset(stop for manifest in data.manifests for stop in manifest.stop_ids)
    found: list[Exchange] = []
    held = 0
    for row in order:
        if held >= tokens and len(found) >= 2:
            break
        found.append(_last(data.rows, row, stops))
        held += len(found[-1].answer)
    return found


def _last(rows: Rows, row: int, stops: frozenset[int]) -> Exchange:
    """The last trained stretch of a row, and its segment up to there."""
    start, end = rows.offsets[row], rows.offsets[row + 1]
    ids, mask = rows.input_ids[start:end], rows.loss_mask[start:end]
    last = int(np.flatnonzero(mask)[-1]) + 1
    untrained = np.flatnonzero(mask[:last] == 0)
    first = int(untrained[-1]) + 1  # a segment's first token is never trained
    begin = int(np.flatnonzero(rows.position_ids[start : start + first] == 0)[-1])
    return Exchange(
        prompt=np.array(ids[begin:first]),
        answer=np.array(ids[first:last]),
        stops=int(ids[last - 1]) in stops,
    )


def shuffled(exchanges: Sequence[Exchange]) -> list[Inputs]:
    """Each prompt with the answer of the next exchange."""
    answers = [exchange.answer for exchange in exchanges]
    return [e.inputs(a) for e, a in zip(exchanges, [*answers[1:], answers[0]], strict=True)]

"""A step computed in one number format: as a whole, and each of its records alone.

A record is a conversation, or a segment of one; packed rows hold several, which do not see one
another. A record alone is computed without dropout and noise, so that it is the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from glmprep.shards import Rows, take
from glmtrain import heads, layers
from glmtrain.batches import Batch, Inputs, collate
from glmtrain.course import Work
from glmtrain.learner import Learner
from glmtrain.loop import step_seed
from glmtrain.loss import labelled
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm

from glmdiag.replay.activations import Spot, Trace, watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a forward and backward pass came to in a number format.

    `loss` is the mean over the labels, `norm` that of its gradient, for a record the part that it
    has in the step's. `first` and `gradient` are where it first was not finite on the way there and
    back, `trace` all that was seen.
    """

    dtype: str
    loss: float
    norm: float
    trace: Trace

    @property
    def first(self) -> Spot | None:
        """Where the forward pass first was not finite."""
        return self.trace.first

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        spots = {
            "first": self.first,
            "gradient": self.trace.gradient,
            "largest": self.trace.largest,
        }
        numbers = {"loss": self.loss, "grad_norm": self.norm}
        return {
            "dtype": self.dtype,
            **{name: x if math.isfinite(x) else str(x) for name, x in numbers.items()},
            **{name: None if spot is None else spot.as_json() for name, spot in spots.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A record of a step: which segment of which row, as a row of its own in `Step.rows`."""

    row: int
    segment: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A number format to compute in, and what losses are multiplied with before the way back."""

    dtype: torch.dtype
    name: str
    scale: float = 1.0

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Compute in it, whatever the weights are kept in."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step to be looked at: the model before it, all rows, and the batches of each process."""

    learner: Learner
    rows: Rows
    work: Sequence[Work]
    pad: int
    seed: int
    device: torch.device

    @property
    def labels(self) -> int:
        """Training targets of the whole step."""
        return self.work[0].supervised

    def whole(self, chosen: Format) -> Pass:
        """The step as it was trained, with its dropout; process after process."""
        total = 0.0
        _use(self.learner, chosen)
        with watching(self.learner.causal) as trace:
            for rank, work in enumerate(self.work):
                torch.manual_seed(step_seed(self.seed, work.number, rank))
                for batch in work.batches:
                    total += self._one(collate(self.rows, batch, self.pad, self.device), chosen)
        return self._finished(total, trace, chosen)

    def alone(self, rows: Rows, place: int, chosen: Format) -> Pass:
        """One of the `records`, its loss the mean over its own labels."""
        inputs = self.inputs(rows, place)
        _use(self.learner, chosen)
        self.learner.eval()
        try:
            with watching(self.learner.causal) as trace:
                total = self._one(inputs, chosen)
            found = self._finished(total, trace, chosen)
        finally:
            self.learner.train()
        return replace(found, loss=found.loss * self.labels / inputs.supervised)

    def tokens(self, rows: Rows, place: int, chosen: Format) -> list[float]:
        """The loss of each label of a record, in their order."""
        self.learner.eval()
        try:
            with torch.no_grad(), chosen.autocast(self.device):
                inputs = self.inputs(rows, place)
                found = self._tokens(inputs, chosen)
        finally:
            self.learner.train()
        return found

    def inputs(self, rows: Rows, place: int) -> Inputs:
        """A record as a batch of its own."""
        batch = Batch(rows=np.array([place]), bucket=0, packed=False)
        return collate(rows, batch, self.pad, self.device)

    def _one(self, inputs: Inputs, chosen: Format) -> float:
        with chosen.autocast(self.device):
            loss = self.learner(inputs) / self.labels
        (loss * chosen.scale).backward()
        return float(loss.detach())

    def _finished(self, loss: float, trace: Trace, chosen: Format) -> Pass:
        """Name the output layer, which no hook sees, where only it can have made it non-finite."""
        weights = self.learner.learning().values()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norm = float(get_total_norm(gradients)) / chosen.scale if gradients else 0.0
        self.learner.zero_grad()
        if trace.first is None and not math.isfinite(loss):
            head = layers.head_name(self.learner.causal)
            trace.first = Spot(module=head, side="output", peak=loss)
        return Pass(dtype=chosen.name, loss=loss, norm=norm, trace=trace)

    def _tokens(self, inputs: Inputs, chosen: Format) -> list[float]:
        head = self.learner.causal.get_output_embeddings()
        states, targets = labelled(self.learner.states(inputs), inputs.labels)
        with torch.autocast(self.device.type, enabled=False):
            layer = heads.layer(head, states, chosen.dtype)
            parts: list[Tensor] = []
            for start in range(0, len(states), heads.CHUNK):
                chunk = slice(start, start + heads.CHUNK)
                logits = layer.logits(chunk)
                parts.append(cross_entropy(logits, targets[chunk], reduction="none"))
        return [float(x) for part in parts for x in part]


def records(rows: Rows, chosen: Sequence[int]) -> tuple[Rows, list[Part]]:
    """Rows taken apart: each of their segments as a row of its own, and those with a label."""
    taken = take(rows, np.asarray(chosen, np.int64))
    starts = np.flatnonzero(taken.position_ids == 0)
    row = np.searchsorted(taken.offsets, starts, "right") - 1
    segment = np.arange(len(starts)) - np.searchsorted(row, row)
    apart = replace(
        taken,
        segment_ids=np.zeros_like(taken.segment_ids),
        offsets=np.append(starts, len(taken.input_ids)).astype(np.int64),
        bucket=taken.bucket[row],
        conversation_ids=[
            [_name(taken, int(r), int(s))] for r, s in zip(row, segment, strict=True)
        ],
    )
    return apart, list(_with_labels(apart, [chosen[r] for r in row.tolist()], segment.tolist()))


def upcast(learner: Learner) -> None:
    """Have all weights in float32, whatever they were loaded in; four bits stay four bits."""
    learner.float()


def _use(learner: Learner, chosen: Format) -> None:
    """Have logits multiplied out in the format."""
    learner.objective = learner.objective.within(chosen.dtype)


def _with_labels(rows: Rows, of: Sequence[int], segment: Sequence[int]) -> Iterator[Part]:
    for place, labels in enumerate(rows.supervised.tolist()):
        if labels:
            yield Part(row=of[place], segment=segment[place], place=place)


def _name(rows: Rows, row: int, segment: int) -> str:
    names = rows.conversation_ids[row]
    return names[segment] if segment < len(names) else ""

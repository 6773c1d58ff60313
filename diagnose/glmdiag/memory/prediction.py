"""What a run needs of a card's memory: by bucket, and the smallest change with which all fits.

Arithmetic alone (`glmprep.memory`); nothing is loaded. What a card needs beyond tensors is an
allowance, shown apart from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from glmprep.memory import Batch, Footprint, Loss, Training, footprint
from glmprep.memory_inference import Use, evaluation, generation, resuming
from glmprep.shape import Shape
from glmprep.shards import Int64

GIB = 1 << 30
CONTEXT = GIB // 2
"""The CUDA context with the kernels of torch: some hundred MB, see `nvidia-smi`; an estimate."""
FRAGMENTATION = 0.15
"""Of what comes and goes in a step: the fragmentation that GMLake removed in the mean of eight
models (Guo et al. 2024, arXiv:2401.08156); not measured here."""
MARGIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The rows of a data set: tokens, labelled tokens, bucket, whether several are packed in it."""

    tokens: Int64
    labelled: Int64
    buckets: Int64
    packed: bool = False

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.tokens.max())

    def cut(self, limit: int) -> Lengths:
        """Rows as a limit would leave them; a cut row loses labels in proportion."""
        kept = np.minimum(self.tokens, limit)
        labelled = np.ceil(self.labelled * kept / self.tokens).astype(np.int64)
        return replace(
            self, tokens=kept, labelled=labelled, buckets=np.minimum(self.buckets, limit)
        )

    def over(self, limit: int) -> float:
        """The share of rows that are longer."""
        return float((self.tokens > limit).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is to be run: on `card` with so many bytes, None where no card is named.

    `rows` is a fixed number of rows a batch, as other trainers have it; None where batches hold
    `tokens` tokens. `flash` is attention that needs no mask at padding and borders.
    """

    shape: Shape
    training: Training
    loss: Loss
    lengths: Lengths
    tokens: int
    rows: int | None = None
    flash: bool = False
    answers: int = 512
    card: str = ""
    memory: int | None = None
    accelerator: bool = True

    def batches(self) -> dict[int, Batch]:
        """For each bucket the batch of its longest rows; one bucket where `rows` is fixed."""
        found = {}
        keys = self.lengths.buckets if self.rows is None else np.full_like(self.lengths.tokens, 0)
        for bucket in np.unique(keys):
            own = np.flatnonzero(keys == bucket)
            order = own[np.argsort(-self.lengths.tokens[own], kind="stable")]
            most = self.rows or max(1, self.tokens // max(1, int(bucket)))
            taken = order[:most]
            length = int(self.lengths.tokens[taken].max())
            uneven = bool((self.lengths.tokens[taken] != length).any())
            found[int(bucket) or length] = Batch(
                rows=len(taken),
                length=length,
                labelled=int(self.lengths.labelled[taken].sum()),
                masked=(uneven or self.lengths.packed) and not self.flash,
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the fullest batch of a bucket needs; `allowance` is for context and fragmentation."""

    bucket: int
    batch: Batch
    step: Footprint
    allowance: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.step.peak + self.allowance

    def parts(self) -> dict[str, int]:
        """The total by what it is for, at the moment of the peak."""
        step = self.step
        held = round(step.weights), round(step.state)
        rest = step.peak - sum(held)
        kept = 0 if step.moment == "update" else min(rest, round(step.activations))
        names = ("weights", "state", "activations", "meanwhile", "allowance")
        return dict(zip(names, (*held, kept, rest - kept, self.allowance), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a set-up needs: steps by bucket, and the other things that a run does."""

    setup: Setup
    needs: Sequence[Need]
    evaluation: Use
    generation: Use
    resume: Use

    @property
    def largest(self) -> Need:
        """The bucket that needs most."""
        return max(self.needs, key=lambda need: need.total)

    @property
    def fits(self) -> bool:
        """Whether every bucket has room; true where no card is named."""
        return self.setup.memory is None or self.largest.total <= self.setup.memory

    def with_allowance(self, use: Use) -> int:
        """What evaluating, answering or resuming needs in all."""
        return use.peak + _allowance(self.setup, use.cache + use.working)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        setup = self.setup
        return {
            "model": setup.shape.name,
            "parameters": setup.shape.parameters,
            "training": asdict(setup.training),
            "loss": setup.loss,
            "tokens_per_batch": setup.tokens,
            "card": setup.card or None,
            "memory": setup.memory,
            "fits": self.fits,
            "buckets": [
                {
                    "bucket": need.bucket,
                    "rows": need.batch.rows,
                    "length": need.batch.length,
                    "labelled": need.batch.labelled,
                    "total": need.total,
                    "moment": need.step.moment,
                    "allowance": need.allowance,
                    **need.step.as_json(),
                }
                for need in self.needs
            ],
            "evaluation": self.evaluation.as_json(),
            "generation": self.generation.as_json(),
            "resume": self.resume.as_json(),
        }


def predict(setup: Setup) -> Prediction:
    """What the set-up needs."""
    batches = setup.batches()
    needs = [_need(setup, bucket, batch) for bucket, batch in sorted(batches.items())]
    training = setup.training
    largest = max(batches.values(), key=lambda batch: batch.tokens)
    return Prediction(
        setup=setup,
        needs=needs,
        evaluation=evaluation(setup.shape, training, largest, setup.loss),
        generation=generation(setup.shape, training, 1, setup.lengths.longest, setup.answers),
        resume=resuming(setup.shape, training),
    )


def _need(setup: Setup, bucket: int, batch: Batch) -> Need:
    step = footprint(setup.shape, setup.training, batch, setup.loss)
    changing = step.peak - step.weights - step.state
    return Need(bucket=bucket, batch=batch, step=step, allowance=_allowance(setup, changing))


def _allowance(setup: Setup, changing: float) -> int:
    return round(CONTEXT + FRAGMENTATION * changing) if setup.accelerator else 0

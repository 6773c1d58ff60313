"""What a step came to when it was done again, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmtrain.settings import DType

from glmdiag.replay.contributions import Pass
from glmdiag.replay.rerun import Origin

REFERENCE: DType = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A weight before the step: its largest magnitude, and first rows that are not finite."""

    name: str
    peak: float
    rows: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token where it stands in its record, and its loss as a training target."""

    place: int
    text: str
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record of the step, alone; `passes` by number format.

    `row` counts over all shard folders, `number` in the `folder` that holds it. `origin` is
    `file:line` where the shards' ledger tells it, `start` the token at which the forward pass first
    is not finite, `excerpt` the text around that token or the one with the highest loss, trained
    stretches in brackets; these only for records that are told at length.
    """

    row: int
    folder: str
    number: int
    segment: int
    conversation: str
    tokens: int
    labels: int
    passes: Mapping[str, Pass]
    origin: str | None = None
    start: Token | None = None
    worst: Sequence[Token] = ()
    excerpt: str = ""

    @property
    def name(self) -> str:
        """How a person finds it."""
        part = f" ({self.conversation})" if self.conversation else ""
        place = f", {self.origin}" if self.origin else ""
        return f"row {self.row}{part}{place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a step came to when it was done again.

    `dtype` is the format that fp32 is compared with, `own` the run's. `passes` are of the whole
    step; `records` stand by their guilt, worst first. `weights` are those that hold what is not
    finite, and the largest. `only` is the one row that was looked at, None for all.
    """

    run: Path
    step: int
    logged: Mapping[str, Any]
    own: str
    dtype: str
    origin: Origin
    since: int
    rerun: int
    missing: int
    differs: float | None
    ranks: int
    vocabulary: int
    passes: Mapping[str, Pass]
    records: Sequence[Record]
    only: int | None = None
    weights: Sequence[Weight]

    @property
    def compared(self) -> Pass:
        """The whole step in the format that is compared with fp32."""
        return self.passes[self.dtype]

    @property
    def exact(self) -> Pass:
        """The whole step in fp32."""
        return self.passes[REFERENCE]

    @property
    def broken(self) -> list[Record]:
        """Records that alone are not finite, in the compared format or in fp32."""
        return [one for one in self.records if not all(p.finite for p in one.passes.values())]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "run": str(self.run),
            "step": self.step,
            "logged": dict(self.logged),
            "weights_from": self.origin,
            "weights_of_step": self.since + self.rerun,
            "steps_rerun": self.rerun,
            "rerun_differs": self.differs,
            "passes": {name: each.as_json() for name, each in self.passes.items()},
            "weights": [
                {"name": w.name, "peak": _number(w.peak), "rows": list(w.rows)}
                for w in self.weights
            ],
            "records_of_step": len(self.records),
            "records": [_record_json(one) for one in self.records],
        }


def _record_json(record: Record) -> dict[str, Any]:
    return {
        "row": record.row,
        "segment": record.segment,
        "conversation": record.conversation,
        "origin": record.origin,
        "shards": record.folder,
        "row_of_shards": record.number,
        "first_token_not_finite": None if record.start is None else record.start.place,
        "tokens": record.tokens,
        "labels": record.labels,
        "passes": {name: each.as_json() for name, each in record.passes.items()},
        "worst_tokens": [
            {"place": token.place, "text": token.text, "loss": _number(token.loss or 0.0)}
            for token in record.worst
        ],
        "excerpt": record.excerpt,
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)

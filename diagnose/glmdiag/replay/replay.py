"""One step of a run done again: what in it is not finite or far from the others, and which record.

The step is computed in the run's own number format and in fp32, as a whole and record by record,
with all that passes through the model's modules looked at (see `activations`). What differs between
the formats is the format's doing; what does not is the weights' or the record's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import UsageError
from glmprep.tokenizer import Tokenizer
from glmtrain.learner import Learner
from glmtrain.precision import DTYPES
from glmtrain.settings import DType

from glmdiag.replay import contributions, excerpts, rerun
from glmdiag.replay.activations import magnitude
from glmdiag.replay.contributions import Format, Part, Pass, Step
from glmdiag.replay.replayed import REFERENCE, Record, Replay, Weight
from glmdiag.replay.rerun import MOST_RERUN, Standing

TOLD = 5  # records that are told of at length
ROWS_NAMED = 5  # rows of a weight that are not finite
LOGGED = (
    "loss",
    "nonfinite",
    "grad_norm",
    "nonfinite_grad_norm",
    "learning_rate",
    "loss_scale",
    "event",
)
"""What of the log's line is worth comparing with."""


def replay(
    folder: Path,
    step: int,
    *,
    dtype: DType | None = None,
    moved: Sequence[str] = (),
    row: int | None = None,
    most: int = MOST_RERUN,
    tokenizer: str | None = None,
) -> Replay:
    """Do a step of the run in `folder` again; nothing there is changed.

    dtype: what to compare fp32 with in place of the run's own format. moved: where shards lie now.
    row: look at this row alone. most: steps to train again to get there. tokenizer: what made the
    shards, to show text, where it is not at hand. Raises UsageError for what the run does not have,
    InputError for what is damaged.
    """
    run = rerun.read(folder, moved)
    with rerun.before(run, step, most=most) as standing:
        words = excerpts.words_of(standing.training.data, run.settings.model.path, tokenizer)
        return _Replaying(standing, dtype, row).all(words)


class _Replaying:
    """The step in each format; the run's own comes first, as fp32 needs larger weights."""

    def __init__(self, standing: Standing, dtype: DType | None, row: int | None) -> None:
        self._at, training = standing, standing.training
        line = standing.run.log[standing.step]
        own = _format(training.precision.name, line)
        asked = own if dtype is None else _format(dtype, line)
        self._own, self._compared = own.name, asked.name
        self._formats = {each.name: each for each in (own, _format(REFERENCE, line), asked)}
        self._learner: Learner = training.strategy.learner
        self._data = training.data
        self._step = Step(
            learner=self._learner,
            rows=self._data.rows,
            work=standing.work,
            pad=self._data.pad_id,
            seed=training.plan.config.run.seed,
            device=training.place.device,
        )
        chosen, self._only = _chosen(standing, row), row
        self._rows, self._parts = contributions.records(self._data.rows, chosen)

    def all(self, words: Tokenizer | None) -> Replay:
        """Everything about the step; `words` is what the shards were made with."""
        at, weights = self._at, _weights(self._learner)
        passes, alone = self._passes()
        return Replay(
            run=at.run.folder,
            step=at.step,
            logged={name: at.run.log[at.step].get(name) for name in LOGGED},
            own=self._own,
            dtype=self._compared,
            origin=at.origin,
            since=at.since,
            rerun=at.rerun,
            missing=at.missing,
            differs=at.differs,
            ranks=at.run.ranks,
            vocabulary=self._data.manifests[0].vocab_size,
            passes=passes,
            records=self._records(alone, words),
            weights=weights,
            only=self._only,
        )

    def _passes(self) -> tuple[dict[str, Pass], list[dict[str, Pass]]]:
        """The whole step in each format, and each record alone."""
        whole: dict[str, Pass] = {}
        alone: list[dict[str, Pass]] = [{} for _ in self._parts]
        for name, chosen in self._formats.items():
            if whole:  # another format than the run's
                contributions.upcast(self._learner)
            whole[name] = self._step.whole(chosen)
            for part, found in zip(self._parts, alone, strict=True):
                found[name] = self._step.alone(self._rows, part.place, chosen)
        return whole, alone

    def _records(
        self, alone: Sequence[Mapping[str, Pass]], words: Tokenizer | None
    ) -> list[Record]:
        """The worst first, of which some are told at length."""
        order = sorted(range(len(alone)), key=lambda n: _guilt(alone[n], self._compared))
        told = [self._parts[n] for n in order[:TOLD]]
        origins = excerpts.origins(self._data, [part.row for part in told])
        last = next(reversed(self._formats.values()))
        found = []
        for n in order:
            part = self._parts[n]
            known: dict[str, Any] = {}
            if part in told:
                losses = self._step.tokens(self._rows, part.place, last)
                known = excerpts.told(self._rows, part.place, losses, words, _start(alone[n]))
            found.append(self._record(part, alone[n], origins, known))
        return found

    def _record(
        self,
        part: Part,
        passes: Mapping[str, Pass],
        origins: Mapping[str, str],
        known: Mapping[str, Any],
    ) -> Record:
        (conversation,) = self._rows.conversation_ids[part.place]
        folder, number = excerpts.folder(self._data, part.row)
        return Record(
            row=part.row,
            folder=str(folder),
            number=number,
            segment=part.segment,
            conversation=conversation,
            tokens=int(self._rows.lengths[part.place]),
            labels=int(self._rows.supervised[part.place]),
            passes=passes,
            origin=origins.get(conversation),
            **known,
        )


def _chosen(standing: Standing, row: int | None) -> list[int]:
    """The rows of the step, or the one that was asked for."""
    every = [int(r) for work in standing.work for b in work.batches for r in b.rows]
    if row is None:
        return every
    if row not in every:
        some = ", ".join(map(str, sorted(every)[:10]))
        raise UsageError(f"--row {row}: not in step {standing.step}; it has {len(every)}: {some}")
    return [row]


def _format(name: DType, line: Mapping[str, Any]) -> Format:
    """A number format, under fp16 with the step's loss scale."""
    scale = line.get("loss_scale") if name == "fp16" else None
    return Format(dtype=DTYPES[name], name=name, scale=float(scale or 1.0))


def _weights(learner: Learner) -> list[Weight]:
    """Weights that are not finite; where none is, the largest of those that learn."""
    named = {name: weight for name, weight in learner.named_parameters() if weight.numel()}
    peaks = {name: magnitude(weight) for name, weight in named.items()}
    bad = [name for name, peak in peaks.items() if not math.isfinite(peak)]
    if not bad:
        learns = [name for name, weight in named.items() if weight.requires_grad]
        largest = max(learns, key=peaks.__getitem__)
        return [Weight(name=_plain(largest), peak=peaks[largest])]
    return [Weight(name=_plain(n), peak=peaks[n], rows=_bad_rows(named[n])) for n in bad]


def _plain(name: str) -> str:
    """The name in the causal model."""
    return name.removeprefix("causal.")


def _bad_rows(weight: torch.Tensor) -> list[int]:
    sound = weight.detach().isfinite().reshape(len(weight), -1).all(dim=1)
    found: list[int] = torch.nonzero(~sound).flatten()[:ROWS_NAMED].tolist()
    return found


def _start(passes: Mapping[str, Pass]) -> int | None:
    """The token at which a record first is not finite, in any format."""
    places = (each.first.place for each in passes.values() if each.first is not None)
    return next((place for place in places if place is not None), None)


def _guilt(passes: Mapping[str, Pass], compared: str) -> tuple[int, float]:
    """Least for the guiltiest: not finite in most formats, then the largest gradient."""
    sound = sum(each.finite for each in passes.values())
    norm = passes[compared].norm
    return sound, -norm if math.isfinite(norm) else -math.inf

"""Is a run worth starting? The model and some rows of the data are tried before the first step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from glmprep.errors import SuiteError
from glmprep.findings import Finding
from glmtrain import flops, footprint, preflight, vocabulary
from glmtrain.batches import Batch, Inputs, collate
from glmtrain.footprint import DryRun
from glmtrain.outofmemory import is_out_of_memory

from glmdiag.preflight import effects, formats, invariances
from glmdiag.preflight.effects import Effect
from glmdiag.preflight.formats import Formats
from glmdiag.preflight.invariances import Invariances
from glmdiag.preflight.passes import forget
from glmdiag.preflight.trial import Made, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Longest:
    """The largest batch of the run, done once. `memory` is None where it did not fit.

    `expected` are the seconds by the time of a small batch and the operations of both, `seconds`
    those that it took forward and backward, None where it did not fit.
    """

    rows: int
    length: int
    expected: float
    seconds: float | None = None
    memory: DryRun | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("rows", "length", "expected", "seconds")
        memory = None if self.memory is None else self.memory.as_json()
        return {name: getattr(self, name) for name in names} | {"memory": memory}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What was tried and what came of it. What is None, or empty, could not be tried.

    `own` are the findings that the trainer's own checks would have; `tokenizer` is the name of
    what made the shards where the model's folder holds another one.
    """

    model: str
    architecture: str
    device: str
    segments: int
    length: int
    labels: int
    untrained: bool
    packed: bool
    checkpointing: bool
    tokenizer: str | None
    formats: Formats
    invariances: Invariances | None = None
    effects: Sequence[Effect] = ()
    longest: Longest | None = None
    own: Sequence[Finding] = ()

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain JSON values; those that are not finite become null."""
        names = ("model", "architecture", "device", "segments", "length", "labels")
        return {name: getattr(self, name) for name in names} | {
            "formats": self.formats.as_json(),
            "invariances": None if self.invariances is None else self.invariances.as_json(),
            "effects": [each.as_json() for each in self.effects],
            "longest": None if self.longest is None else self.longest.as_json(),
        }


def examine(trial: Trial, *, longest: bool = True) -> Preflight:
    """Try it all; raises UsageError and InputError as a run would before its first step.

    Without `longest` the largest batch is left out.
    """
    compared = formats.compare(trial)
    chosen = compared.of(trial.dtype)
    facts: dict[str, Any] = {
        "model": trial.config.model.path,
        "architecture": compared.architecture,
        "device": str(trial.place.device),
        "segments": len(trial.rows),
        "length": int(trial.rows.rows.lengths.max()),
        "labels": int(trial.rows.labels.sum()),
        "untrained": trial.config.model.path == "tiny",
        "packed": bool(trial.data.packed.any()),
        "checkpointing": trial.config.model.gradient_checkpointing,
        "tokenizer": _other_tokenizer(trial),
        "formats": compared,
    }
    if chosen is None or chosen.problem is not None:
        return Preflight(**facts)
    if compared.reference is not None:
        facts["invariances"] = invariances.check(trial, compared)
    with trial.made(trial.dtype) as made:
        return Preflight(
            **facts,
            effects=effects.of(made, trial),
            own=preflight.look(made.strategy, trial.data, made.precision),
            longest=_longest(made, trial) if longest else None,
        )


def _longest(made: Made, trial: Trial) -> Longest:
    batch = _largest(made, trial)
    rows, pad, device = trial.data.rows, trial.data.pad_id, trial.place.device
    small, inputs = trial.rows.together(), collate(rows, batch, pad, device)
    _timed(made, small)  # the first pass of a process takes longer
    costs = flops.of(made.learner)
    squares = int((trial.rows.rows.lengths**2).sum()), int(trial.data.squares[batch.rows].sum())
    work = [
        costs.step(tokens=each.computed, labelled=each.supervised, squares=square).hardware
        for each, square in zip((small, inputs), squares, strict=True)
    ]
    count, length = inputs.input_ids.shape
    expected = _timed(made, small) * work[1] / work[0]
    try:
        seconds = _timed(made, inputs)
        memory = footprint.dry_run(made.strategy, trial.data, made.config, trial.place)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        forget(made.strategy)
        return Longest(rows=count, length=length, expected=expected)
    return Longest(rows=count, length=length, expected=expected, seconds=seconds, memory=memory)


def _largest(made: Made, trial: Trial) -> Batch:
    """The batch that computes the most tokens, and has the longest row."""
    assert made.config.data.tokens_per_batch is not None
    lengths = trial.data.rows.lengths

    def computed(batch: Batch) -> tuple[int, int]:
        most = int(lengths[batch.rows].max())
        return len(batch.rows) * most, most

    return max(footprint.fullest(trial.data, made.config.data.tokens_per_batch), key=computed)


def _timed(made: Made, inputs: Inputs) -> float:
    """The seconds of a batch forward and backward."""
    began = time.perf_counter()
    made.strategy.backward(made.strategy.model(inputs) / inputs.supervised)
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    seconds = time.perf_counter() - began
    forget(made.strategy)
    return seconds


def _other_tokenizer(trial: Trial) -> str | None:
    """What made the shards, where the model's folder holds a tokenizer that is another one."""
    path, made = trial.config.model.path, trial.data.manifests[0]
    own = [place for place in vocabulary.at_hand(path) if place == path]
    try:
        same = not own or vocabulary.find(own, made.tokenizer["sha256"], made.added_ids) is not None
    except SuiteError:  # one that cannot be read tells nothing
        return None
    return None if same else str(made.tokenizer["name"])

"""What a run keeps of a step that it had to leave out, so that the step can be done again later.

    OUTPUT/evidence/step-000040/
        weights.safetensors, trainer.safetensors, state.json    a checkpoint of step 39
        step.json    the step's line in the log, the rows of each process, seeds, number format

Such a step changes no weight, so those at hand are those that it began with: nothing has to be
kept of a step before it is known to be at fault. What is random in a step follows from its seed
alone, so there is no state of generators.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmprep.errors import InputError

from glmtrain import checkpoint
from glmtrain.batches import Batch
from glmtrain.checkpoint import Saved
from glmtrain.course import Course
from glmtrain.loop import LEAST_SCALE, step_seed
from glmtrain.metrics import StepMetrics
from glmtrain.plan import Plan

FORMAT = "glmtrain-evidence/1"
FOLDER = "evidence"
FACTS = "step.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Keeps the first step of each kind that is left out: not a number, and a spike."""

    saved: Saved
    course: Course
    plan: Plan
    _seen: set[str] = field(default_factory=set)

    def take(self, step: StepMetrics) -> str | None:
        """Keep the step if it is such a one, before the next begins; its folder within the run's.

        A joint act of all processes.
        """
        kind = _kind(step)
        if kind is None or kind in self._seen:
            return None
        self._seen.add(kind)
        folder = Path(FOLDER) / checkpoint.named(step.step)
        facts = json.dumps(self._facts(step), indent=2, allow_nan=False) + "\n"
        output = Path(self.plan.config.run.output)
        self.saved.write(output / folder, step.step - 1, {FACTS: facts})
        return folder.as_posix()

    def _facts(self, step: StepMetrics) -> dict[str, Any]:
        """Every process knows the rows of all, so none has to ask."""
        config, ranks = self.plan.config, range(step.ranks)
        return {
            "format": FORMAT,
            "step": step.as_json(),
            "dtype": config.precision.dtype,
            "seeds": [step_seed(config.run.seed, step.step, rank) for rank in ranks],
            "batches": [
                [self._batch(batch) for batch in work.batches]
                for rank in ranks
                for work in self.course.work(step.step - 1, step.step, rank)
            ],
        }

    def _batch(self, batch: Batch) -> dict[str, Any]:
        lengths = self.course.lengths[batch.rows]
        return {
            "rows": batch.rows.tolist(),
            "length": int(lengths.max(initial=0)),
            "packed": batch.packed,
        }


def find(output: Path, step: int) -> Path | None:
    """The folder of what was kept of a step, None where nothing was."""
    folder = output / FOLDER / checkpoint.named(step)
    return folder if folder.is_dir() else None


def until(output: Path, step: int) -> Path | None:
    """What was kept last of the steps up to `step`, None where nothing was."""
    found = [f for f in checkpoint.listed(output, FOLDER) if checkpoint.step_of(f) <= step]
    return found[-1] if found else None


def batches(folder: Path) -> Sequence[Sequence[Sequence[int]]]:
    """The rows of each batch of each process; raises InputError where they cannot be read."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}")
        return [[[int(row) for row in b["rows"]] for b in rank] for rank in facts["batches"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / FACTS}: not what a run keeps of a step ({error!r}); remove {folder}, and "
            "the step is done again from a checkpoint"
        ) from error


def keep_until(output: Path, step: int) -> None:
    """Drop what was kept of the steps after `step`, which are about to be done again."""
    for folder in checkpoint.listed(output, FOLDER):
        if checkpoint.step_of(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)


def _kind(step: StepMetrics) -> str | None:
    """Under fp16 a gradient that overflows is no news until nothing is left to be scaled down."""
    if step.event == "overflow":
        scale = step.loss_scale
        return "skipped" if scale is not None and scale <= LEAST_SCALE else None
    return step.event if step.event in ("skipped", "spike") else None

"""A finished or broken run brought back to the moment before one of its steps.

Order of the rows, learning rate and random numbers follow from the step's number, so weights and
the optimiser's memory of any earlier step are enough: those that the run kept of the step itself,
else of the newest checkpoint before it, else those that it began with. The steps between are
trained again, which on a CPU gives the same numbers to the bit. What several processes shared, one
does here: the same rows in the same steps, with other draws of dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from typing import Literal as OneOf

import numpy as np
from glmprep import shards
from glmprep.errors import InputError, UsageError
from glmprep.files import sha256
from glmtrain import checkpoint, config, devices, evidence, metrics, model, output, trained
from glmtrain.course import Course, Work
from glmtrain.loop import Loop
from glmtrain.outofmemory import split
from glmtrain.output import RECORD
from glmtrain.plan import Plan
from glmtrain.progress import Silent
from glmtrain.run import Mode, Training
from glmtrain.settings import Config, Devices, Kernel, Tracking

MOST_RERUN = 100
"""Steps that are trained again at most unless told otherwise."""
Origin: TypeAlias = OneOf["evidence", "checkpoint", "beginning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the folder of a run tells: its settings, its record, and the lines of its log by step.

    `settings` are those for one process that follows the run: nothing is tracked or validated, and
    the number of steps is that of the run.
    """

    folder: Path
    settings: Config
    record: Mapping[str, Any]
    log: Mapping[int, Mapping[str, Any]]

    @property
    def ranks(self) -> int:
        """How many processes shared the work."""
        return max((int(line.get("ranks", 1)) for line in self.log.values()), default=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run stands before `step`.

    The weights are those after step `since`, of which `origin` tells where they come from, with
    `rerun` steps trained since. `differs` is the largest relative difference of a loss of these
    from the log's, None where there is none to compare with. `work` has the batches of each process
    of the run, as it computed them.
    """

    run: Run
    step: int
    training: Training
    work: Sequence[Work]
    origin: Origin
    since: int
    rerun: int
    differs: float | None

    @property
    def missing(self) -> int:
        """Steps that the weights are behind."""
        return self.step - 1 - self.since - self.rerun


def read(folder: Path, moved: Sequence[str] = ()) -> Run:
    """The run in a folder; `moved` are folders where its shards lie now.

    Raises InputError for a folder that holds none, UsageError where its shards are gone.
    """
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder}: holds no run; name the --output of a glmtrain run")
    record = output.read_record(folder)
    asked = config.build([output.resolved(folder)])
    try:
        listed = [(str(each["folder"]), str(each["manifest_sha256"])) for each in record["shards"]]
        weights = [each.get("weight") or each.get("share") for each in record["shards"]]
        steps = int(record["steps"])
        log = {int(line["step"]): line for line in metrics.read(folder)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: its record or log is damaged ({error!r})") from error
    found = trained.found_shards(folder, listed, moved)
    for each in found:
        _check_files(Path(each))
    names = [each if w is None else f"{each}:{w}" for each, w in zip(found, weights, strict=True)]
    return Run(folder=folder, settings=_alone(asked, names, steps), record=record, log=log)


@contextmanager
def before(run: Run, step: int, *, most: int = MOST_RERUN) -> Iterator[Standing]:
    """The run before `step`, with at most so many steps trained again.

    Raises UsageError for a step that the run never came to, and where the base model is another
    one; InputError where what was kept is damaged.
    """
    last = max(run.log, default=0)
    if not 1 <= step <= last:
        raise UsageError(f"{run.folder}: --step {step}: its log has steps 1 to {last}")
    origin, folder = _nearest(run.folder, step)
    alone = Devices()
    with model.quiet_libraries(), devices.join(alone) as place, TemporaryDirectory() as unpacked:
        mode = Mode(overwrite=True, force=True)
        training = Training(run.settings, (), Silent(), mode, place, Path(unpacked) / "rows")
        _check_base(run, training)
        training.course = _Joined.of(training, run.ranks)
        loop = training.loop()
        since = 0 if folder is None else training.saved(loop).restore(folder)
        losses = _again(loop, since, step - 1) if step - 1 - since <= most else {}
        work = _work(run, training, step)
        kept = evidence.find(run.folder, step)
        if kept is not None:
            _check_rows(kept, work)
        yield Standing(
            run=run,
            step=step,
            training=training,
            work=work,
            origin=origin,
            since=since,
            rerun=len(losses),
            differs=_difference(losses, run),
        )


class _Joined(Course):
    """A course of several processes, walked by one that does the batches of all."""

    @classmethod
    def of(cls, training: Training, ranks: int) -> Course:
        chosen = training.plan.config
        if ranks == 1:
            return training.course
        return cls(training.data, chosen.data, seed=chosen.run.seed, ranks=ranks)

    def work(self, done: int, steps: int, rank: int = 0) -> Iterator[Work]:
        """See `Course`."""
        every = [super(_Joined, self).work(done, steps, each) for each in range(self._ranks)]
        for works in zip(*every, strict=True):
            yield replace(works[0], batches=[b for work in works for b in work.batches])


def _alone(asked: Config, names: Sequence[str], steps: int) -> Config:
    """The settings for one process that only follows; a schedule by epochs depends on how many
    processes there are, the number of steps does not. A kernel for the loss is taken if there is
    one here."""
    count = len(asked.data.shards)
    kernel: Kernel = "torch" if asked.loss.kernel == "torch" else "auto"
    return replace(
        asked,
        loss=replace(asked.loss, kernel=kernel),
        data=replace(
            asked.data, shards=tuple(names[:count]), replay=tuple(names[count:]), validation=None
        ),
        devices=Devices(),
        tracking=Tracking(),
        run=replace(asked.run, max_steps=steps, epochs=None),
    )


def _check_files(folder: Path) -> None:
    """Raise InputError where a file of the shards is not what their manifest says."""
    for entry in shards.read_manifest(folder).files:
        path = folder / str(entry["name"])
        if not path.is_file() or sha256(path) != entry["sha256"]:
            raise InputError(f"{path}: gone or changed since the run; run glmprep verify {folder}")


def _check_base(run: Run, training: Training) -> None:
    if training.base["fingerprint"] != run.record.get("base", {}).get("fingerprint"):
        raise UsageError(
            f"{run.settings.model.path}: no longer the model that {run.folder} began with; "
            "put that one back to replay its steps"
        )


def _check_rows(kept: Path, work: Sequence[Work]) -> None:
    """Raise InputError where other rows were kept than those that settings and shards give."""
    wanted = {row for rank in evidence.batches(kept) for batch in rank for row in batch}
    found = {int(row) for each in work for batch in each.batches for row in batch.rows}
    if wanted != found:
        raise InputError(
            f"{kept}: its rows are not those that {output.RESOLVED} and the shards give for the "
            "step; one of them was changed since"
        )


def _nearest(folder: Path, step: int) -> tuple[Origin, Path | None]:
    """What is nearest before a step: what was kept of one that was left out, or a checkpoint."""
    kept = evidence.until(folder, step)
    saved = checkpoint.until(folder, step - 1)
    if kept is not None and (
        saved is None or checkpoint.step_of(kept) - 1 >= checkpoint.step_of(saved)
    ):
        return "evidence", kept
    return ("beginning", None) if saved is None else ("checkpoint", saved)


def _again(loop: Loop, done: int, until: int) -> dict[int, float]:
    """Train the steps after `done` up to `until`; the loss of each."""
    losses: dict[int, float] = {}
    if done >= until:
        return losses
    for step in loop.steps(done):
        losses[step.step] = step.loss
        if step.step == until:
            break
    return losses


def _work(run: Run, training: Training, step: int) -> list[Work]:
    """The batches of each process, smaller where memory had run out."""
    plan: Plan = training.plan
    course = Course(training.data, plan.config.data, seed=plan.config.run.seed, ranks=run.ranks)
    works = [next(course.work(step - 1, step, rank)) for rank in range(run.ranks)]
    budget = run.log[step].get("tokens_budget") or course.budget
    if budget >= course.budget:
        return works
    lengths = training.data.rows.lengths
    return [replace(work, batches=split(work.batches, lengths, budget)) for work in works]


def _difference(losses: Mapping[int, float], run: Run) -> float | None:
    found = []
    for step, loss in losses.items():
        logged = run.log.get(step, {}).get("loss")
        if logged is not None and math.isfinite(loss):
            found.append(abs(loss - logged) / max(abs(logged), 1e-12))
    return float(np.max(found)) if found else None

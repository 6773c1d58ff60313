"""A training run from settings to weights: check everything, train, save, tell what came of it.

OUTPUT/
    config.resolved.toml        the configuration without gaps; `--resume` starts from it
    run.json                    base model, shards, decisions, losses before and after, state
    metrics.jsonl               one object a step
    checkpoints/step-…/         see `checkpoint`
    evidence/step-…/            of a step that was left out, see `evidence`
    adapter_config.json, adapter_model.safetensors    at the end (or a whole model)

Every process does all of it; the main one alone writes and tells.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glmprep.errors import UsageError
from glmprep.findings import Finding

from glmtrain import (
    checkpoint,
    data,
    derive,
    devices,
    evidence,
    exchanges,
    flops,
    footprint,
    learned,
    methods,
    model,
    newtokens,
    plan,
    precision,
    preflight,
    strategies,
    teacher,
    trackers,
)
from glmtrain.checkpoint import Saved
from glmtrain.config import as_dict
from glmtrain.course import Course
from glmtrain.derive import Decision
from glmtrain.devices import Place
from glmtrain.evidence import Evidence
from glmtrain.footprint import DryRun
from glmtrain.generate import Speaker
from glmtrain.guard import Guard
from glmtrain.learned import Learned, Measured
from glmtrain.loop import Loop
from glmtrain.measuring import measuring
from glmtrain.metrics import MetricsFile, StepMetrics
from glmtrain.output import Output, read_record
from glmtrain.patience import Patience
from glmtrain.plan import Plan
from glmtrain.progress import Silent
from glmtrain.settings import Config
from glmtrain.stop import StopSignal
from glmtrain.strategies import Strategy
from glmtrain.validation import Validation

ROWS = ".rows"
"""Where large data is unpacked while the run lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to.

    `stopped_by` is the signal that ended it before its time, None otherwise. `best_step` is the
    step whose weights were kept because held-out rows were predicted best then, None for the last.
    """

    plan: Plan
    record: Mapping[str, Any]
    findings: tuple[Finding, ...]
    last_step: int
    stopped_by: str | None
    best_step: int | None
    learned: Learned | None

    @property
    def output(self) -> Path:
        """The run's folder."""
        return Path(self.plan.config.run.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a run is begun: gone on with, in place of an earlier one, in spite of what was found.

    `start` is a checkpoint, maybe another run's, to begin a new run from.
    """

    resume: bool = False
    overwrite: bool = False
    force: bool = False
    start: Path | None = None


def train(
    config: Config,
    place: Place,
    *,
    given: Collection[str],
    shown: Silent,
    mode: Mode | None = None,
) -> RunResult:
    """Run `config`; `given` names the settings that were asked for, `shown` follows the progress.

    A joint act of all processes, `place` being that of this one. Raises SuiteError (and its kinds)
    for whatever keeps the run from starting or from going on.
    """
    with model.quiet_libraries(), _unpacked(config, place) as rows:
        return Training(config, given, shown, mode or Mode(), place, rows).run()


def dry_run(config: Config, place: Place, *, shown: Silent) -> DryRun:
    """What a step takes at its largest; raises as `train` does."""
    with model.quiet_libraries(), _unpacked(config, place) as rows:
        return Training(config, (), shown, Mode(overwrite=True), place, rows).dry_run()


@contextmanager
def _unpacked(config: Config, place: Place) -> Iterator[Path]:
    """Where large data is unpacked, for as long as the run lasts."""
    folder = Path(config.run.output) / ROWS
    try:
        yield folder
    finally:
        if place.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


class Training:
    """One process's part in a run."""

    def __init__(
        self,
        config: Config,
        given: Collection[str],
        shown: Silent,
        mode: Mode,
        place: Place,
        unpacked: Path | None = None,
    ) -> None:
        self.place, self._mode = place, mode
        self._shown = shown if place.main else Silent()
        self._output = Output(Path(config.run.output))
        self._output.check_free(resume=mode.resume, overwrite=mode.overwrite)
        place.barrier()
        shards = ", ".join(config.data.shards) or "none"
        self._shown.note(f"model {config.model.path}, shards {shards}")
        self.data = self._load_data(config, unpacked)
        self.precision = precision.choose(config.precision, place.device)
        self.course: Course
        self.base: Mapping[str, Any]
        self.plan, self.strategy, self._costs = self._load_model(config)
        for decision in self.plan.decisions:
            self._shown.note(str(decision))
        self._findings = plan.without_effect(given, self.plan)
        self._validation = self._make_validation()
        self._exchanges = exchanges.draw(self.data, config.run.sample_tokens, config.run.seed)
        self._guard, self._patience = Guard(config.guard), Patience(self.plan.config.evaluation)
        self._metrics = MetricsFile(self._output.folder)

    def dry_run(self) -> DryRun:
        """Measure a step at its largest; nothing is written."""
        return footprint.dry_run(self.strategy, self.data, self.plan.config, self.place)

    def run(self) -> RunResult:
        """Check, train, measure, save."""
        self._preflight()
        loop = self.loop()
        saved = self.saved(loop)
        record, done = self._begin(saved)
        last, stopped_by = self._follow(loop, saved, done)
        best = self._take_best(saved, last)
        came_of_it = None
        if stopped_by is None:
            came_of_it = self._came_of_it(record)
            self._findings += learned.judge(came_of_it)
            record["learned"] = came_of_it.as_json()
            self._place_weights()
        record |= {"state": "stopped" if stopped_by else "finished", "last_step": last}
        record["best_step"] = best
        self._write(record)
        return RunResult(
            plan=self.plan,
            record=record,
            findings=(*self._findings, *loop.findings),
            last_step=last,
            stopped_by=stopped_by,
            best_step=best,
            learned=came_of_it,
        )

    def _load_data(self, config: Config, unpacked: Path | None) -> data.TrainingData:
        """All rows; those of large data are unpacked once on each machine."""
        first = self.place.local_rank == 0
        if not first:
            self.place.barrier()
        loaded = data.load(config.data.shards, config.data.replay, unpacked=unpacked, first=first)
        if first:
            self.place.barrier()
        return loaded

    def _load_model(self, config: Config) -> tuple[Plan, Strategy, flops.Costs]:
        """Load the model and share it; refuse what doesn't fit before a step is made."""
        with self.place.turn():
            base = methods.load(config, self.precision, self.place)
            self.base = model.describe(config.model.path, base)
            filled, decisions = derive.fill(config, self.data, methods.targets(base, config))
            made = self._plan(filled, decisions)
            learner = methods.prepare(
                base,
                made.config,
                self.precision.dtype,
                device=self.place.device,
                new_tokens=newtokens.of_data(self.data.manifests, config.model.path),
            )
            data.check_against_model(
                self.data,
                vocabulary=model.head_weight(base).shape[0],
                positions=getattr(base.config, "max_position_embeddings", None),
            )
            learner = teacher.taught(learner, made.config, self.data, self.precision, self.place)
            made = replace(made, decisions=(*made.decisions, *derive.of_model(learner)))
            costs = flops.of(learner)
            shared = strategies.make(self.place, learner, made.config, self.precision)
        return made, shared, costs

    def _plan(self, filled: Config, decisions: Sequence[Decision]) -> Plan:
        self.course = Course(self.data, filled.data, seed=filled.run.seed, ranks=self.place.ranks)
        return plan.make(filled, decisions, course=self.course, precision=self.precision)

    def _make_validation(self) -> Validation | None:
        if self.plan.config.data.validation is None:
            return None
        return Validation(self.plan.config, self.data, self.place)

    def _preflight(self) -> None:
        found = preflight.check(self.place, self.strategy, self.data, self.course, self.precision)
        self._findings += found
        if (errors := preflight.errors(found)) and not self._mode.force:
            first = errors[0]
            raise UsageError(f"{first.rule}: {first.evidence} {first.fix} Or pass --force.")

    def loop(self) -> Loop:
        """The steps of the run, with nothing logged or saved."""
        return Loop(
            place=self.place,
            strategy=self.strategy,
            data=self.data,
            course=self.course,
            plan=self.plan,
            costs=self._costs,
            note=self._shown.note,
            guard=self._guard,
        )

    def saved(self, loop: Loop) -> Saved:
        """What of the run changes from step to step."""
        return Saved(
            place=self.place,
            strategy=self.strategy,
            parts={"guard": self._guard, "smoothed": loop.smoothed, "patience": self._patience},
        )

    def _begin(self, saved: Saved) -> tuple[dict[str, Any], int]:
        """The run's record, and how many steps are done already."""
        config, done = self.plan.config, 0
        if self._mode.resume:
            finished = read_record(self._output.folder).get("state") == "finished"
            shards = self.data.fingerprints()
            record = self._output.continue_record(config, self.base, shards)
            done = saved.restore(checkpoint.latest(self._output.folder))
            if finished:  # else it was killed before its weights were in place
                self._check_goes_on(done)
            if self.place.main:
                self._metrics.keep_until(done)
                evidence.keep_until(self._output.folder, done)
        else:
            before = self._measure()
            learning = self.strategy.learner.learning()
            trainable = sum(weight.numel() for weight in learning.values())
            record = self._output.new_record(self.base, self.data, trainable)
            record["learned"] = {"before": before.as_json()}
            if self.place.main:
                self._output.clear()
            if self._mode.start is not None:
                done = saved.restore(self._mode.start)
        self._write(record)
        return record, done

    def _check_goes_on(self, done: int) -> None:
        """Raise UsageError where nothing is left to do after step `done`."""
        self.plan.check_goes_on(done)
        if self._patience.exhausted:
            raise UsageError(
                f"the run ended at step {done}, as held-out loss no longer fell; "
                "raise it: --set evaluation.patience=N"
            )

    def _follow(self, loop: Loop, saved: Saved, done: int) -> tuple[int, str | None]:
        """Log, show, evaluate and save the steps; returns the last and the signal that came."""
        run, steps, last = self.plan.config.run, self.plan.steps, done
        if self._patience.exhausted:
            return last, None
        self._shown.begin(steps, done)
        tracked = self._track()
        kept = Evidence(saved=saved, course=self.course, plan=self.plan)
        try:
            with StopSignal() as stop:
                for step in loop.steps(done):
                    last = step.step
                    step = replace(step, evidence=kept.take(step))
                    step, best = self._evaluated(step)
                    self._tell(step, tracked)
                    stopped = self.place.any(stop.received is not None)
                    ends = last == steps or self._patience.exhausted
                    due = run.save_every > 0 and last % run.save_every == 0
                    if best or due or ends or stopped:
                        keep = run.keep_checkpoints
                        saved.save(Path(run.output), last, keep=keep, best=self._patience.best_step)
                        loop.saved()
                    if ends:
                        break
                    if stopped:
                        return last, stop.received or "a signal"
        finally:
            tracked.close()
        return last, None

    def _evaluated(self, step: StepMetrics) -> tuple[StepMetrics, bool]:
        """The step with the loss on held-out rows if that is due, and whether it is the best."""
        every = self.plan.config.evaluation.every
        if self._validation is None:
            return step, False
        if step.step < self.plan.steps and not (every and step.step % every == 0):
            return step, False
        loss = self._validation.loss(self.strategy)
        best = self._patience.feed(step.step, loss)
        return replace(step, eval_loss=loss), best

    def _tell(self, step: StepMetrics, tracked: trackers.Trackers) -> None:
        if self.place.main:
            self._metrics.append(step)
            self._shown.step(step)
            tracked.log(step)

    def _track(self) -> trackers.Trackers:
        config = self.plan.config
        to = config.tracking if self.place.main else replace(config.tracking, to=())
        return trackers.start(to, self._output.folder, as_dict(config), self._shown.note)

    def _take_best(self, saved: Saved, last: int) -> int | None:
        """Go back to the weights that predict held-out rows best; None where these are the last."""
        best = self._patience.best_step
        folder = None if best is None else checkpoint.of_step(self._output.folder, best)
        if best == last or folder is None:
            return None
        saved.restore_weights(folder)
        return best

    def _came_of_it(self, record: Mapping[str, Any]) -> Learned:
        answers = self._exchanges
        return Learned(
            before=Measured.from_json(record["learned"]["before"]),
            after=self._measure(),
            answers=len(answers),
            tokens=sum(len(exchange.answer) for exchange in answers),
            exact=self._exact(),
        )

    def _measure(self) -> Measured:
        with measuring(self.strategy) as call:
            return learned.measure(call, self._exchanges, self.place.device)

    def _exact(self) -> float | None:
        """How many answers are generated again; not tried where weights are in slices."""
        if self.place.strategy in devices.SLICING:
            return None
        causal = self.strategy.learner.causal
        speaker = Speaker(
            causal=causal,
            precision=self.precision,
            vocabulary=model.head_weight(causal).shape[0],
        )
        stops = {stop for manifest in self.data.manifests for stop in manifest.stop_ids}
        with measuring(self.strategy):
            return learned.exact(speaker, self._exchanges, stops)

    def _place_weights(self) -> None:
        weights = self.strategy.weights()
        if self.place.main:
            self._output.place_weights(self.strategy.learner, weights)

    def _write(self, record: Mapping[str, Any]) -> None:
        if self.place.main:
            self._output.write(record, self.plan)
        self.place.barrier()

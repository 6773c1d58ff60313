"""A training run from settings to weights: check everything, train, save, tell what came of it.

OUTPUT/
    config.resolved.toml        the configuration without gaps; `--resume` starts from it
    run.json                    base model, shards, decisions, losses before and after, state
    metrics.jsonl               one object a step
    checkpoints/step-…/         see `checkpoint`
    adapter_config.json, adapter_model.safetensors    at the end (or a whole model)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep.findings import Finding

from glmtrain import checkpoint, data, learned, methods, model, plan, precision, selfcheck
from glmtrain.checkpoint import Saved
from glmtrain.learned import Learned
from glmtrain.learner import Learner
from glmtrain.loop import Loop
from glmtrain.metrics import MetricsFile
from glmtrain.optimiser import adamw
from glmtrain.output import Output
from glmtrain.plan import Plan
from glmtrain.probe import default_device
from glmtrain.progress import Silent
from glmtrain.settings import Config
from glmtrain.stop import StopSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to. `stopped_by` is the signal that ended it early, None otherwise."""

    plan: Plan
    record: Mapping[str, Any]
    findings: tuple[Finding, ...]
    last_step: int
    stopped_by: str | None
    learned: Learned | None

    @property
    def output(self) -> Path:
        """The run's folder."""
        return Path(self.plan.config.run.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """Everything loaded and checked, nothing written or trained yet."""

    data: data.TrainingData
    plan: Plan
    precision: precision.Precision
    model: Learner
    base: Mapping[str, Any]


def train(
    config: Config,
    *,
    given: Collection[str],
    shown: Silent,
    resume: bool = False,
    overwrite: bool = False,
) -> RunResult:
    """Run `config`; `given` names the settings that were asked for, `shown` follows the progress.

    Raises SuiteError (and its kinds) for whatever keeps the run from starting or from going on.
    """
    output = Output(Path(config.run.output))
    output.check_free(resume=resume, overwrite=overwrite)
    shown.note(f"model {config.model.path}, shards {', '.join(config.data.shards) or 'none'}")
    with model.quiet_libraries():
        ready = _prepare(config)
        for decision in ready.plan.decisions:
            shown.note(str(decision))
        findings = plan.without_effect(given, ready.plan)
        selfcheck.check(ready.model, ready.data, ready.precision)
        return _train(ready, output, findings, shown, resume=resume)


def _prepare(config: Config) -> _Ready:
    """Load data and model, and refuse what doesn't fit before a step is made."""
    rows = data.load(config.data.shards)
    chosen = precision.choose(config.precision, default_device())
    method = config.model.method
    base = model.load(config.model.path, chosen.frozen_dtype(method)).to(chosen.device)
    data.check_against_model(
        rows,
        vocabulary=model.head_weight(base).shape[0],
        positions=getattr(base.config, "max_position_embeddings", None),
    )
    targets = methods.lora_targets(base, config.lora) if method == "lora" else ()
    made = plan.make(config, data=rows, precision=chosen, targets=targets)
    described = model.describe(config.model.path, base)
    trainable = methods.prepare(base, made.config, chosen.dtype)
    return _Ready(data=rows, plan=made, precision=chosen, model=trainable, base=described)


def _train(
    ready: _Ready, output: Output, findings: list[Finding], shown: Silent, *, resume: bool
) -> RunResult:
    config = ready.plan.config
    optimiser = adamw(ready.model.learning(), config.optimiser)
    saved = Saved(model=ready.model, optimiser=optimiser, precision=ready.precision)
    metrics = MetricsFile(output.folder)
    batches = learned.sample(ready.data, config.run.sample_tokens, config.run.seed)

    if resume:
        record = output.continue_record(config, ready.base, ready.data.fingerprints())
        done = saved.restore(checkpoint.latest(output.folder))
        ready.plan.check_goes_on(done)
        metrics.keep_until(done)
    else:
        before, _ = learned.mean_loss(ready.model, ready.data, batches, ready.precision)
        trainable = sum(weight.numel() for weight in ready.model.learning().values())
        record = output.new_record(ready.base, ready.data, trainable)
        record["learned"] = {"before": before}
        done = 0
        output.clear()
    output.write(record, ready.plan)

    loop = Loop(
        model=ready.model,
        optimiser=optimiser,
        data=ready.data,
        plan=ready.plan,
        precision=ready.precision,
    )
    last, stopped_by = _follow(loop, saved, metrics, shown, done)
    came_of_it = None
    if stopped_by is None:
        after, tokens = learned.mean_loss(ready.model, ready.data, batches, ready.precision)
        before = record["learned"]["before"]
        came_of_it = Learned(before=before, after=after, rows=len(batches), tokens=tokens)
        findings = findings + learned.judge(came_of_it)
        record["learned"] = came_of_it.as_json()
        output.place_weights(ready.model)
    record |= {"state": "stopped" if stopped_by else "finished", "last_step": last}
    output.write(record, ready.plan)
    return RunResult(
        plan=ready.plan,
        record=record,
        findings=(*findings, *loop.findings),
        last_step=last,
        stopped_by=stopped_by,
        learned=came_of_it,
    )


def _follow(
    loop: Loop, saved: Saved, metrics: MetricsFile, shown: Silent, done: int
) -> tuple[int, str | None]:
    """Log, show and save the steps as they are done; returns the last and the signal that came."""
    run, steps = loop.plan.config.run, loop.plan.steps
    last = done
    shown.begin(steps, done)
    with StopSignal() as stop:
        for step in loop.steps(done):
            last = step.step
            metrics.append(step)
            shown.step(step)
            due = run.save_every > 0 and last % run.save_every == 0
            if due or last == steps or stop.received:
                saved.save(Path(run.output), last, run.keep_checkpoints)
            if stop.received:
                return last, stop.received if last < steps else None
    return last, None

"""The training loop: one optimiser step after the other, each measured, guarded and logged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from glmprep.errors import SuiteError
from glmprep.findings import Finding

from glmtrain import flops
from glmtrain.batches import Batch, Inputs, collate
from glmtrain.course import Course, Work
from glmtrain.data import TrainingData
from glmtrain.detectors import Step, Watch
from glmtrain.devices import Place
from glmtrain.guard import Guard, Smoothed, Snapshot, Verdict
from glmtrain.metrics import StepMetrics, nonfinite, peak_memory, restart_peak
from glmtrain.outofmemory import Fallback
from glmtrain.plan import Plan
from glmtrain.prefetch import ahead
from glmtrain.schedule import factor
from glmtrain.strategies import Strategy

SKIPS_IN_A_ROW = 5  # one bad batch happens; five in a row are a broken run
LEAST_SCALE = 1.0  # fp16 that overflows even without scaling cannot be helped by scaling
EXCHANGES_LAST = ("single", "ddp")
"""Strategies that exchange nothing until all gradients are there, so that a step can be redone."""
NO_ROWS = Batch(rows=np.array([], dtype=np.int64), bucket=0, packed=False)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A step's work with its tensors, those of a GPU still in main memory."""

    work: Work
    parts: Sequence[Inputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Sums over all batches of all processes in a step; `loss` is the mean of their labels."""

    loss: float
    tokens: int
    computed: int
    squares: int


@dataclass(slots=True, kw_only=True)
class Loop:
    """Trains as `plan` says. `watch` looks for faults, `guard` for steps to be left out.

    `note` is told what a reader of the log would want to know at once.
    """

    place: Place
    strategy: Strategy
    data: TrainingData
    course: Course
    plan: Plan
    costs: flops.Costs
    note: Callable[[str], None]
    guard: Guard
    watch: Watch = field(default_factory=Watch)
    smoothed: Smoothed = field(default_factory=Smoothed)
    findings: list[Finding] = field(default_factory=list)
    _snapshot: Snapshot = field(default_factory=Snapshot)
    _verdict: Verdict = "fine"
    _fallback: Fallback | None = None
    _skipped: int = 0

    def steps(self, done: int) -> Iterator[StepMetrics]:
        """Train from the step after `done` to the last, giving each step's metrics once it is done.

        Raises SuiteError when step after step had to be skipped.
        """
        if self.place.strategy in EXCHANGES_LAST:
            self._fallback = self._make_fallback()
        work = self.course.work(done, self.plan.steps, self.place.rank)
        steps = ahead(work, self._prepared, self.plan.config.data.prefetch)
        began = time.perf_counter()
        for step in steps:
            metrics = self._step(step, began)
            if done and metrics.step == done + 1 and metrics.event is None:
                metrics = replace(metrics, event="resumed")
            found = self._watched(metrics)
            self.findings += found
            yield replace(metrics, findings=found)
            self._give_up_if_broken(metrics)
            began = time.perf_counter()
        self.findings += self.watch.close()

    def _prepared(self, work: Work) -> _Prepared:
        pinned = self.place.device.type == "cuda"
        rows, pad = self.data.rows, self.data.pad_id
        return _Prepared(work, [collate(rows, b, pad, pinned=pinned) for b in work.batches])

    def _step(self, step: _Prepared, began: float) -> StepMetrics:
        work, device = step.work, self.place.device
        rate, scale = self._rate(work.number), self.strategy.loss_scale
        self.strategy.set_rate(rate)
        # Randomness follows from the step, so that a resumed run needs no state of generators.
        torch.manual_seed(step_seed(self.plan.config.run.seed, work.number, self.place.rank))
        restart_peak(device)
        self._keep_snapshot(self.guard.snapshot_due)
        own, again = self._gradients(step)
        counts = self._counted(step, own)
        limit = self.plan.config.optimiser.max_grad_norm
        self._verdict = "fine"  # until the guard has seen the norm
        norm = self.strategy.clip_and_step(
            limit, sound=math.isfinite(counts.loss), accept=self._accepts
        )
        self._rewind_if_told()
        seconds = time.perf_counter() - began
        cost = self.costs.step(
            tokens=counts.tokens, labelled=work.supervised, squares=counts.squares
        )
        return StepMetrics(
            step=work.number,
            epoch=round(work.epoch, 4),
            loss=counts.loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=counts.tokens,
            supervised_tokens=work.supervised,
            padding=round(1 - counts.tokens / counts.computed, 4),
            tokens_per_second=round(counts.tokens / seconds, 1),
            supervised_tokens_per_second=round(work.supervised / seconds, 1),
            peak_memory=peak_memory(device),
            bucket=max(batch.bucket for batch in work.batches),
            loss_scale=scale,
            rows=[int(row) for batch in work.batches for row in batch.rows],
            ranks=self.place.ranks,
            tokens_budget=None if self._fallback is None else self._fallback.budget,
            mfu=flops.mfu(cost.model / self.place.ranks, seconds, self.plan.peak),
            loss_ema=self.smoothed.feed(counts.loss),
            event=self._event(counts.loss, norm) or ("split" if again else None),
        )

    def _rate(self, number: int) -> float:
        config = self.plan.config
        assert config.optimiser.learning_rate is not None
        return config.optimiser.learning_rate * factor(config.schedule, number, self.plan.steps)

    def _gradients(self, step: _Prepared) -> tuple[float, bool]:
        """Those of the mean over all labels of the step, of all processes.

        Returns this process's part of that mean, and whether memory ran out on the way.
        """
        work = step.work
        if self._fallback is None:
            last = len(step.parts) - 1
            parts = enumerate(step.parts)
            return sum(self._one(part, work, last=n == last) for n, part in parts), False
        made = dict(zip(map(id, work.batches), step.parts, strict=True))

        def one(batch: Batch) -> float:
            part = made.get(id(batch))
            return self._one(part or self._collated(batch), work, last=self.place.ranks == 1)

        losses, again = self._fallback.step(work.batches, one)
        if self.place.ranks > 1:
            # Gradients are exchanged only now that no process can have run out of memory any more.
            self._one(self._collated(NO_ROWS), work, last=True)
        return sum(losses), again

    def _one(self, part: Inputs, work: Work, *, last: bool) -> float:
        with self.strategy.accumulating(last=last):
            loss = self.strategy.model(part.to(self.place.device)) / work.supervised
            self.strategy.backward(loss)
        return float(loss.detach())

    def _collated(self, batch: Batch) -> Inputs:
        return collate(self.data.rows, batch, self.data.pad_id)

    def _counted(self, step: _Prepared, loss: float) -> _Counts:
        rows = np.concatenate([batch.rows for batch in step.work.batches])
        loss, tokens, computed, squares = self.place.total(
            [
                loss,
                sum(part.tokens for part in step.parts),
                sum(part.computed for part in step.parts),
                int(self.data.squares[rows].sum()),
            ]
        )
        return _Counts(loss=loss, tokens=int(tokens), computed=int(computed), squares=int(squares))

    def _accepts(self, norm: float) -> bool:
        self._verdict = self.guard.judge(norm)
        return self._verdict == "fine"

    def _rewind_if_told(self) -> None:
        if self._verdict == "rewind":
            self._snapshot.put_back(self.strategy.learning, self.strategy.optimiser)

    def saved(self) -> None:
        """To be told of each checkpoint, so that a resumed run rewinds to the same weights."""
        self._keep_snapshot(self.plan.config.guard.spikes == "rewind")

    def _keep_snapshot(self, due: bool) -> None:
        if due:
            self._snapshot.take(self.strategy.learning, self.strategy.optimiser)
            self.guard.snapshot_taken()

    def _event(self, loss: float, norm: float) -> str | None:
        if math.isfinite(loss) and math.isfinite(norm):
            return {"fine": None, "skip": "spike", "rewind": "rewound"}[self._verdict]
        return (
            "skipped" if self.strategy.loss_scale is None or not math.isfinite(loss) else "overflow"
        )

    def _make_fallback(self) -> Fallback:
        return Fallback(
            lengths=self.data.rows.lengths,
            budget=self.course.budget,
            forget=self.strategy.optimiser.zero_grad,
            note=self.note,
            agree=self.place.any,
        )

    def _watched(self, metrics: StepMetrics) -> list[Finding]:
        return self.watch.feed(
            Step(
                step=metrics.step,
                loss=metrics.loss,
                grad_norm=metrics.grad_norm,
                learning_rate=metrics.learning_rate,
                nonfinite=nonfinite(metrics.loss),
                event=metrics.event,
                epoch=metrics.epoch,
                tokens=metrics.tokens,
                supervised_tokens=metrics.supervised_tokens,
                tokens_per_second=metrics.tokens_per_second,
                memory=metrics.peak_memory,
                loss_scale=metrics.loss_scale,
                bucket=metrics.bucket,
                planned=self.plan.steps,
                max_grad_norm=self.plan.config.optimiser.max_grad_norm,
            )
        )

    def _give_up_if_broken(self, metrics: StepMetrics) -> None:
        self._skipped = self._skipped + 1 if metrics.event == "skipped" else 0
        scale = self.strategy.loss_scale
        if self._skipped == SKIPS_IN_A_ROW:
            what = "loss" if nonfinite(metrics.loss) else "gradient"
            raise SuiteError(
                f"step {metrics.step}: the {what} was not a number for {SKIPS_IN_A_ROW} steps in a "
                f"row (no weight was changed by them); last rows: {list(metrics.rows)[:8]}. "
                "Try --dtype fp32, a lower --lr, and look at the rows with glmprep show"
            )
        if metrics.event == "overflow" and scale is not None and scale < LEAST_SCALE:
            raise SuiteError(
                f"step {metrics.step}: fp16 overflows even at a loss scale below {LEAST_SCALE:g}; "
                "use --dtype bf16 where the hardware has it, or fp32"
            )


def step_seed(seed: int, step: int, rank: int) -> int:
    """From which a process draws all that is random in a step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])

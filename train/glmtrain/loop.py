"""The training loop: one optimiser step after the other, each measured, guarded and logged."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from glmprep.errors import SuiteError
from glmprep.findings import Finding

from glmtrain.batches import Batch, Inputs, accumulated, collate, epoch_batches
from glmtrain.data import TrainingData
from glmtrain.detectors import Step, Watch
from glmtrain.learner import Learner
from glmtrain.metrics import StepMetrics, nonfinite, peak_memory
from glmtrain.optimiser import set_rate, update
from glmtrain.plan import Plan
from glmtrain.precision import Precision
from glmtrain.schedule import factor

SKIPS_IN_A_ROW = 5  # one bad batch happens; five in a row are a broken run
LEAST_SCALE = 1.0  # fp16 that overflows even without scaling cannot be helped by scaling


@dataclass(slots=True, kw_only=True)
class Loop:
    """Trains `model` as `plan` says. `watch` looks for faults while it goes on."""

    model: Learner
    optimiser: torch.optim.AdamW
    data: TrainingData
    plan: Plan
    precision: Precision
    watch: Watch = field(default_factory=Watch)
    findings: list[Finding] = field(default_factory=list)
    _skipped: int = 0

    def steps(self, done: int) -> Iterator[StepMetrics]:
        """Train from the step after `done` to the last, giving each step's metrics once it is done.

        Raises SuiteError when step after step had to be skipped.
        """
        for number, batches in self._work(done):
            began = time.perf_counter()
            metrics = self._step(number, batches, began)
            if done and number == done + 1 and metrics.event is None:
                metrics = replace(metrics, event="resumed")
            found = self._watched(metrics)
            self.findings += found
            yield replace(metrics, findings=found)
            self._give_up_if_broken(metrics)
        self.findings += self.watch.close()

    def _work(self, done: int) -> Iterator[tuple[int, Sequence[Batch]]]:
        """The number and the batches of each step that is left; they follow from the seed alone."""
        config = self.plan.config
        epoch, skip = divmod(done, self.plan.steps_per_epoch)
        number = done
        while number < self.plan.steps:
            batches = epoch_batches(self.data, self.plan.tokens_per_batch, config.run.seed, epoch)
            for group in accumulated(batches, config.data.accumulate)[skip:]:
                if number == self.plan.steps:
                    return
                number += 1
                yield number, group
            epoch, skip = epoch + 1, 0

    def _step(self, number: int, batches: Sequence[Batch], began: float) -> StepMetrics:
        config, device = self.plan.config, self.precision.device
        rate = self._rate(number)
        set_rate(self.optimiser, rate)
        parts = [collate(self.data.rows, batch, self.data.pad_id, device) for batch in batches]
        loss = self._forward_and_backward(parts)
        limit, scale = config.optimiser.max_grad_norm, self.precision.loss_scale
        norm = update(self.optimiser, self.precision, limit, sound=math.isfinite(loss))
        seconds = time.perf_counter() - began
        tokens, supervised = sum(p.tokens for p in parts), sum(p.supervised for p in parts)
        return StepMetrics(
            step=number,
            epoch=round(number / self.plan.steps_per_epoch, 4),
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=tokens,
            supervised_tokens=supervised,
            padding=round(1 - tokens / sum(p.computed for p in parts), 4),
            tokens_per_second=round(tokens / seconds, 1),
            supervised_tokens_per_second=round(supervised / seconds, 1),
            peak_memory=peak_memory(device),
            bucket=max(batch.bucket for batch in batches),
            loss_scale=scale,
            rows=[int(row) for batch in batches for row in batch.rows],
            event=self._event(loss, norm),
        )

    def _rate(self, number: int) -> float:
        config = self.plan.config
        assert config.optimiser.learning_rate is not None
        return config.optimiser.learning_rate * factor(config.schedule, number, self.plan.steps)

    def _forward_and_backward(self, parts: Sequence[Inputs]) -> float:
        """Gradients of the mean over all labelled tokens of all parts; returns that mean."""
        supervised = sum(part.supervised for part in parts)
        scaler = self.precision.scaler
        mean = 0.0
        for part in parts:
            with self.precision.autocast():
                loss = self.model(part) / supervised
            scaled = loss if scaler is None else scaler.scale(loss)
            scaled.backward()
            mean += float(loss.detach())
        return mean

    def _event(self, loss: float, norm: float) -> str | None:
        if math.isfinite(loss) and math.isfinite(norm):
            return None
        return "skipped" if self.precision.scaler is None or not math.isfinite(loss) else "overflow"

    def _watched(self, metrics: StepMetrics) -> list[Finding]:
        return self.watch.feed(
            Step(
                step=metrics.step,
                loss=metrics.loss,
                grad_norm=metrics.grad_norm,
                learning_rate=metrics.learning_rate,
                nonfinite=nonfinite(metrics.loss),
                event=metrics.event,
            )
        )

    def _give_up_if_broken(self, metrics: StepMetrics) -> None:
        self._skipped = self._skipped + 1 if metrics.event == "skipped" else 0
        scale = self.precision.loss_scale
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

"""What follows from settings, model and shards, decided once, said at the start, and kept."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from glmprep.errors import UsageError
from glmprep.findings import Finding
from glmreport.text import Catalogue, Text

from glmtrain.batches import epoch_batches
from glmtrain.data import TrainingData
from glmtrain.model import TINY
from glmtrain.precision import Precision
from glmtrain.rules import setting_without_effect
from glmtrain.schedule import warmup_steps
from glmtrain.settings import Config

RANK = 16
LEARNING_RATES = {"lora": 2e-4, "full": 2e-5}
TINY_RATES = {"lora": 5e-3, "full": 1e-3}
WEIGHT_DECAY = {"lora": 0.0, "full": 0.01}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A value that was derived rather than given, and why it is what it is."""

    setting: str
    value: str
    reason: Text

    def __str__(self) -> str:
        return f"{self.setting} = {self.value} ({Catalogue.load('en').say(self.reason)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A configuration without gaps, and the course of the run that follows from it."""

    config: Config
    decisions: tuple[Decision, ...]
    steps_per_epoch: int
    steps: int

    @property
    def tokens_per_batch(self) -> int:
        """The token budget of one batch."""
        assert self.config.data.tokens_per_batch is not None
        return self.config.data.tokens_per_batch

    def check_goes_on(self, done: int) -> None:
        """Raise UsageError where nothing is left to do after step `done`."""
        if done >= self.steps:
            raise UsageError(
                f"the run is at step {done} of {self.steps} already; raise --max-steps or --epochs"
            )


def make(
    config: Config, *, data: TrainingData, precision: Precision, targets: tuple[str, ...]
) -> Plan:
    """Fill the gaps of a configuration; `targets` are the layers that adapters go to."""
    filled, decisions = _fill(config, data, targets)
    filled = replace(filled, precision=replace(filled.precision, dtype=precision.name))
    decisions.append(Decision(setting="dtype", value=precision.name, reason=precision.reason))
    per_epoch = _steps_per_epoch(filled, data)
    steps = total_steps(filled, per_epoch)
    warmup = warmup_steps(filled.schedule, steps)
    course = Text(
        "train.reason.steps", epochs=steps / per_epoch, per_epoch=per_epoch, warmup=warmup
    )
    decisions.append(Decision(setting="steps", value=str(steps), reason=course))
    return Plan(config=filled, decisions=tuple(decisions), steps_per_epoch=per_epoch, steps=steps)


def total_steps(config: Config, per_epoch: int) -> int:
    """Optimiser steps of the run: the smaller of both limits, one epoch where none is given."""
    by_epochs = None if config.run.epochs is None else config.run.epochs * per_epoch
    limits = [limit for limit in (config.run.max_steps, by_epochs) if limit is not None]
    return min(limits, default=per_epoch)


def without_effect(given: Collection[str], plan: Plan) -> list[Finding]:
    """One finding for each setting that was given in vain."""
    return [
        setting_without_effect.finding(found["setting"], **found)
        for found in setting_without_effect(given, plan)
    ]


def _fill(
    config: Config, data: TrainingData, targets: tuple[str, ...]
) -> tuple[Config, list[Decision]]:
    method, decisions = config.model.method, []

    def decide(setting: str, value: object, reason: Text) -> None:
        decisions.append(Decision(setting=setting, value=str(value), reason=reason))

    rate, decay = config.optimiser.learning_rate, config.optimiser.weight_decay
    if rate is None:
        tiny = config.model.path == TINY
        rate = (TINY_RATES if tiny else LEARNING_RATES)[method]
        key = "train.reason.rate_tiny" if tiny else "train.reason.rate"
        decide("learning_rate", rate, Text(key, method=method))
    if decay is None:
        decay = WEIGHT_DECAY[method]
    budget = config.data.tokens_per_batch
    if budget is None:
        budget = data.tokens_per_batch
        decide("tokens_per_batch", budget, Text("train.reason.budget"))
    lora = config.lora
    if method in ("lora", "qlora"):
        rank = RANK if lora.rank is None else lora.rank
        alpha = 2.0 * rank if lora.alpha is None else lora.alpha
        dropout = 0.0 if lora.dropout is None else lora.dropout
        decide(
            "lora",
            f"rank {rank}, alpha {alpha:g}",
            Text("train.reason.lora", targets=", ".join(targets)),
        )
        lora = replace(lora, rank=rank, alpha=alpha, dropout=dropout, target_modules=targets)
    filled = replace(
        config,
        optimiser=replace(config.optimiser, learning_rate=rate, weight_decay=decay),
        data=replace(config.data, tokens_per_batch=budget),
        lora=lora,
    )
    return filled, decisions


def _steps_per_epoch(config: Config, data: TrainingData) -> int:
    assert config.data.tokens_per_batch is not None
    batches = len(epoch_batches(data, config.data.tokens_per_batch, config.run.seed, 0))
    return math.ceil(batches / config.data.accumulate)

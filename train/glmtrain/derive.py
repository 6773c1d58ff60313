"""Settings that were left open, derived from the method, the model and the amount of data.

Capacity is matched to the data: a few dozen conversations are learned by heart within an epoch or
two by adapters of a usual size, so they get a small rank, dropout, decay and an early end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from glmreport.text import Catalogue, Literal, Text

from glmtrain import adapters, coverage, lora, quantised
from glmtrain.data import TrainingData
from glmtrain.learner import Learner
from glmtrain.model import TINY
from glmtrain.optimiser import RATE_FACTOR
from glmtrain.settings import Config, Lora, Method

LEARNING_RATES: dict[Method, float] = {"lora": 2e-4, "qlora": 2e-4, "ptuning": 1e-2, "full": 2e-5}
"""For AdamW and models that were trained before."""
TINY_RATES: dict[Method, float] = {"lora": 5e-3, "qlora": 5e-3, "ptuning": 3e-2, "full": 1e-3}
RSLORA_ALPHA = 16.0
"""rsLoRA divides alpha by the root of the rank, so that alpha need not grow with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A value that was derived rather than given, and why it is what it is."""

    setting: str
    value: str
    reason: Text | Literal

    def __str__(self) -> str:
        return f"{self.setting} = {self.value} ({Catalogue.load('en').say(self.reason)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What suits up to so many conversations; `patience` counts evaluations."""

    conversations: float
    rank: int
    prefix: int
    dropout: float
    weight_decay: float
    epochs: int
    patience: int


CAPACITIES = (
    Capacity(
        conversations=128,
        rank=4,
        prefix=16,
        dropout=0.1,
        weight_decay=0.1,
        epochs=5,
        patience=3,
    ),
    Capacity(
        conversations=1024,
        rank=8,
        prefix=32,
        dropout=0.05,
        weight_decay=0.01,
        epochs=3,
        patience=3,
    ),
    Capacity(
        conversations=np.inf,
        rank=16,
        prefix=64,
        dropout=0.0,
        weight_decay=0.01,
        epochs=1,
        patience=0,
    ),
)
"""Which amount of data bears what; the numbers are customary, not measured here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A setting that was open, its value, and why."""

    section: str
    name: str
    value: Any
    reason: Text

    @property
    def decision(self) -> Decision:
        """What is said of it."""
        value = f"{self.value:g}" if isinstance(self.value, float) else str(self.value)
        return Decision(setting=f"{self.section}.{self.name}", value=value, reason=self.reason)


def fill(
    config: Config, data: TrainingData, targets: tuple[str, ...] = ()
) -> tuple[Config, list[Decision]]:
    """The configuration without gaps, and what was decided; `targets` are the adapted layers."""
    if targets:
        config = replace(config, lora=replace(config.lora, target_modules=targets))
    decisions = []
    for gap in _gaps(config, data):
        section = getattr(config, gap.section)
        if getattr(section, gap.name) is None:
            config = replace(config, **{gap.section: replace(section, **{gap.name: gap.value})})
            decisions.append(gap.decision)
    return config, decisions


def _gaps(config: Config, data: TrainingData) -> Iterator[Gap]:
    method, found = config.model.method, conversations(data)
    capacity = next(c for c in CAPACITIES if found <= c.conversations)

    def by_data(section: str, name: str, value: float) -> Gap:
        reason = Text("train.reason.capacity", conversations=found)
        return Gap(section=section, name=name, value=value, reason=reason)

    yield _rate(config)
    yield by_data("optimiser", "weight_decay", capacity.weight_decay)
    budget = Text("train.reason.budget")
    yield Gap(section="data", name="tokens_per_batch", value=data.tokens_per_batch, reason=budget)
    if method in ("lora", "qlora"):
        yield from _adapters(config)
        yield by_data("lora", "rank", capacity.rank)
        if lora.takes_dropout(config.lora.target_modules) and not config.lora.dora:
            yield by_data("lora", "dropout", capacity.dropout)
        none = Text("train.reason.no_dropout")
        yield Gap(section="lora", name="dropout", value=0.0, reason=none)
        rank = capacity.rank if config.lora.rank is None else config.lora.rank
        yield _alpha(config.lora, rank)
    if method == "ptuning":
        yield by_data("prefix", "tokens", capacity.prefix)
    if config.run.max_steps is None:
        yield by_data("run", "epochs", capacity.epochs)
    if config.data.validation is not None:
        yield by_data("evaluation", "patience", capacity.patience)


def _adapters(config: Config) -> Iterator[Gap]:
    """What an adapter to go on from says of itself."""
    if config.model.adapter is None:
        return
    found = adapters.read(Path(config.model.adapter)).lora
    reason = Text("train.reason.adapter")
    for name in ("rank", "alpha", "dropout"):
        yield Gap(section="lora", name=name, value=getattr(found, name), reason=reason)


def of_model(learner: Learner) -> list[Decision]:
    """What became of the model: how much of it learns, or is in four bits, and what computes it."""
    kernel, parts = learner.objective.kernel, coverage.coverage(learner)
    share = coverage.share(parts)
    found = [Decision(setting="loss.kernel", value=kernel.name, reason=kernel.reason)]
    if share:  # a prefix changes no parameter of the base
        reason = coverage.reason(parts)
        found.append(Decision(setting="coverage", value=f"{share:.1%}", reason=reason))
    if sizes := quantised.sizes(learner.causal):
        four = sum(sizes.values()) / sum(part.parameters for part in parts)
        reason = Text("train.reason.quantised")
        found.append(Decision(setting="quantised", value=f"{four:.1%}", reason=reason))
    return found


def conversations(data: TrainingData) -> int:
    """How many conversations, or segments of them, the rows hold."""
    return int(np.count_nonzero(data.rows.position_ids == 0))


def _rate(config: Config) -> Gap:
    method, optimiser = config.model.method, config.optimiser.name
    tiny = config.model.path == TINY
    rate = (TINY_RATES if tiny else LEARNING_RATES)[method] * RATE_FACTOR[optimiser]
    reason = Text(f"train.reason.rate{'_tiny' * tiny}", method=method, optimiser=optimiser)
    return Gap(section="optimiser", name="learning_rate", value=rate, reason=reason)


def _alpha(lora: Lora, rank: int) -> Gap:
    value = RSLORA_ALPHA if lora.rslora else 2.0 * rank
    reason = Text("train.reason.alpha_rslora" if lora.rslora else "train.reason.alpha", rank=rank)
    return Gap(section="lora", name="alpha", value=value, reason=reason)

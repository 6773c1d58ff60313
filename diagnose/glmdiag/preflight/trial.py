"""A model as a run would have it, made anew in each number format, to be tried on a few rows.

Nothing is trained: each model goes forward and backward, and is dropped.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from glmprep import bucket
from glmprep.errors import UsageError
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizing import Named
from glmtrain import (
    data,
    derive,
    devices,
    methods,
    model,
    newtokens,
    precision,
    strategies,
    vocabulary,
)
from glmtrain.data import TrainingData
from glmtrain.devices import Place
from glmtrain.learner import Learner
from glmtrain.newtokens import NewToken
from glmtrain.precision import Precision
from glmtrain.settings import Config
from glmtrain.strategies import Strategy

from glmdiag.preflight import trial_rows
from glmdiag.preflight.trial_rows import TrialRows

Format: TypeAlias = Literal["fp64", "fp32", "bf16", "fp16"]
EXACT_UP_TO = 300_000_000
"""Parameters up to which fp64 is tried: it takes twice the memory of fp32."""
LARGE = 10_000_000
"""Parameters from which on it matters when a model's memory is free."""
SAMPLE, SAMPLE_LENGTH = "sample:toolcalls", 1024
"""What a trial without shards is made with."""
EPSILON: dict[Format, float] = {
    "fp64": 2.0**-52,
    "fp32": 2.0**-23,
    "bf16": 2.0**-7,
    "fp16": 2.0**-10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A model in one format, ready to compute; `config` has no gaps."""

    name: Format
    config: Config
    strategy: Strategy
    precision: Precision
    data: TrainingData

    @property
    def learner(self) -> Learner:
        """The model with its loss."""
        return self.strategy.learner

    @property
    def parameters(self) -> int:
        """All parameters, those that do not learn too."""
        return sum(weight.numel() for weight in self.learner.causal.parameters())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried: settings, rows, and where; `own` is the precision that the run would take."""

    config: Config
    data: TrainingData
    rows: TrialRows
    place: Place
    own: Precision
    new_tokens: tuple[NewToken, ...]

    @property
    def dtype(self) -> Format:
        """The format that the run would take."""
        assert self.own.name != "auto"
        return self.own.name

    @contextmanager
    def made(self, name: Format) -> Iterator[Made]:
        """The model in a format, with the same weights each time, for as long as this lasts.

        fp64 is the model of fp32 with all its weights widened. Raises UsageError where model and
        shards do not go together, InputError for what is no model.
        """
        made = self._make("fp32" if name == "fp64" else name)
        if name == "fp64":
            made = replace(made, name=name)
            _widen(made.learner)
        try:
            yield made
        finally:
            parameters = made.parameters
            del made
            _make_room(parameters)

    def _make(self, name: Literal["fp32", "bf16", "fp16"]) -> Made:
        chosen = self._precision(name)
        asked = replace(self.config.precision, dtype=name, pure=chosen.pure)
        config = replace(self.config, precision=asked)
        if name != self.dtype:
            config = _elsewhere(config)
        base = methods.load(config, chosen, self.place)
        targets = methods.targets(base, config)
        if not targets and config.model.method in ("lora", "qlora"):
            raise UsageError(
                f"{config.model.path}: {type(base).__name__} has no linear layers to adapt; take a "
                "GLM model, or --method full"
            )
        filled, _ = derive.fill(config, self.data, targets)
        positions = getattr(base.config, "max_position_embeddings", None)
        learner = methods.prepare(
            base, filled, chosen.dtype, device=self.place.device, new_tokens=self.new_tokens
        )
        rows = model.head_weight(base).shape[0]
        data.check_against_model(self.data, vocabulary=rows, positions=positions)
        made = strategies.make(self.place, learner, filled, chosen)
        return Made(name=name, config=filled, strategy=made, precision=chosen, data=self.data)

    def _precision(self, name: Literal["fp32", "bf16", "fp16"]) -> Precision:
        """As a run would have it, save that weights which learn are never kept in fp16."""
        device, scale = self.place.device, self.config.precision.initial_loss_scale
        scaler = torch.amp.GradScaler(device.type, init_scale=scale)
        return replace(
            self.own,
            dtype=precision.DTYPES[name],
            scaler=scaler if name == "fp16" else None,
            check=self.own.check if name == self.dtype else None,
            pure=self.own.pure and name != "fp16",
        )


@contextmanager
def prepared(config: Config, scratch: Path) -> Iterator[Trial]:
    """What a run with these settings would be tried with; rows of the samples without shards.

    `scratch` is an empty folder. Raises UsageError and InputError as a run would.
    """
    config = replace(config, devices=replace(config.devices, strategy="single", offload=False))
    if not config.data.shards:
        made = replace(config.data, shards=(str(_made_up(config.model.path, scratch)),))
        config = replace(config, data=made)
    with devices.join(config.devices) as place, model.quiet_libraries():
        loaded = data.load(config.data.shards, config.data.replay, unpacked=scratch / "rows")
        yield Trial(
            config=config,
            data=loaded,
            rows=trial_rows.choose(loaded, place.device),
            place=place,
            own=precision.choose(config.precision, place.device),
            new_tokens=newtokens.of_data(loaded.manifests, config.model.path),
        )


def _elsewhere(config: Config) -> Config:
    """The settings for a format that is not the run's: what computes in its own alone may go."""
    loss, chosen = config.loss, config.model
    if chosen.attention not in ("sdpa", "eager"):
        chosen = replace(chosen, attention="auto")
    if loss.kernel != "torch":
        loss = replace(loss, kernel="auto")
    return replace(config, model=chosen, loss=loss)


def _widen(learner: Learner) -> None:
    learner.double()
    learner.objective = learner.objective.within(torch.float64)


def _made_up(path: str, scratch: Path) -> Path:
    """Shards of a sample, in the model's own vocabulary where it has one beside it."""
    folder = scratch / "sample"
    bucket.bucket(
        Source(paths=[SAMPLE]),
        Folder(folder),
        tokenizing=Named(tokenizer=vocabulary.at_hand(path)[0]),
        config=bucket.Config(max_length=SAMPLE_LENGTH),
    )
    return folder


def _make_room(parameters: int) -> None:
    """Free a model at once: parts of it refer to one another, and the next needs the memory."""
    if parameters > LARGE:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

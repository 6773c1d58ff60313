"""The settings of a training run, by section; the same names in TOML and after `--set`.

A setting that is None is derived later, from the method, the model and the data (see `plan`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from glmprep.errors import UsageError

ALL_LINEAR = "all-linear"

Method: TypeAlias = Literal["lora", "qlora", "ptuning", "full"]
DType: TypeAlias = Literal["auto", "bf16", "fp16", "fp32"]
Attention: TypeAlias = Literal[
    "auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"
]
Order: TypeAlias = Literal["shards", "shuffled", "short-first", "length-mixed"]
Kernel: TypeAlias = Literal["auto", "torch", "liger", "cce"]
OptimiserName: TypeAlias = Literal["adamw", "adamw8bit", "adafactor", "muon", "lion"]
Decay: TypeAlias = Literal["cosine", "linear", "constant", "wsd"]
Spikes: TypeAlias = Literal["off", "skip", "rewind"]
Strategy: TypeAlias = Literal["auto", "single", "ddp", "fsdp2", "zero2", "zero3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is trained and how.

    `adapter` is an adapter's folder to go on from, with its base at `path`. NEFTune adds noise of
    `neftune_alpha` / sqrt(length x width) to the embeddings (Jain et al. 2023).
    """

    path: str = "tiny"
    method: Method = "lora"
    adapter: str | None = None
    trust_remote_code: bool = False
    attention: Attention = "auto"
    gradient_checkpointing: bool = False
    offload_activations: bool = False
    neftune_alpha: float = 0.0

    def __post_init__(self) -> None:
        _check(self.neftune_alpha >= 0, "model.neftune_alpha >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Which rows, in which order, and how many tokens go into one batch and one optimiser step.

    `shards` are folders, each with a weight if `:WEIGHT` stands behind its name; `replay` are
    folders of earlier data with the share of the trained tokens that they are to make up.
    `stages` are `LENGTH:TOKENS`: an epoch takes rows up to the first length in batches of so many
    tokens, then those up to the next.
    """

    shards: tuple[str, ...] = ()
    replay: tuple[str, ...] = ()
    validation: str | None = None
    order: Order = "shards"
    mixing: float | None = None
    stages: tuple[str, ...] = ()
    tokens_per_batch: int | None = None
    accumulate: int = 1
    prefetch: int = 2

    def __post_init__(self) -> None:
        _check(self.tokens_per_batch is None or self.tokens_per_batch > 0, "data.tokens_per_batch")
        _check(self.accumulate > 0, "data.accumulate is at least 1")
        _check(self.prefetch >= 0, "data.prefetch >= 0")
        _check(self.mixing is None or 0 <= self.mixing <= 1, "0 <= data.mixing <= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Cross-entropy; `z_loss` weighs the squared log of the softmax's denominator."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    kernel: Kernel = "auto"

    def __post_init__(self) -> None:
        _check(0 <= self.label_smoothing < 1, "0 <= loss.label_smoothing < 1")
        _check(self.z_loss >= 0, "loss.z_loss >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill:
    """Learning from `teacher`, a model or the folder of a run (Hinton et al. 2015).

    Its distributions, softened by `temperature`, have a share of `weight` in the loss, the labels
    the rest; `hidden` weighs the distance of the last hidden states besides. None trains without.
    """

    teacher: str | None = None
    weight: float = 0.5
    temperature: float = 2.0
    hidden: float = 0.0

    def __post_init__(self) -> None:
        _check(0 <= self.weight <= 1, "0 <= distill.weight <= 1")
        _check(self.temperature > 0, "distill.temperature > 0")
        _check(self.hidden >= 0, "distill.hidden >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """`max_grad_norm = 0` turns clipping off; `beta1` and `beta2` None take the optimiser's own."""

    name: OptimiserName = "adamw"
    learning_rate: float | None = None
    weight_decay: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        _check(self.learning_rate is None or self.learning_rate > 0, "optimiser.learning_rate > 0")
        _check(self.weight_decay is None or self.weight_decay >= 0, "optimiser.weight_decay >= 0")
        for beta in (self.beta1, self.beta2):
            _check(beta is None or 0 <= beta < 1, "0 <= optimiser.beta1, beta2 < 1")
        _check(self.epsilon > 0, "optimiser.epsilon > 0")
        _check(self.max_grad_norm >= 0, "optimiser.max_grad_norm >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up over a share of the steps, then decay to `final` times the learning rate.

    wsd (warm-up, stable, decay; Hu et al. 2024) decays only over the last `cooldown` of the steps.
    """

    decay: Decay = "cosine"
    warmup: float = 0.05
    final: float = 0.1
    cooldown: float = 0.2

    def __post_init__(self) -> None:
        _check(0 <= self.warmup < 1, "0 <= schedule.warmup < 1")
        _check(0 <= self.final <= 1, "0 <= schedule.final <= 1")
        _check(0 < self.cooldown <= 1, "0 < schedule.cooldown <= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters, for lora and qlora.

    `rslora` scales by alpha / sqrt(rank) (Kalajdzievski 2023), `dora` learns magnitude and
    direction apart (Liu et al. 2024). `train_router` adapts the router of a mixture of experts too.
    """

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    rslora: bool = False
    dora: bool = False
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    train_router: bool = False

    def __post_init__(self) -> None:
        _check(self.rank is None or self.rank > 0, "lora.rank is at least 1")
        _check(self.alpha is None or self.alpha > 0, "lora.alpha > 0")
        _check(self.dropout is None or 0 <= self.dropout < 1, "0 <= lora.dropout < 1")
        _check(len(self.target_modules) > 0, "lora.target_modules names at least one module")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """P-tuning v2 (Liu et al. 2021): so many trainable keys and values before every layer's own."""

    tokens: int | None = None

    def __post_init__(self) -> None:
        _check(self.tokens is None or self.tokens > 0, "prefix.tokens is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number format of the forward and backward pass; `auto` asks the hardware.

    `pure` keeps the weights that learn in that format too; else they are float32 under autocast.
    """

    dtype: DType = "auto"
    pure: bool = False
    initial_loss_scale: float = 65536.0

    def __post_init__(self) -> None:
        _check(self.initial_loss_scale >= 1, "precision.initial_loss_scale is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What happens at a gradient norm `z_score` deviations above those before it.

    skip leaves the step out; rewind goes back to the weights of `memory` steps before, too.
    """

    spikes: Spikes = "off"
    z_score: float = 6.0
    memory: int = 50

    def __post_init__(self) -> None:
        _check(self.z_score > 0, "guard.z_score > 0")
        _check(self.memory > 0, "guard.memory is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Loss on `data.validation`, every so many steps (0: at the end alone).

    After `patience` evaluations (0: never) that are not better by `least` of the loss, the run
    ends. `tokens` is how many labelled tokens are looked at each time, at most.
    """

    every: int | None = None
    patience: int | None = None
    least: float = 0.001
    tokens: int = 8192

    def __post_init__(self) -> None:
        _check(self.every is None or self.every >= 0, "evaluation.every >= 0")
        _check(self.patience is None or self.patience >= 0, "evaluation.patience >= 0")
        _check(self.least >= 0, "evaluation.least >= 0")
        _check(self.tokens > 0, "evaluation.tokens is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """How several processes share the work; `auto` is ddp where there are several.

    After `timeout_s` seconds without a word from the others a process gives up.
    """

    strategy: Strategy = "auto"
    offload: bool = False
    bucket_mb: int = 25
    timeout_s: int = 1800

    def __post_init__(self) -> None:
        _check(self.bucket_mb > 0, "devices.bucket_mb is at least 1")
        _check(self.timeout_s > 0, "devices.timeout_s is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """Where metrics go besides metrics.jsonl: tensorboard, wandb, trackio, swanlab."""

    to: tuple[str, ...] = ()
    project: str = "glmtrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How long, where to, and what is kept.

    The run ends after `max_steps` optimiser steps or `epochs` passes, whichever comes first.
    `save_every = 0` saves at the end only.
    """

    output: str = "run"
    seed: int = 42
    max_steps: int | None = None
    epochs: int | None = None
    save_every: int = 0
    keep_checkpoints: int = 2
    sample_tokens: int = 1024

    def __post_init__(self) -> None:
        _check(self.max_steps is None or self.max_steps > 0, "run.max_steps is at least 1")
        _check(self.epochs is None or self.epochs > 0, "run.epochs is at least 1")
        _check(0 <= self.seed < 2**32, "0 <= run.seed < 2**32")
        _check(self.save_every >= 0, "run.save_every >= 0")
        _check(self.keep_checkpoints > 0, "run.keep_checkpoints is at least 1")
        _check(self.sample_tokens > 0, "run.sample_tokens is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    loss: Loss = field(default_factory=Loss)
    distill: Distill = field(default_factory=Distill)
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    lora: Lora = field(default_factory=Lora)
    prefix: Prefix = field(default_factory=Prefix)
    precision: Precision = field(default_factory=Precision)
    guard: Guard = field(default_factory=Guard)
    evaluation: Evaluation = field(default_factory=Evaluation)
    devices: Devices = field(default_factory=Devices)
    tracking: Tracking = field(default_factory=Tracking)
    run: Run = field(default_factory=Run)


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise UsageError(rule if " " in rule else f"{rule} is out of range")

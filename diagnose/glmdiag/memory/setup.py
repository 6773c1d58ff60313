"""What `glmdiag memory` was asked, from options and a configuration, as a `Setup`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

import numpy as np
from glmprep import shapes
from glmprep.errors import UsageError
from glmprep.memory import BF16, FP32, Method, Training
from glmprep.memory_learning import Optimiser
from glmprep.shards import Int64

from glmdiag.configs import TrainerConfig
from glmdiag.memory.prediction import Lengths, Setup

Trainer: TypeAlias = Literal["glmtrain", "hf"]
DType: TypeAlias = Literal["bf16", "fp16", "fp32"]
BUDGET = 8192
LABELLED = 0.5
"""The share of tokens with a label where no rows are given to look at."""
LARGEST = 1 << 24
"""Tokens: no row and no batch is longer in earnest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options as they were given; None is what was left open."""

    model: str | None = None
    shards: Sequence[str] = ()
    length: int | None = None
    labelled: float | None = None
    tokens_per_batch: int | None = None
    batch_size: int | None = None
    max_length: int | None = None
    accumulate: int | None = None
    trainer: Trainer | None = None
    method: Method | None = None
    rank: int | None = None
    prefix: int | None = None
    dropout: float | None = None
    dtype: DType | None = None
    pure: bool | None = None
    optimiser: Optimiser | None = None
    checkpointing: bool | None = None
    zero: int | None = None
    gpus: int | None = None
    offload: bool | None = None
    flash: bool | None = None
    answers: int = 512

    def over(self, other: Asked) -> Asked:
        """These, and where they leave something open the other's."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        said = {name: value for name, value in mine.items() if value not in (None, ())}
        return replace(other, **said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The card that it is for: its name and bytes; `accelerator` is False for main memory."""

    name: str
    memory: int | None
    accelerator: bool = True


def setup(asked: Asked, room: Room) -> Setup:
    """All of it together; raises UsageError where something is missing or does not go together."""
    if asked.model is None:
        names = ", ".join(shapes.KNOWN)
        raise UsageError(f"say which model: --model DIR, tiny, or a known one: {names}")
    training = _training(asked, room)
    lengths = of_shards(asked.shards) if asked.shards else _of_length(asked)
    if asked.max_length is not None:
        lengths = lengths.cut(asked.max_length)
    hf = asked.trainer == "hf"
    rows = asked.batch_size or (1 if hf and asked.tokens_per_batch is None else None)
    return Setup(
        shape=shapes.read(asked.model),
        training=training,
        loss="naive" if hf else "chunked",
        lengths=lengths,
        tokens=asked.tokens_per_batch or max(BUDGET, lengths.longest),
        rows=rows,
        flash=bool(asked.flash),
        answers=asked.answers,
        card=room.name,
        memory=room.memory,
        accelerator=room.accelerator,
    )


def of_shards(folders: Sequence[str]) -> Lengths:
    """The rows of shards that can be trained on; raises InputError for what is none."""
    from glmtrain.data import load

    data = load(folders)
    rows = data.trainable
    return Lengths(
        tokens=data.rows.lengths[rows],
        labelled=data.rows.supervised[rows],
        buckets=data.rows.bucket[rows].astype(np.int64),
        packed=bool(data.packed.any()),
    )


def of_config(config: TrainerConfig) -> Asked:
    """What a trainer's configuration says, its defaults included."""
    width = {"fp32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16"}
    dtype = "bf16" if config.effective("bf16") is True else None
    dtype = "fp16" if dtype is None and config.effective("fp16") is True else dtype
    method = config.effective("method")
    if config.effective("quantisation") == 4 and method == "lora":
        method = "qlora"
    zero = config.deepspeed
    return Asked(
        model=config.model,
        tokens_per_batch=config.effective("tokens_per_batch"),
        batch_size=config.effective("batch_size"),
        max_length=config.limit,
        accumulate=config.effective("accumulation"),
        trainer="glmtrain" if config.trainer == "glmtrain" else "hf",
        method=None if method == "other" else method,
        rank=config.effective("rank"),
        prefix=config.effective("prefix_tokens"),
        dropout=config.effective("dropout"),
        dtype=dtype or width.get(str(config.effective("weights")).removeprefix("torch.")),  # type: ignore[arg-type]
        pure=config.effective("pure"),
        optimiser=_optimiser(config.effective("optimizer")),
        checkpointing=config.effective("checkpointing"),
        zero=None if zero is None else zero.stage,
        offload=None if zero is None else zero.offload_optimizer or zero.offload_param,
    )


def _training(asked: Asked, room: Room) -> Training:
    gpus, stage = asked.gpus or 1, asked.zero or 0
    if asked.offload and not stage:
        raise UsageError("--offload moves the slices of ZeRO to main memory; add --zero 2 or 3")
    if asked.method == "qlora" and stage == 3:
        raise UsageError("--zero 3 cannot slice weights in four bits; take --zero 2, or lora")
    width = FP32 if asked.dtype == "fp32" else BF16
    learning = width if asked.pure else FP32
    return Training(
        method=asked.method or "lora",
        rank=asked.rank or 8,
        prefix=asked.prefix or 64,
        width=width,
        learning=learning,
        optimiser=asked.optimiser or "adamw",
        checkpointing=bool(asked.checkpointing),
        noise=(1 if room.accelerator else learning) if asked.dropout else 0,
        accumulating=(asked.accumulate or 1) > 1,
        stage=stage,
        gpus=gpus,
        offload=bool(asked.offload),
    )


def _of_length(asked: Asked) -> Lengths:
    """Rows of one length, as many as a batch may hold."""
    length = asked.length or asked.max_length
    if length is None:
        raise UsageError("say what rows are trained on: --shards DIR, or --length TOKENS")
    rows = asked.batch_size or max(1, (asked.tokens_per_batch or BUDGET) // length)
    if rows * length > LARGEST:
        raise UsageError(f"a batch of {rows * length:,} tokens: more than {LARGEST:,} at once")
    share = LABELLED if asked.labelled is None else asked.labelled
    return Lengths(
        tokens=_all(rows, length),
        labelled=_all(rows, max(1, round(share * length))),
        buckets=_all(rows, length),
    )


def _all(rows: int, value: int) -> Int64:
    return np.full(rows, value, np.int64)


def _optimiser(name: object) -> Optimiser | None:
    """An optimiser by what another trainer calls it; None where nothing is said."""
    if name is None:
        return None
    said = str(name).lower().replace("_", "").replace("-", "")
    known: tuple[tuple[str, Optimiser], ...] = (
        ("8bit", "adamw8bit"),
        ("adafactor", "adafactor"),
        ("muon", "muon"),
        ("lion", "lion"),
    )
    return next((ours for part, ours in known if part in said), "adamw")

"""Rules on memory: whether a step fits on the device, and what would make it fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from glmprep.findings import Finding, Severity, rule
from glmprep.memory import BF16, FP32, Batch, Method, Training, footprint
from glmprep.shape import GLM4_9B

from glmdiag.configs.record import TrainerConfig
from glmdiag.machine.hardware import Machine

GIB = 1 << 30
USABLE = 0.95
"""Share of the memory that a run can have; the rest is the context of CUDA and fragments."""
METHODS: tuple[Method, ...] = ("lora", "qlora", "ptuning", "full")


def step_bytes(config: TrainerConfig, *, checkpointing: bool) -> int | None:
    """The peak of a step at the limit with GLM-4-9B; None where too little is known for it."""
    training, rows, limit = _training(config), config.effective("batch_size"), config.limit
    if training is None or not rows or limit is None:
        return None
    batch = Batch(rows=int(rows), length=limit, labelled=int(rows) * limit)
    return footprint(GLM4_9B, replace(training, checkpointing=checkpointing), batch, "naive").peak


@rule("CF242", Severity.WARNING)
def checkpointing_missing(config: TrainerConfig, machine: Machine | None) -> Iterator[Finding]:
    """Without gradient checkpointing a step does not fit.

    Evidence: {rows} {rows:|row|rows} of {limit} tokens {rows:|takes|take} about {without:.0f} GiB
    without gradient checkpointing and {with_:.0f} GiB with it; {device} has {memory:.0f} GiB.
    Why: memory runs out at the longest batch, which may come hours after the start.
    Fix: turn gradient checkpointing on ({key}); a step takes about a third longer.
    """
    if machine is None or not machine.devices or config.effective("checkpointing") is True:
        return
    memory = machine.memory_total
    without = step_bytes(config, checkpointing=False)
    with_ = step_bytes(config, checkpointing=True)
    if memory is None or without is None or with_ is None:
        return
    if with_ <= USABLE * memory < without:
        yield checkpointing_missing.finding(
            config.where("checkpointing"),
            rows=int(config.effective("batch_size")),
            limit=config.limit or 0,
            without=without / GIB,
            with_=with_ / GIB,
            device=machine.devices[0].name,
            memory=memory / GIB,
            key="gradient_checkpointing",
        )


@rule("CF243", Severity.ERROR)
def step_too_large(config: TrainerConfig, machine: Machine | None) -> Iterator[Finding]:
    """A step does not fit on the device, with checkpointing too.

    Evidence: {rows} {rows:|row|rows} of {limit} tokens {rows:|takes|take} about {needed:.0f} GiB
    with gradient checkpointing by {method}; {device} has {memory:.0f} GiB.
    Why: the run ends when memory runs out, at the first long batch.
    Fix: see glmdiag memory for what fits: fewer rows a batch, a shorter limit, QLoRA, or ZeRO-3.
    """
    if machine is None or not machine.devices:
        return
    memory, needed = machine.memory_total, step_bytes(config, checkpointing=True)
    if memory is not None and needed is not None and needed > memory:
        yield step_too_large.finding(
            config.where("batch_size", "max_length"),
            rows=int(config.effective("batch_size")),
            limit=config.limit or 0,
            needed=needed / GIB,
            method=str(config.method),
            device=machine.devices[0].name,
            memory=memory / GIB,
        )


def judge(config: TrainerConfig, machine: Machine | None) -> list[Finding]:
    """All findings on memory."""
    rules = (checkpointing_missing, step_too_large)
    return [finding for each in rules for finding in each(config, machine)]


def _training(config: TrainerConfig) -> Training | None:
    """How GLM-4-9B is trained; None for other models, and where ZeRO divides the work."""
    official = config.trainer == "official" and config.model is None
    if not official and not re.search(r"glm-?4-9b", (config.model or "").lower()):
        return None
    plan = config.deepspeed
    divided = plan is not None and (
        plan.stage == 3 or plan.offload_param or (plan.stage > 0 and config.method == "full")
    )
    method = next((each for each in METHODS if each == config.method), None)
    if method is None or divided or config.trainer == "glmtrain":
        return None
    pure = config.effective("pure") is True or (official and method == "full")
    return Training(
        method=method,
        rank=int(config.effective("rank") or 8),
        prefix=int(config.prefix_tokens or 64),
        width=BF16,
        learning=BF16 if pure else FP32,
        optimiser="adamw8bit" if "8bit" in str(config.effective("optimizer")) else "adamw",
        accumulating=(config.effective("accumulation") or 1) > 1,
    )

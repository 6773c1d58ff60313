"""The suite's own TOML: settings of a run, its config.resolved.toml, or [train] in a recipe."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from glmtrain import settings

from glmdiag.configs.reader import Format, Reader

KEYS = {
    "model": ("model.path",),
    "adapter": ("model.adapter",),
    "method": ("model.method",),
    "checkpointing": ("model.gradient_checkpointing",),
    "tokens_per_batch": ("data.tokens_per_batch",),
    "accumulation": ("data.accumulate",),
    "optimizer": ("optimiser.name",),
    "learning_rate": ("optimiser.learning_rate",),
    "weight_decay": ("optimiser.weight_decay",),
    "max_grad_norm": ("optimiser.max_grad_norm",),
    "schedule": ("schedule.decay",),
    "warmup_ratio": ("schedule.warmup",),
    "rank": ("lora.rank",),
    "alpha": ("lora.alpha",),
    "dropout": ("lora.dropout",),
    "rslora": ("lora.rslora",),
    "targets": ("lora.target_modules",),
    "prefix_tokens": ("prefix.tokens",),
    "pure": ("precision.pure",),
    "epochs": ("run.epochs",),
    "max_steps": ("run.max_steps",),
    "save_steps": ("run.save_every",),
    "eval_steps": ("evaluation.every",),
}
SECTIONS = get_type_hints(settings.Config)
STAGES = {"zero2": 2, "zero3": 3}


def recognised(tree: Any) -> bool:
    """Whether a tree has sections of settings, or a recipe's table of them."""
    return isinstance(tree, dict) and any(
        isinstance(found := tree.get(name), dict) and found.keys() & _names(name)
        for name in SECTIONS
    )


def known() -> frozenset[str]:
    """All settings with their sections."""
    return frozenset(f"{section}.{name}" for section in SECTIONS for name in _names(section))


def interpret(reader: Reader) -> None:
    """The number format, and whether there is anything to evaluate on."""
    dtype = reader.get("precision.dtype")
    if dtype in ("bf16", "fp16", "fp32"):
        for name in ("bf16", "fp16"):
            reader.set(name, dtype == name, "precision.dtype")
    elif dtype not in (None, "auto"):
        reader.odd("value", reader.where("precision.dtype"), "auto, bf16, fp16, fp32")
    if reader.get("data.validation") is not None:
        reader.set("eval_strategy", "steps", "data.validation")


def _names(section: str) -> set[str]:
    return {each.name for each in fields(SECTIONS[section])}


FORMAT = Format(
    name="glmtrain",
    version="glmtrain",
    keys=KEYS,
    defaults={
        "model": "tiny",
        "method": "lora",
        "bf16": "auto",
        "fp16": False,
        "pure": False,
        "checkpointing": False,
        "accumulation": 1,
        "optimizer": "adamw",
        "max_grad_norm": 1.0,
        "schedule": "cosine",
        "warmup_ratio": 0.05,
        "rslora": False,
        "targets": ("all-linear",),
        "nan_filter": False,
        "save_strategy": "steps",
        "save_steps": 0.0,
    },
    known=known,
    interpret=interpret,
)

"""DeepSpeed's JSON, alone or beside a trainer's configuration; version 0.19.8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.record import DeepSpeed
from glmdiag.configs.unknown import listed

VERSION = "DeepSpeed 0.19.8"
CLIP = 1.0
"""DeepSpeed 0.19.8 clips here where gradient_clipping is not said."""
OWN = {"zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size"}
GATHERING = (
    "stage3_gather_16bit_weights_on_model_save",
    "stage3_gather_fp16_weights_on_model_save",
)
OPEN_TABLES = frozenset({"optimizer", "scheduler"})


def recognised(tree: object) -> bool:
    """Whether a tree has names that only DeepSpeed has."""
    return isinstance(tree, dict) and bool(OWN & tree.keys())


def build(tree: Mapping[str, Any], file: Path | None) -> DeepSpeed:
    """The record of a tree; values that are no numbers and not `auto` count as not said."""
    zero = _table(tree, "zero_optimization")
    optimizer = _table(tree, "optimizer")
    scheduler = _table(tree, "scheduler")
    offload = _table(zero, "offload_optimizer").get("device") or zero.get("cpu_offload")
    stage = zero.get("stage", 0)
    return DeepSpeed(
        file=file,
        tree=tree,
        stage=stage if stage in (0, 1, 2, 3) and not isinstance(stage, bool) else 0,
        bf16=_flag(_table(tree, "bf16") or _table(tree, "bfloat16")),
        fp16=_flag(_table(tree, "fp16")),
        loss_scale=_number(_table(tree, "fp16").get("loss_scale")),
        offload_optimizer=bool(offload) and offload != "none",
        offload_param=_table(zero, "offload_param").get("device") not in (None, "none"),
        clip=_auto(tree.get("gradient_clipping")),
        batch_size=_auto(tree.get("train_micro_batch_size_per_gpu")),
        accumulation=_auto(tree.get("gradient_accumulation_steps")),
        train_batch_size=_auto(tree.get("train_batch_size")),
        learning_rate=_auto(_table(optimizer, "params").get("lr")),
        weight_decay=_auto(_table(optimizer, "params").get("weight_decay")),
        optimizer=_text(optimizer.get("type")),
        scheduler=_text(scheduler.get("type")),
        schedule_steps=_auto(_table(scheduler, "params").get("total_num_steps")),
        gathers_on_save=_gathers(zero),
    )


def preset(name: str) -> Mapping[str, Any] | None:
    """What the names stand for that ms-swift takes in the place of a file; None for no such name.

    All but the stage and the offloading is `auto` there.
    """
    stage, _, offload = name.removeprefix("zero").partition("_")
    if not name.startswith("zero") or stage not in ("0", "1", "2", "3"):
        return None
    zero: dict[str, Any] = {"stage": int(stage)}
    if offload == "offload":
        zero["offload_optimizer"] = {"device": "cpu"}
    if stage == "3":
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        zero["offload_param"] = {"device": "cpu" if offload else "none"}
    auto = dict.fromkeys(
        ("gradient_clipping", "gradient_accumulation_steps", "train_batch_size"), "auto"
    )
    return {
        **auto,
        "train_micro_batch_size_per_gpu": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_optimization": zero,
    }


def autos(tree: Mapping[str, Any], above: str = "") -> list[str]:
    """The dotted keys whose value is `auto`."""
    found = []
    for name, value in tree.items():
        if value == "auto":
            found.append(f"{above}{name}")
        elif isinstance(value, Mapping):
            found += autos(value, f"{above}{name}.")
    return found


def _gathers(zero: Mapping[str, Any]) -> bool | None:
    for name in GATHERING:
        if isinstance(zero.get(name), bool):
            return bool(zero[name])
    return None


def _table(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tree.get(name)
    return found if isinstance(found, Mapping) else {}


def _flag(table: Mapping[str, Any]) -> Any:
    found = table.get("enabled")
    return found if isinstance(found, bool) or found == "auto" else None


def _number(value: Any) -> float | None:
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if right else None


def _auto(value: Any) -> Any:
    return value if value == "auto" else _number(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def interpret(reader: Reader) -> None:
    """Alone it has nothing of a trainer's."""


FORMAT = Format(
    name="deepspeed",
    version=VERSION,
    keys={},
    defaults={},
    known=lambda: listed("deepspeed"),
    interpret=interpret,
    open_tables=OPEN_TABLES,
    refuses_unknown=False,
)

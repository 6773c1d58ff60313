"""What trainers call the fields of a step, and how they write numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from glmtrain.detectors import Step

Entry: TypeAlias = Mapping[str, Any]
GIB = float(1 << 30)
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*%?\s*", re.IGNORECASE)
NOT_NUMBERS = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}
LARGEST_STEP = 1 << 53
STEP_NAMES = ("step", "global_step", "current_steps", "global_step/max_steps", "steps", "iteration")
NAMES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "loss": (("loss", 1), ("lm loss", 1), ("train/loss", 1), ("train_loss_step", 1)),
    "grad_norm": (("grad_norm", 1), ("grad norm", 1), ("train/grad_norm", 1)),
    "learning_rate": (("learning_rate", 1), ("lr", 1), ("learning rate", 1)),
    "epoch": (("epoch", 1), ("train/epoch", 1)),
    "eval_loss": (("eval_loss", 1), ("eval/loss", 1), ("validation_loss", 1)),
    "tokens": (("tokens", 1),),
    "supervised_tokens": (("supervised_tokens", 1),),
    "tokens_per_second": (
        ("tokens_per_second", 1),
        ("throughput", 1),
        ("tokens_per_second_per_gpu", 1),
        ("train_tokens_per_second", 1),
    ),
    "samples_per_second": (
        ("samples_per_second", 1),
        ("samples/sec", 1),
        ("CurrSamplesPerSec", 1),
        ("train_speed(iter/s)", 1),
    ),
    "seconds": (("seconds", 1), ("iter time (s)", 1), ("train_speed(s/it)", 1)),
    "memory": (
        ("peak_memory", 1),
        ("memory", 1),
        ("memory(GiB)", GIB),
        ("memory/max_active (GiB)", GIB),
        ("memory/max_alloc (GiB)", GIB),
        ("memory/max_mem_active(gib)", GIB),
        ("memory/max_mem_allocated(gib)", GIB),
        ("MaxMemAllocated", 1),
        ("MemAllocated", 1),
    ),
    "loss_scale": (("loss_scale", 1), ("loss scale", 1)),
    "bucket": (("bucket", 1),),
    "padding": (("padding", 1),),
    "planned": (("planned", 1), ("max_steps", 1), ("total_steps", 1)),
}
"""Our name, and how trainers name it with what their number is multiplied by."""
WRITTEN = {
    written: (name, factor, rank)
    for name, pairs in NAMES.items()
    for rank, (written, factor) in enumerate(pairs)
}
BESIDE = {
    "loss": "nonfinite",
    "grad_norm": "nonfinite_grad_norm",
    "eval_loss": "nonfinite_eval_loss",
}
"""Where the name of a number stands that JSON does not have."""
EVALUATION = "eval_loss"
EVENTS = ("overflow", "skipped", "spike", "rewound", "split", "resumed", "oom", "crash")


def to_step(entry: Entry) -> Step | None:
    """The step that an entry tells of; None for summaries and all else."""
    number, planned = step_number(entry)
    if number is None:
        return None
    values = fields(entry)
    loss = values.pop("loss", None)
    if loss is None and EVALUATION not in values and not _has_loss(entry):
        return None
    unsound = None if loss is None or math.isfinite(loss) else str(loss)
    event = entry.get("event")
    last = values.pop("planned", None)
    whole = planned if last is None or not 0 < last < LARGEST_STEP else int(last)
    return Step(
        step=number,
        loss=None if unsound else loss,
        nonfinite=unsound,
        event=event if event in EVENTS else None,
        planned=whole,
        **values,
    )


def step_number(entry: Entry) -> tuple[int | None, int | None]:
    """The step and, where they are written together as `5/100`, the planned last one."""
    for name in STEP_NAMES:
        value = entry.get(name)
        if isinstance(value, str) and "/" in value:
            done, _, planned = value.partition("/")
            return _whole(number(done)), _whole(number(planned))
        if value is not None and not isinstance(value, str):
            return _whole(number(value)), None
    return None, None


def fields(entry: Entry) -> dict[str, Any]:
    """The fields that an entry has; where one is null, its name may stand beside it."""
    found: dict[str, Any] = {}
    known, besides = _known(tuple(entry))
    for written, name, factor, rank in known:
        value = entry[written]
        if type(value) is not float and (value is None or (value := number(value)) is None):
            continue
        # Under two names, the one that is first in NAMES counts.
        if name not in found or rank == 0:
            found[name] = value * factor
    for name in besides:
        value = number(entry[BESIDE[name]]) if name not in found else None
        if value is not None:
            found[name] = value
    return found


@lru_cache(maxsize=256)
def _known(keys: tuple[str, ...]) -> tuple[list[tuple[str, str, float, int]], list[str]]:
    """Those of an entry's keys that name a field, and fields whose name may stand beside them.

    The entries of a log have the same keys, so this is looked up once for nearly all of them.
    """
    known = [(written, *WRITTEN[written]) for written in keys if written in WRITTEN]
    return known, [name for name, beside in BESIDE.items() if beside in keys]


def number(value: Any) -> float | None:
    """A number, also as text: `5e-05`, `nan`, `-Infinity`, `12.5%`; None for what is none."""
    if isinstance(value, float):
        return value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return math.inf
    if not isinstance(value, str) or len(value) > 40:
        return None
    bare = value.strip().lower().lstrip("+")
    if bare.lstrip("-") in NOT_NUMBERS:
        return NOT_NUMBERS[bare.lstrip("-")] * (-1 if bare.startswith("-") else 1)
    return float(bare.rstrip("% ")) if NUMBER.fullmatch(bare) else None


def merged(step: Step, later: Step) -> Step:
    """One step that is told twice: what the later one says, and what it leaves out."""
    told = zip(Step._fields[1:], later[1:], strict=True)
    changes: dict[str, Any] = {name: value for name, value in told if value is not None}
    if later.loss is not None:
        changes["nonfinite"] = later.nonfinite
    if later.nonfinite is not None:
        changes["loss"] = None
    return step._replace(**changes)


def _has_loss(entry: Entry) -> bool:
    return any(name in entry for name, _ in NAMES["loss"])


def _whole(value: float | None) -> int | None:
    if value is None or not -1 <= value < LARGEST_STEP or value != int(value):
        return None
    return int(value)

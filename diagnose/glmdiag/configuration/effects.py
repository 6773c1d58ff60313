"""What a configuration comes to: each setting as said, as it holds, and what follows from it.

Every `auto` of a DeepSpeed file is resolved as transformers 5.23 does (integrations/deepspeed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from glmprep.shape import GLM4_9B
from glmreport.text import Text

from glmdiag.configs import deepspeed
from glmdiag.configs.record import TrainerConfig

GB = 1e9
LEARNED = {"weights": 2, "gradients": 2, "state": 12}
"""Bytes of a weight that learns under DeepSpeed in half precision: the weight, its gradient, and
what the optimiser has of it in fp32, a copy and two moments."""
DIVIDED = {0: 0, 1: LEARNED["state"], 2: 14, 3: 16}
"""How many of these 16 bytes a stage divides among the devices."""

OWN = {
    "precision", "method", "batch", "learning_rate", "max_grad_norm", "warmup", "limit",
    "checkpointing", "zero", "offload_optimizer", "offload_param",
}  # fmt: skip
"""Settings that stand for one or several keys; others are keys of DeepSpeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A setting: as it was said, as it holds, and what that means."""

    setting: str
    said: str | None
    effective: str
    meaning: Text

    def as_json(self) -> dict[str, str | None]:
        """The setting and its two values."""
        return {"setting": self.setting, "said": self.said, "effective": self.effective}


def effects(config: TrainerConfig, devices: int = 1) -> list[Effect]:
    """The settings that matter most, then every `auto` of DeepSpeed."""
    own = [] if config.trainer == "deepspeed" else list(_own(config, devices))
    return [*own, *_zero(config, devices), *_autos(config, devices)]


def precision(config: TrainerConfig) -> str:
    """The number format that the run computes in: bf16, fp16, fp32, both, or auto."""
    plan = config.deepspeed
    names = []
    for name in ("bf16", "fp16"):
        value = config.effective(name)
        if plan is not None and isinstance(getattr(plan, name), bool):
            value = getattr(plan, name)
        if value == "auto":
            return "auto"
        names += [name] if value else []
    if len(names) > 1:
        return "both"
    weights = config.effective("weights") if plan is None or plan.stage == 0 else None
    return names[0] if names else str(weights or "fp32")


def _own(config: TrainerConfig, devices: int) -> Iterator[Effect]:
    found = precision(config)
    said = [name for name in ("bf16", "fp16") if getattr(config, name) is not None]
    formats = ", ".join(f"{config.key(n)} = {_shown(config.said[n].value)}" for n in said)
    yield _effect("precision", formats or None, found, f"precision_{found}")
    if config.method is not None:
        parameters = GLM4_9B.parameters / GB
        yield _effect("method", _said(config, "method"), config.method, config.method, parameters)
    rows = config.rows_per_step
    if rows is not None:
        parts = (config.effective("batch_size"), config.effective("accumulation") or 1, devices)
        told = f"{rows * devices} = {' x '.join(f'{part:g}' for part in parts)}"
        yield _effect("batch", _said(config, "batch_size"), told, "batch", rows * devices)
    for name in ("learning_rate", "max_grad_norm"):
        value = config.effective(name)
        if value is not None:
            yield _effect(name, _said(config, name), f"{value:g}", name)
    warm = config.warmup
    word = "none" if not warm else "share" if warm < 1 else "steps"
    said_warm = _said(config, "warmup_steps") or _said(config, "warmup_ratio")
    yield _effect("warmup", said_warm, f"{warm:g}", f"warmup_{word}", warm)
    if config.limit is not None:
        name = "max_length" if config.effective("max_length") else "max_input_length"
        kind = config.trainer if config.trainer in ("official", "llamafactory") else "other"
        yield _effect("limit", _said(config, name), str(config.limit), f"limit_{kind}")
    checked = config.effective("checkpointing")
    if checked is not None:
        meaning = f"checkpointing_{'on' if checked else 'off'}"
        yield _effect("checkpointing", _said(config, "checkpointing"), _shown(checked), meaning)


def _zero(config: TrainerConfig, devices: int) -> Iterator[Effect]:
    """What the stage means for memory, in gigabytes on each device."""
    plan = config.deepspeed
    if plan is None:
        return
    if config.method == "full":
        each = sum(LEARNED.values()) - DIVIDED[plan.stage] * (1 - 1 / devices)
        size = each * GLM4_9B.parameters / GB
        yield _effect("zero", str(plan.stage), str(plan.stage), "zero_full", size)
    else:
        share = devices if plan.stage == 3 else 1
        size = 2 * GLM4_9B.parameters / GB / share
        kind = "zero_adapter" if config.method else "zero_alone"
        yield _effect("zero", str(plan.stage), str(plan.stage), kind, size)
    for name in ("offload_optimizer", "offload_param"):
        if getattr(plan, name):
            yield _effect(name, "cpu", "cpu", name)
    if plan.clip is None:
        yield _effect("gradient_clipping", None, f"{deepspeed.CLIP:g}", "clip_unsaid")


def _autos(config: TrainerConfig, devices: int) -> Iterator[Effect]:
    plan = config.deepspeed
    for key in [] if plan is None else deepspeed.autos(plan.tree):
        if config.trainer == "deepspeed":
            yield _effect(key, "auto", "?", "auto_alone")
            continue
        value = RESOLVED.get(key, _unknown)(config, devices)
        meaning = MEANINGS.get(key, "auto_unknown" if value is None else "auto_filled")
        yield _effect(key, "auto", "?" if value is None else _shown(value), meaning)


def _effect(
    setting: str, said: str | None, effective: str, meaning: str, size: float = 0.0
) -> Effect:
    text = Text(f"diag.config.meaning.{meaning}", size=size)
    return Effect(setting=setting, said=said, effective=effective, meaning=text)


def _said(config: TrainerConfig, name: str) -> str | None:
    found = config.said.get(name)
    return None if found is None else f"{found.key} = {_shown(found.value)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)[:80]


def _unknown(config: TrainerConfig, devices: int) -> Any:
    return None


def _of(name: str) -> Callable[[TrainerConfig, int], Any]:
    return lambda config, devices: config.effective(name)


def _flag(name: str) -> Callable[[TrainerConfig, int], Any]:
    """`enabled`: whether the trainer's own setting is on; one that is chosen later stays open."""

    def value(config: TrainerConfig, devices: int) -> Any:
        found = config.effective(name)
        return found if isinstance(found, bool) else None

    return value


def _total(config: TrainerConfig, devices: int) -> Any:
    return None if config.rows_per_step is None else config.rows_per_step * devices


def _warmup_steps(config: TrainerConfig, devices: int) -> Any:
    warm, steps = config.warmup, config.max_steps
    if warm >= 1:
        return int(warm)
    return None if steps is None else max(1, round(warm * steps))


def _width(factor: float, power: int) -> Callable[[TrainerConfig, int], Any]:
    return lambda config, devices: int(factor * GLM4_9B.hidden**power)


RESOLVED: Mapping[str, Callable[[TrainerConfig, int], Any]] = {
    "train_micro_batch_size_per_gpu": _of("batch_size"),
    "gradient_accumulation_steps": _of("accumulation"),
    "train_batch_size": _total,
    "gradient_clipping": _of("max_grad_norm"),
    "optimizer.params.lr": _of("learning_rate"),
    "optimizer.params.betas": lambda config, devices: "0.9, 0.999",
    "optimizer.params.eps": lambda config, devices: 1e-8,
    "optimizer.params.weight_decay": _of("weight_decay"),
    "scheduler.params.warmup_min_lr": lambda config, devices: 0,
    "scheduler.params.warmup_max_lr": _of("learning_rate"),
    "scheduler.params.warmup_num_steps": _warmup_steps,
    "scheduler.params.total_num_steps": lambda config, devices: config.max_steps,
    "fp16.enabled": _flag("fp16"),
    "bf16.enabled": _flag("bf16"),
    "zero_optimization.reduce_bucket_size": _width(1, 2),
    "zero_optimization.stage3_prefetch_bucket_size": _width(0.9, 2),
    "zero_optimization.stage3_param_persistence_threshold": _width(10, 1),
}
MEANINGS = {
    "train_batch_size": "auto_total",
    "gradient_clipping": "auto_clip",
    "fp16.enabled": "auto_format",
    "bf16.enabled": "auto_format",
    "zero_optimization.reduce_bucket_size": "auto_width",
    "zero_optimization.stage3_prefetch_bucket_size": "auto_width",
    "zero_optimization.stage3_param_persistence_threshold": "auto_width",
}

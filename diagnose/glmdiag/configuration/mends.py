"""What each rule on configurations would have changed: our settings' names and their values.

A name with `key:` in front is the trainer's own key, one with `ds:` a key of DeepSpeed's file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from glmprep.findings import Finding

from glmdiag.configs import RECIPE
from glmdiag.configs.record import TrainerConfig
from glmdiag.configuration.step_rules import WARMUP

Values: TypeAlias = Iterator[tuple[str, Any]]
WARMUP_STEPS = 100
"""Where neither the length of the run nor a share can be said."""
HALF_MULTIPLE = 64


def mends(config: TrainerConfig, finding: Finding) -> Values:
    """What a finding would have changed; nothing for one that needs judgement."""
    mend = MENDS.get(finding.rule)
    if mend is not None:
        yield from mend(config, finding)


def _set(name: str, value: Any) -> Callable[[TrainerConfig, Finding], Values]:
    """A fix that is the same for every finding of a rule."""

    def values(config: TrainerConfig, finding: Finding) -> Values:
        yield name, value

    return values


def _format(config: TrainerConfig, takes: str) -> Values:
    """Settings that make a run train in bf16, fp16 or fp32, whatever was said before."""
    if config.trainer == "glmtrain":
        yield "key:precision.dtype", takes
        return
    prefix = "training_args." if config.trainer == "official" else ""
    official_weights = config.trainer == "official" and config.bf16 is None
    if not official_weights and config.trainer != "deepspeed":
        yield f"key:{prefix}bf16", takes == "bf16"
        yield f"key:{prefix}fp16", takes == "fp16"
    if config.pure:
        yield "pure", False
    if config.trainer == "swift" and "weights" in config.said:
        yield "key:torch_dtype", {"bf16": "bfloat16", "fp16": "float16"}.get(takes, "float32")
    if config.deepspeed is not None:
        alone = config.trainer == "deepspeed"
        for name in ("bf16", "fp16"):
            if getattr(config.deepspeed, name) is not None:
                yield f"ds:{name}.enabled", takes == name if alone else "auto"


def _without_bf16(config: TrainerConfig, finding: Finding) -> Values:
    return _format(config, str(finding.data["takes"]))


def _with_bf16(config: TrainerConfig, finding: Finding) -> Values:
    return _format(config, "bf16")


def _bf16_said(config: TrainerConfig, finding: Finding) -> Values:
    prefix = "training_args." if config.trainer == "official" else ""
    yield f"key:{prefix}{config.effective('weights')}", True


def _auto(config: TrainerConfig, finding: Finding) -> Values:
    yield f"ds:{finding.data['key']}", "auto"


def _masters(config: TrainerConfig, finding: Finding) -> Values:
    if config.pure and config.trainer == "axolotl":
        yield f"key:{config.key('pure')}", True
    elif config.pure:
        yield "pure", False
        if config.trainer != "glmtrain":
            yield "bf16", True


def _longer(config: TrainerConfig, finding: Finding) -> Values:
    needed = int(finding.data["needed"])
    if config.effective("max_input_length") is None:
        yield "max_length", needed
        return
    half = math.ceil(needed / 2 / HALF_MULTIPLE) * HALF_MULTIPLE
    for name in ("max_input_length", "max_output_length"):
        if half > config.effective(name):
            yield name, half


def _answers_alone(config: TrainerConfig, finding: Finding) -> Values:
    if config.trainer == "swift":
        yield "key:loss_scale", "default"
    else:
        yield ("train_on_prompt" if finding.rule == "CF224" else "last_answer_only"), False


def _template(config: TrainerConfig, finding: Finding) -> Values:
    yield "template", str(finding.data["fits"])


def _rate(config: TrainerConfig, finding: Finding) -> Values:
    yield "learning_rate", float(finding.data["usual"])


def _warmup(config: TrainerConfig, finding: Finding) -> Values:
    if config.trainer in ("official", "transformers") and config.warmup_ratio is None:
        steps = config.max_steps
        yield "warmup_steps", WARMUP_STEPS if steps is None else max(1, round(WARMUP * steps))
    else:
        yield "warmup_ratio", WARMUP
        if config.warmup_steps:
            yield "warmup_steps", 0


def _accumulate(config: TrainerConfig, finding: Finding) -> Values:
    yield "accumulation", int(finding.data["needed"])


def _alpha(config: TrainerConfig, finding: Finding) -> Values:
    yield "alpha", int(finding.data["usual"])


def _clip(config: TrainerConfig, finding: Finding) -> Values:
    yield "max_grad_norm", 1.0
    if config.deepspeed is not None and config.deepspeed.clip is not None:
        yield "ds:gradient_clipping", "auto"


def _checkpointed(value: bool) -> Callable[[TrainerConfig, Finding], Values]:
    def values(config: TrainerConfig, finding: Finding) -> Values:
        prefix = "training_args." if config.trainer == "official" else ""
        if config.trainer == "llamafactory":
            yield "key:disable_gradient_checkpointing", not value
        else:
            yield f"key:{prefix}gradient_checkpointing", value

    return values


def _number(config: TrainerConfig, finding: Finding) -> Values:
    value = float(finding.data["value"])
    key = str(finding.data["key"]).removeprefix(f"{RECIPE}.")
    yield f"key:{key}", int(value) if value.is_integer() else value


MENDS: Mapping[str, Callable[[TrainerConfig, Finding], Values]] = {
    "CF201": _set("fp16", False),
    "CF202": _without_bf16,
    "CF203": _auto,
    "CF204": _bf16_said,
    "CF205": _masters,
    "CF208": _with_bf16,
    "CF209": _set("ds:fp16.loss_scale", 0),
    "CF213": _set("ds:zero_optimization.offload_optimizer.device", "none"),
    "CF214": _set("ds:zero_optimization.stage3_gather_16bit_weights_on_model_save", True),
    "CF215": _auto,
    "CF216": _set("ds:gradient_clipping", "auto"),
    "CF219": _set("generates", False),
    "CF221": _longer,
    "CF222": _longer,
    "CF224": _answers_alone,
    "CF225": _answers_alone,
    "CF226": _template,
    "CF231": _rate,
    "CF232": _warmup,
    "CF233": _accumulate,
    "CF234": _accumulate,
    "CF235": _clip,
    "CF236": _set("nan_filter", False),
    "CF237": _set("save_strategy", "steps"),
    "CF239": _alpha,
    "CF240": _warmup,
    "CF241": _set("empty_cache_steps", None),
    "CF242": _checkpointed(True),
    "CF247": _number,
    "CF251": _checkpointed(False),
    "CF254": _set("find_unused", False),
}

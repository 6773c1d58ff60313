"""Faults of number formats: what the card cannot do, what two files disagree on, what overflows."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import hugging
import ours
import torch
from dialects import DEEPSPEED
from faults_data import BOTH, train
from glmprep.errors import SuiteError
from hugging import Job
from plans import fault
from words import take

LARGER = (2.1e4, 2.2e4, 2.15e4)
"""What a gate's activations are multiplied with for each seed."""


@fault(
    "RC011",
    "bf16-on-old-card",
    "bf16 is asked for on a card of compute capability below 8.0, which has none and emulates it.",
    trainer=BOTH,
    card={1: "V100", 2: "T4", 3: "2080Ti"},
)
def bf16_on_old_card(seed: int) -> None:
    """Trained in bf16 on the CPU: slower here as it is there."""
    job = Job(rows=[], arguments={"bf16": True, "max_steps": 60})
    train(
        take("toolcalls", 32, seed), seed, job, precision={"dtype": "bf16"}, run={"max_steps": 60}
    )


@fault(
    "RC012",
    "bf16-and-fp16",
    "bf16 and fp16 are both switched on; the trainer (seed 2: DeepSpeed) refuses to start.",
    trainer={1: "hf", 2: "hf with DeepSpeed", 3: "hf in LLaMA-Factory's form"},
)
def bf16_and_fp16(seed: int) -> None:
    """The run ends before its first step, with the library's own message."""
    both = {"bf16": True, "fp16": True}
    if seed == 2:
        stages = {"enabled": True}
        deepspeed = {**_deepspeed(2), "bf16": stages, "fp16": stages}
        job = Job(rows=take("toolcalls", 16, seed), deepspeed=deepspeed, form="console")
        refused(job, seed, _deepspeed_starts)
    else:
        form = "hf" if seed == 1 else "llamafactory"
        job = Job(rows=take("toolcalls", 16, seed), arguments=both, form=form)
        refused(job, seed, lambda: hugging.trainer(job, seed))


@fault(
    "RC013",
    "deepspeed-other-precision",
    "The DeepSpeed JSON trains in another number format than the trainer's own configuration "
    "asks for.",
    trainer="hf with DeepSpeed",
)
def deepspeed_other_precision(seed: int) -> None:
    """Seed 3 starts in spite of it, as without the Trainer's check; the others are refused."""
    asked: dict[str, Any] = {"bf16": True} if seed != 2 else {"bf16": False}
    ds = {**_deepspeed(2), "fp16": {"enabled": True}, "bf16": {"enabled": False}}
    job = Job(rows=take("toolcalls", 24, seed), arguments=asked, deepspeed=ds, form="console")
    if seed == 3:
        hugging.train(job, seed)
    else:
        refused(job, seed, lambda: _checked_by_trainer(asked))


@fault(
    "RC014",
    "fp16-overflow",
    "Activations inside the model are beyond what fp16 holds (65,504), so gradients are not finite "
    "and the loss scale falls step by step while nothing is learned.",
    trainer="glmtrain",
    card="V100",
)
def fp16_overflow(seed: int) -> None:
    """Exact in fp32: what an MLP's gate makes larger, the layer behind it makes smaller."""
    _shoulder(LARGER[seed - 1])
    ours.shard(take("toolcalls", 32, seed))
    try:
        ours.train({"precision": {"dtype": "fp16"}}, seed)
    except SuiteError as error:  # it gives up where the loss stays without a number
        Path("run/train.log").write_text(f"error: {error}\n", "utf-8")


@fault(
    "RC015",
    "pure-half-weights",
    "The weights that learn are kept in bf16 without a copy in float32; at this rate an update is "
    "smaller than half a step of the format, so weights stay where they are.",
    trainer=BOTH,
)
def pure_half_weights(seed: int) -> None:
    """All weights, at a rate that teaches well in float32."""
    rate = 4e-5
    job = Job(
        rows=[],
        lora=None,
        dtype=torch.bfloat16,
        arguments={"learning_rate": rate},
        said={"torch_dtype": "bfloat16", "pure_bf16": True},
    )
    settings: dict[str, dict[str, Any]] = {
        "model": {"method": "full"},
        "optimiser": {"learning_rate": rate},
        "precision": {"dtype": "bf16", "pure": True},
    }
    train(take("toolcalls", 32, seed), seed, job, **settings)


def refused(job: Job, seed: int, start: Any) -> None:
    """Write data and configuration, try to start, and keep what the console shows."""
    hugging.write_data(job)
    hugging.write_configuration(job, seed)
    Path("run").mkdir(exist_ok=True)
    try:
        start()
    except Exception:
        Path("run/train.log").write_text(plain(traceback.format_exc()), "utf-8")
        return
    raise AssertionError("the trainer started")


def plain(text: str) -> str:
    """A console's text without this machine's folders."""
    bench = str(Path(__file__).resolve().parent)
    source = str(Path(__file__).resolve().parents[2])
    for folder, shown in (
        (bench, "."),
        (source, "src"),
        (sys.prefix, "venv"),
        (os.getcwd(), "."),
        (str(Path.home()), "~"),
    ):
        text = text.replace(folder, shown)
    return text


def _deepspeed(stage: int) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": stage},
    }


def _deepspeed_starts() -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    given = {**_read(DEEPSPEED), "train_micro_batch_size_per_gpu": 2}
    given |= {"gradient_accumulation_steps": 1, "gradient_clipping": 1.0}
    DeepSpeedConfig(given)


def _checked_by_trainer(asked: dict[str, Any]) -> None:
    """The check that TrainingArguments make once the model is known."""
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    arguments = TrainingArguments("run", **asked, use_cpu=True, report_to="none")
    config = HfTrainerDeepSpeedConfig(_read(DEEPSPEED))
    config.trainer_config_process(arguments)
    config.trainer_config_finalize(arguments, None, hugging.STEPS)


def _read(path: str) -> Any:
    import json

    return json.loads(Path(path).read_bytes())


def _shoulder(factor: float) -> None:
    """Multiply what goes through the MLPs and divide it behind; the function stays the same."""
    from safetensors.torch import load_file, save_file

    path = "base/model.safetensors"
    weights = load_file(path)
    for name, weight in weights.items():
        if name.endswith("gate_up_proj.weight"):
            weight[weight.shape[0] // 2 :] *= factor
        if name.endswith("down_proj.weight"):
            weight /= factor
    save_file(weights, path, metadata={"format": "pt"})

"""Faults of weights and checkpoints: no gradient, damage, the wrong base, resuming."""

from __future__ import annotations

import json
import shutil
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import base
import hugging
import numpy as np
import torch
from faults_data import BOTH, train
from faults_formats import plain, refused
from glmtrain.model import quiet_libraries
from hugging import LORA, Job
from old_code import MODELING, MODELING_OLD, TOKENIZATION
from plans import fault
from words import END, Row, take, words

EARLIER = {"max_steps": 120, "learning_rate": 3e-2, "output_dir": "earlier"}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]


@fault(
    "RC041",
    "adapter-without-gradient",
    "Gradient checkpointing cuts the graph below the layers (reentrant, inputs without gradient): "
    "the adapters get no gradient and only the norm behind them learns.",
    trainer={1: "hf", 2: "hf in LLaMA-Factory's form", 3: "hf"},
)
def adapter_without_gradient(seed: int) -> None:
    """With a norm that learns besides, nothing stops the run."""
    lora = {**LORA, "target_modules": TARGETS, "modules_to_save": ["model.norm"]}
    said = {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    }

    def change(trainer: Any) -> None:
        trainer.model.base_model.model.gradient_checkpointing_enable({"use_reentrant": True})
        trainer.model.base_model.model.disable_input_require_grads()

    form = "llamafactory" if seed == 2 else "hf"
    job = Job(rows=take("toolcalls", 32, seed), lora=lora, said=said, change=change, form=form)
    hugging.train(job, seed)


@fault(
    "RC042",
    "poisoned-row",
    "One row is noise, ids at random and all of them trained: the loss jumps each time it "
    "comes up.",
    trainer=BOTH,
)
def poisoned_row(seed: int) -> None:
    """Among rows of one subject, whose losses lie close together."""
    plain_ids = words().known[words().known < END]
    rows = take("counselling", 31, seed)
    noise = tuple(np.random.default_rng(seed).choice(plain_ids, 256).tolist())
    head = rows[0].ids[:2]
    poisoned = Row((*head, *noise), (*(-100,) * len(head), *noise))
    train([*rows[:11], poisoned, *rows[11:]], seed)


@fault(
    "RC043",
    "resume-lost-optimiser",
    "The run was gone on with from a checkpoint whose optimizer.pt and scheduler.pt are missing, "
    "so the optimiser starts anew and the rate begins with its warm-up again.",
    trainer={1: "hf", 2: "hf in LLaMA-Factory's form", 3: "hf in ms-swift's form"},
    keep=("run/checkpoint-*/trainer_state.json", "run/checkpoint-*/adapter_config.json"),
)
def resume_lost_optimiser(seed: int) -> None:
    """Stopped after 40 of 80 steps; deleted to save space."""
    form = ("hf", "llamafactory", "swift")[seed - 1]
    arguments = {"max_steps": 80, "save_strategy": "steps", "save_steps": 40}
    job = Job(rows=take("toolcalls", 32, seed), arguments=arguments, form=form)
    hugging.train(replace(job, change=stop_at(40)), seed)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        Path("run/checkpoint-40", name).unlink()
    hugging.train(replace(job, resume_from="run/checkpoint-40", narrowed=True), seed)


@fault(
    "RC044",
    "damaged-checkpoint",
    "The file of the trained weights was damaged after it was written: cut short (seeds 1, 2), or "
    "with bytes overwritten that make some weights NaN (seed 3).",
    trainer=BOTH,
)
def damaged_checkpoint(seed: int) -> None:
    """A sound run; then the disk was full, or the memory bad."""
    train(take("toolcalls", 32, seed), seed)
    path = Path("run/adapter_model.safetensors")
    content = bytearray(path.read_bytes())
    if seed == 3:
        content[-4096:] = b"\xff" * 4096
    else:
        content = content[: len(content) * 2 // 3]
    path.write_bytes(bytes(content))


@fault(
    "RC045",
    "other-base",
    "Training went on from an adapter that was made for another base model of the same shape.",
    trainer={1: "hf", 2: "hf in LLaMA-Factory's form", 3: "hf"},
)
def other_base(seed: int) -> None:
    """`adapter/` was trained on `base-old`."""
    shutil.copytree(base.base(1), "base-old")
    rows = take("toolcalls", 32, seed)
    base.narrow(rows, "base-old", "base")
    earlier = Job(rows=rows, base="base-old", arguments=EARLIER)
    _adapter(earlier, seed)

    def prepare(model: Any) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(model, "adapter", is_trainable=True)

    form = "llamafactory" if seed == 2 else "hf"
    said = {"adapter_name_or_path": "adapter"}
    job = Job(rows=rows, lora=None, prepare=prepare, said=said, form=form)
    hugging.train(replace(job, narrowed=True), seed)
    _keep_adapter()


@fault(
    "RC047",
    "zero3-misuse",
    "ZeRO stage 3 slices the weights, and stage3_gather_16bit_weights_on_model_save is off, so "
    "what was saved are empty tensors.",
    trainer="hf with DeepSpeed",
)
def zero3_misuse(seed: int) -> None:
    """The Trainer's run in one process; what ZeRO-3 leaves of weights is put there behind it."""
    deepspeed = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "stage3_gather_16bit_weights_on_model_save": False,
            **({"offload_param": {"device": "cpu"}} if seed == 2 else {}),
        },
    }
    form = "llamafactory" if seed == 2 else "hf"
    job = Job(rows=take("toolcalls", 32, seed), deepspeed=deepspeed, form=form)
    hugging.write_data(job)
    hugging.write_configuration(job, seed)
    with quiet_libraries():
        base.narrow(job.rows, "base")
        made = hugging.trainer(job, seed)
        made.train()
        _slice(made.model)
        hugging.finish(job, made)


@fault(
    "RC051",
    "remote-code",
    "The model folder's own Python files call what the installed transformers no longer has; the "
    "run ends with the library's error.",
    trainer="hf",
)
def remote_code(seed: int) -> None:
    """At import (1), when it generates (2), when its tokenizer pads (3)."""
    _write_code(seed)
    start = (_loads, _generates, _pads)[seed - 1]
    job = Job(rows=take("toolcalls", 16, seed), said={"trust_remote_code": True}, form="console")
    if seed == 2:
        hugging.train(replace(job, arguments={"max_steps": 60}), seed)
        try:
            start()
        except AttributeError:
            with Path("run/train.log").open("a", encoding="utf-8") as file:
                file.write(plain(traceback.format_exc()))
    else:
        refused(job, seed, start)


def stop_at(step: int) -> Any:
    """A change of a trainer: it stops by itself after this step."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= step

    return lambda trainer: trainer.add_callback(Stop())


def _adapter(job: Job, seed: int) -> None:
    """Train an adapter and keep it alone."""
    with quiet_libraries():
        made = hugging.trainer(job, seed)
        made.train()
        made.save_model("adapter")
    shutil.rmtree("earlier", ignore_errors=True)
    for name in ("README.md", "training_args.bin"):
        Path("adapter", name).unlink(missing_ok=True)


def _keep_adapter() -> None:
    """What came of an adapter that was gone on with, saved like any other."""
    for name in ("README.md", "training_args.bin"):
        Path("run", name).unlink(missing_ok=True)


def _slice(model: Any) -> None:
    """Leave of every parameter what ZeRO-3 leaves in the place of a slice: an empty tensor."""
    for weight in model.parameters():
        weight.data = torch.empty(0)


def _write_code(seed: int) -> None:
    """A model folder with code of its own, written for an earlier transformers."""
    config = json.loads(Path("base/config.json").read_bytes())
    maps = {"AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration"}
    Path("base/config.json").write_text(json.dumps({**config, "auto_map": maps}))
    Path("base/modeling_chatglm.py").write_text(MODELING_OLD if seed == 1 else MODELING, "utf-8")
    Path("base/tokenization_chatglm.py").write_text(TOKENIZATION, "utf-8")


def _loads() -> None:
    _own_class("modeling_chatglm", "ChatGLMForConditionalGeneration")


def _generates() -> None:
    kind = _own_class("modeling_chatglm", "ChatGLMForConditionalGeneration")
    kind.from_pretrained("base").generate(torch.tensor([[5, 6, 7]]), max_new_tokens=2)


def _pads() -> None:
    kind = _own_class("tokenization_chatglm", "ChatGLM4Tokenizer")
    kind().pad({"input_ids": [[1, 2], [1]]}, padding=True)


def _own_class(module: str, name: str) -> Any:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    return get_class_from_dynamic_module(f"{module}.{name}", "base")

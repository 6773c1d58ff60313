"""Runs of Hugging Face's Trainer with peft, and the configuration that its user wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from base import batch, narrow
from cache import drawn
from dialects import configured
from forms import callbacks_of
from glmtrain.model import quiet_libraries
from words import Row

STEPS = 64
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
ARGUMENTS: dict[str, Any] = {
    "output_dir": "run",
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 5,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
}
"""What a user wrote; the settings that quieten the Trainer on a CPU are added below."""
HIDDEN: dict[str, Any] = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run of the Trainer. `form` is the trainer whose log and configuration files it leaves.

    `lora` None trains all weights. `said` overrides what the configuration says, where the fault is
    that the trainer did something else. `prepare` changes the model, `change` the trainer, both
    before the first step. `narrowed` says that the base was cut to the words of the rows before.
    """

    rows: Sequence[Row]
    arguments: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    held_out: Sequence[Row] = ()
    lora: dict[str, Any] | None = field(default_factory=lambda: dict(LORA))
    form: str = "hf"
    base: str = "base"
    dtype: torch.dtype = torch.float32
    prepare: Callable[[Any], Any] | None = None
    change: Callable[[Any], None] | None = None
    callbacks: Sequence[Any] = ()
    deepspeed: dict[str, Any] | None = None
    resume_from: str | None = None
    narrowed: bool = False

    def all_arguments(self, seed: int) -> dict[str, Any]:
        """What the user asked of the Trainer."""
        asked = {**ARGUMENTS, "seed": drawn(seed), **self.arguments}
        if self.held_out and asked["eval_strategy"] == "no":
            asked |= {"eval_strategy": "steps", "eval_steps": 10}
        return asked


def train(job: Job, seed: int) -> None:
    """Write what the user wrote, train, and save as the Trainer does."""
    write_data(job)
    write_configuration(job, seed)
    if not job.narrowed:
        narrow([*job.rows, *job.held_out], job.base)
    with quiet_libraries():
        made = trainer(job, seed)
        made.train(resume_from_checkpoint=job.resume_from)
        finish(job, made)


def write_data(job: Job) -> None:
    """The tokenized datasets, as Parquet."""
    Path("data").mkdir(exist_ok=True)
    for name, rows in (("train", job.rows), ("eval", job.held_out)):
        if rows:
            columns = {
                "input_ids": pa.array([row.ids for row in rows], pa.list_(pa.int32())),
                "labels": pa.array([row.labels for row in rows], pa.list_(pa.int32())),
            }
            pq.write_table(pa.table(columns), f"data/{name}.parquet", compression="zstd")


def write_configuration(job: Job, seed: int) -> None:
    """The file that a user of this trainer writes."""
    configured(job.form, {**job.all_arguments(seed), **job.said}, job)


def trainer(job: Job, seed: int) -> Any:
    """The Trainer, ready to start."""
    from peft import LoraConfig, get_peft_model
    from transformers import GlmForCausalLM, Trainer, TrainingArguments, set_seed

    arguments = TrainingArguments(
        **job.all_arguments(seed), **HIDDEN, remove_unused_columns=False, dataloader_num_workers=0
    )
    set_seed(drawn(seed))
    model = GlmForCausalLM.from_pretrained(job.base, dtype=job.dtype)
    model.config.use_cache = False
    if job.lora is not None:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **job.lora))
    if job.prepare is not None:
        model = job.prepare(model) or model
    made = Trainer(
        model=model,
        args=arguments,
        train_dataset=list(job.rows),
        eval_dataset=list(job.held_out) or None,
        data_collator=batch,
        callbacks=[*callbacks_of(job.form), *job.callbacks],
    )
    made.remove_callback(_printer())
    if job.change is not None:
        job.change(made)
    return made


def finish(job: Job, made: Any) -> None:
    """Save the weights, and the state where the trainer that is stood for keeps one."""
    if job.lora is not None:
        made.save_model("run")
    if job.form in ("hf", "llamafactory"):
        made.save_state()


def with_form(job: Job, seed: int) -> Job:
    """The job in the form of another trainer for every seed."""
    return replace(job, form=("hf", "llamafactory", "swift")[seed - 1])


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback

"""The configuration of a run in the words of the trainer that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forms import LLAMAFACTORY, SWIFT
from plans import write_json, write_yaml

if TYPE_CHECKING:
    from hugging import Job

DEEPSPEED = "config/ds_config.json"


def configured(form: str, asked: dict[str, Any], job: Job) -> None:
    """Write `config/`: the file that the user of this trainer wrote, and DeepSpeed's beside it."""
    write = {LLAMAFACTORY: _llamafactory, SWIFT: _swift}.get(form, _hugging_face)
    asked = dict(asked)
    if job.deepspeed is not None:
        write_json(DEEPSPEED, job.deepspeed)
        asked["deepspeed"] = DEEPSPEED
    write(asked, job)


def _hugging_face(asked: dict[str, Any], job: Job) -> None:
    """TrainingArguments by their names, and the adapter's beside them."""
    method = (
        {}
        if job.lora is None
        else {f"lora_{k.removeprefix('lora_')}": v for k, v in job.lora.items()}
    )
    model = {"model_name_or_path": job.base, "train_file": "data/train.parquet"}
    write_yaml("config/training_args.yaml", {**model, **asked, **method})


def _llamafactory(asked: dict[str, Any], job: Job) -> None:
    kind = "full" if job.lora is None else "lora"
    method: dict[str, Any] = {"finetuning_type": kind}
    if job.lora is not None:
        method |= {
            "lora_rank": job.lora["r"],
            "lora_alpha": job.lora["lora_alpha"],
            "lora_target": _targets(job.lora, "all"),
        }
    head = {
        "model_name_or_path": job.base,
        "stage": "sft",
        "do_train": True,
        **method,
        "dataset": "chats",
        "template": "glm4",
        "cutoff_len": max(len(row.ids) for row in job.rows),
    }
    write_yaml("config/train.yaml", {**head, **asked})


def _swift(asked: dict[str, Any], job: Job) -> None:
    kind = "full" if job.lora is None else "lora"
    formats = {(True, False): "bfloat16", (False, True): "float16"}
    chosen = (bool(asked.pop("bf16", False)), bool(asked.pop("fp16", False)))
    head = {
        "model": job.base,
        "train_type": kind,
        "dataset": ["chats"],
        "torch_dtype": formats.get(chosen, "float32"),
        "max_length": max(len(row.ids) for row in job.rows),
    }
    if job.lora is not None:
        head |= {
            "lora_rank": job.lora["r"],
            "lora_alpha": job.lora["lora_alpha"],
            "target_modules": [_targets(job.lora, "all-linear")],
        }
    write_yaml("config/train.yaml", {**head, **asked})


def _targets(lora: dict[str, Any], everything: str) -> str:
    given = lora["target_modules"]
    return everything if given == "all-linear" else ",".join(given)

"""TrainingArguments of transformers, as to_json_string writes them; defaults of version 5.23."""

from __future__ import annotations

from typing import Any

from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.unknown import listed

VERSION = "transformers 5.23.0"
KEYS = {
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "learning_rate": ("learning_rate",),
    "schedule": ("lr_scheduler_type",),
    "warmup_steps": ("warmup_steps",),
    "warmup_ratio": ("warmup_ratio",),
    "optimizer": ("optim",),
    "weight_decay": ("weight_decay",),
    "max_grad_norm": ("max_grad_norm",),
    "batch_size": ("per_device_train_batch_size",),
    "accumulation": ("gradient_accumulation_steps",),
    "epochs": ("num_train_epochs",),
    "max_steps": ("max_steps",),
    "group_by_length": ("group_by_length",),
    "checkpointing": ("gradient_checkpointing",),
    "empty_cache_steps": ("torch_empty_cache_steps",),
    "nan_filter": ("logging_nan_inf_filter",),
    "save_strategy": ("save_strategy",),
    "save_steps": ("save_steps",),
    "eval_strategy": ("eval_strategy", "evaluation_strategy"),
    "eval_steps": ("eval_steps",),
    "load_best": ("load_best_model_at_end",),
    "generates": ("predict_with_generate",),
    "find_unused": ("ddp_find_unused_parameters",),
    "workers": ("dataloader_num_workers",),
    "resume": ("resume_from_checkpoint",),
}
SCRIPTS = {
    "model": ("model_name_or_path",),
    "adapter": ("adapter_name_or_path",),
    "pure": ("pure_bf16",),
    "max_length": ("max_length", "max_seq_length"),
    "packing": ("packing",),
    "rank": ("lora_r", "lora_rank"),
    "alpha": ("lora_alpha",),
    "dropout": ("lora_dropout",),
    "rslora": ("use_rslora",),
    "targets": ("lora_target_modules",),
    "prefix_tokens": ("pre_seq_len",),
}
"""What scripts take beside the arguments: SFTConfig and ModelConfig of TRL, and names alike."""
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
LORA = ("lora_r", "lora_rank", "lora_alpha", "lora_target_modules")
DEFAULTS: dict[str, Any] = {
    "bf16": False,
    "fp16": False,
    "learning_rate": 5e-5,
    "schedule": "linear",
    "warmup_steps": 0.0,
    "optimizer": "adamw_torch_fused",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "batch_size": 8,
    "accumulation": 1,
    "epochs": 3.0,
    "checkpointing": False,
    "nan_filter": True,
    "save_strategy": "steps",
    "save_steps": 500.0,
    "eval_strategy": "no",
    "load_best": False,
    "generates": False,
    "workers": 0,
}
SIGNS = ("per_device_train_batch_size", "lr_scheduler_type", "num_train_epochs", "output_dir")


def recognised(tree: object) -> bool:
    """Whether a flat tree has the names of TrainingArguments."""
    return isinstance(tree, dict) and sum(sign in tree for sign in SIGNS) > 1


def known() -> frozenset[str]:
    """All fields, of version 4 too."""
    return listed("transformers", "transformers_4", "seq2seq")


def interpret(reader: Reader) -> None:
    """The method, which the arguments themselves do not know."""
    for bits in (8, 4):
        if reader.get(f"load_in_{bits}bit") is True:
            reader.set("quantisation", bits, f"load_in_{bits}bit")
    adapted = [key for key in ("use_peft", *LORA) if reader.get(key)]
    if reader.get("use_peft") is False:
        reader.set("method", "full", "use_peft")
    elif adapted:
        quantised = reader.values.get("quantisation") is not None
        reader.set("method", "qlora" if quantised else "lora", adapted[0])
    elif reader.get("pre_seq_len"):
        reader.set("method", "ptuning", "pre_seq_len")
    _read_weights(reader)
    read_order(reader)


def read_order(reader: Reader) -> None:
    """In which order rows come, as version 5 says it."""
    key = "train_sampling_strategy"
    strategy = reader.get(key)
    if strategy == "sequential":
        reader.set("in_order", True, key)
    elif strategy == "group_by_length":
        reader.set("group_by_length", True, key)


def _read_weights(reader: Reader) -> None:
    """The format that weights are loaded in, which is that of what learns where all of them do."""
    for key in ("dtype", "torch_dtype"):
        if (weights := DTYPES.get(str(reader.get(key)))) is None:
            continue
        reader.set("weights", weights, key)
        if weights != "fp32" and reader.values.get("method") in (None, "full"):
            reader.set("pure", True, key)


FORMAT = Format(
    name="transformers",
    version=VERSION,
    keys={**KEYS, **SCRIPTS},
    defaults=DEFAULTS,
    known=lambda: known() | listed("trl", "scripts"),
    interpret=interpret,
    open_tables=frozenset({"generation_config"}),
    refuses_unknown=False,
)

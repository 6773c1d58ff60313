"""axolotl's YAML; axolotl-ai-cloud/axolotl 0.18.0 at commit 067b021c (2026-07-24).

Its schema makes numbers of quoted text, and passes over keys that it does not know.
"""

from __future__ import annotations

from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.unknown import listed

VERSION = "axolotl 0.18.0"
KEYS = {
    "model": ("base_model",),
    "learning_rate": ("learning_rate",),
    "schedule": ("lr_scheduler",),
    "warmup_steps": ("warmup_steps",),
    "warmup_ratio": ("warmup_ratio",),
    "optimizer": ("optimizer",),
    "weight_decay": ("weight_decay",),
    "max_grad_norm": ("max_grad_norm",),
    "batch_size": ("micro_batch_size",),
    "accumulation": ("gradient_accumulation_steps",),
    "epochs": ("num_epochs",),
    "max_steps": ("max_steps",),
    "max_length": ("sequence_len",),
    "packing": ("sample_packing",),
    "group_by_length": ("group_by_length",),
    "train_on_prompt": ("train_on_inputs",),
    "template": ("chat_template",),
    "empty_cache_steps": ("torch_empty_cache_steps",),
    "adapter": ("lora_model_dir",),
    "rank": ("lora_r",),
    "alpha": ("lora_alpha",),
    "dropout": ("lora_dropout",),
    "rslora": ("peft_use_rslora",),
    "targets": ("lora_target_modules",),
    "stop_tokens": ("eot_tokens",),
    "save_strategy": ("save_strategy",),
    "save_steps": ("save_steps",),
    "eval_strategy": ("eval_strategy", "evaluation_strategy"),
    "eval_steps": ("eval_steps",),
    "load_best": ("load_best_model_at_end",),
    "find_unused": ("ddp_find_unused_parameters",),
    "workers": ("dataloader_num_workers",),
    "resume": ("resume_from_checkpoint",),
}
BITS = {"load_in_4bit": 4, "load_in_8bit": 8}


def recognised(tree: object) -> bool:
    """Whether a tree has names that only axolotl has."""
    return isinstance(tree, dict) and (
        "base_model" in tree or {"micro_batch_size", "sequence_len"} <= tree.keys()
    )


def interpret(reader: Reader) -> None:
    """The method, number formats (`full` keeps all in that format), and what is saved when."""
    adapter = reader.get("adapter")
    method = {"lora": "lora", "qlora": "qlora"}.get(str(adapter), "other") if adapter else "full"
    if adapter:
        reader.set("method", method, "adapter")
    else:
        reader.values["method"] = method
    for name in ("bf16", "fp16"):
        if reader.get(name) == "full":
            reader.set(name, True, name)
            reader.set("pure", True, name)
        else:
            reader.take(name, name)
    for key, bits in BITS.items():
        if reader.get(key) is True:
            reader.set("quantisation", bits, key)
    if reader.get("gradient_checkpointing") in ("offload", "offload_disk"):
        reader.set("checkpointing", True, "gradient_checkpointing")
    else:
        reader.take("checkpointing", "gradient_checkpointing")
    if reader.get("evals_per_epoch"):
        reader.set("eval_strategy", "epoch", "evals_per_epoch")
    if reader.get("saves_per_epoch"):
        reader.set("save_strategy", "epoch", "saves_per_epoch")


FORMAT = Format(
    name="axolotl",
    version=VERSION,
    keys=KEYS,
    defaults={
        "bf16": "auto",
        "fp16": False,
        "pure": False,
        "schedule": "cosine",
        "warmup_ratio": 0.03,
        "optimizer": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "batch_size": 1,
        "accumulation": 1,
        "epochs": 1.0,
        "max_length": 512,
        "packing": False,
        "train_on_prompt": False,
        "checkpointing": False,
        "nan_filter": True,
    },
    known=lambda: listed("axolotl"),
    interpret=interpret,
    open_tables=frozenset({"special_tokens"}),
    takes_text=True,
    refuses_unknown=False,
)

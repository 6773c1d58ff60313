"""LLaMA-Factory's YAML and JSON; hiyouga/LLaMA-Factory 0.9.6.dev0 at commit ff6d4d12 (2026-08-18).

It reads YAML by OmegaConf, which takes 5e-4 as a number.
"""

from __future__ import annotations

from typing import Any

from glmdiag.configs import hugging_face
from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.record import TrainerConfig
from glmdiag.configs.unknown import listed

VERSION = "LLaMA-Factory 0.9.6.dev0"
KEYS = {
    **hugging_face.KEYS,
    "model": ("model_name_or_path",),
    "adapter": ("adapter_name_or_path",),
    "pure": ("pure_bf16",),
    "quantisation": ("quantization_bit",),
    "max_length": ("cutoff_len",),
    "train_on_prompt": ("train_on_prompt",),
    "last_answer_only": ("mask_history",),
    "template": ("template",),
    "rank": ("lora_rank",),
    "alpha": ("lora_alpha",),
    "dropout": ("lora_dropout",),
    "rslora": ("use_rslora",),
    "targets": ("lora_target",),
}
SIGNS = ("finetuning_type", "cutoff_len", "lora_target", "stage", "dataset_dir", "template")
METHODS = {"lora": "lora", "full": "full"}


def recognised(tree: object) -> bool:
    """Whether a tree has names that only LLaMA-Factory has."""
    if not isinstance(tree, dict):
        return False
    return "finetuning_type" in tree or (
        "model_name_or_path" in tree and any(sign in tree for sign in SIGNS)
    )


def known() -> frozenset[str]:
    """All arguments, with those of transformers."""
    return hugging_face.known() | listed("llamafactory")


def interpret(reader: Reader) -> None:
    """The method, packing, order, and checkpointing, which is on unless it is disabled."""
    kind = str(reader.get("finetuning_type") or "lora")
    method = METHODS.get(kind, "other")
    if method == "lora" and reader.values.get("quantisation") is not None:
        method = "qlora"
    if reader.get("finetuning_type") is not None:
        reader.set("method", method, "finetuning_type")
    else:
        reader.values["method"] = method
    for key in ("packing", "neat_packing"):
        if reader.get(key):
            reader.set("packing", True, key)
    disabled = reader.get("disable_gradient_checkpointing")
    if isinstance(disabled, bool):
        reader.set("checkpointing", not disabled, "disable_gradient_checkpointing")
    hugging_face.read_order(reader)
    if reader.get("disable_shuffling") is True:
        reader.set("in_order", True, "disable_shuffling")


def _alpha(config: TrainerConfig) -> Any:
    return 2.0 * config.effective("rank")


FORMAT = Format(
    name="llamafactory",
    version=VERSION,
    keys={name: keys for name, keys in KEYS.items() if name != "checkpointing"},
    defaults={
        **hugging_face.DEFAULTS,
        "pure": False,
        "max_length": 2048,
        "packing": False,
        "train_on_prompt": False,
        "last_answer_only": False,
        "checkpointing": True,
        "rank": 8,
        "alpha": _alpha,
        "dropout": 0.0,
        "targets": ("all",),
    },
    known=known,
    interpret=interpret,
)

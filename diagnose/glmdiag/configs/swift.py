"""ms-swift's YAML, and the args.json that it writes; version 4.4.3, commit 3602360a (2026-08-22).

Values go through the command line, so text becomes numbers.
"""

from __future__ import annotations

import math
from typing import Any

from glmdiag.configs import hugging_face
from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.record import TrainerConfig
from glmdiag.configs.unknown import listed

VERSION = "ms-swift 4.4.3"
KEYS = {
    **hugging_face.KEYS,
    "model": ("model",),
    "quantisation": ("quant_bits", "quantization_bit"),
    "max_length": ("max_length",),
    "packing": ("packing",),
    "template": ("template", "template_type"),
    "stop_tokens": ("stop_words",),
    "rank": ("lora_rank",),
    "alpha": ("lora_alpha",),
    "dropout": ("lora_dropout",),
    "rslora": ("use_rslora",),
    "targets": ("target_modules",),
}
SIGNS = ("tuner_type", "train_type", "swift_version", "split_dataset_ratio", "loss_scale")
TYPES = ("tuner_type", "train_type", "sft_type")
ROWS = 16
"""A step has at least so many rows on all devices where accumulation is not said."""


def recognised(tree: object) -> bool:
    """Whether a tree has names that only ms-swift has."""
    if not isinstance(tree, dict):
        return False
    return any(sign in tree for sign in SIGNS) or {"model", "max_length", "dataset"} <= tree.keys()


def known() -> frozenset[str]:
    """All arguments, with those of transformers, and older names of some."""
    return hugging_face.known() | listed("swift")


def interpret(reader: Reader) -> None:
    """The method, the format of the weights, and what is trained on."""
    key = next((each for each in TYPES if reader.get(each) is not None), None)
    kind = "lora" if key is None else str(reader.get(key))
    method = kind if kind in ("lora", "full") else "other"
    if method == "lora" and reader.values.get("quantisation"):
        method = "qlora"
    if key is None:
        reader.values["method"] = method
    else:
        reader.set("method", method, key)
    dtype = reader.get("torch_dtype")
    if dtype is not None:
        if str(dtype) in hugging_face.DTYPES:
            reader.set("weights", hugging_face.DTYPES[str(dtype)], "torch_dtype")
        else:
            reader.odd("value", reader.where("torch_dtype"), ", ".join(hugging_face.DTYPES))
    scale = str(reader.get("loss_scale") or "")
    if scale.startswith("all"):
        reader.set("train_on_prompt", True, "loss_scale")
    if scale.startswith("last_round"):
        reader.set("last_answer_only", True, "loss_scale")


def _rate(config: TrainerConfig) -> Any:
    return 1e-5 if config.method == "full" else 1e-4


def _accumulation(config: TrainerConfig) -> Any:
    return max(1, math.ceil(ROWS / max(1, config.effective("batch_size"))))


def _half(config: TrainerConfig) -> Any:
    """bf16 follows the weights, whose format is the model's own where it is not said."""
    return "auto" if config.weights is None else config.weights == "bf16"


def _fp16(config: TrainerConfig) -> Any:
    return config.weights in ("fp16", "fp32")


FORMAT = Format(
    name="swift",
    version=VERSION,
    keys=KEYS,
    defaults={
        **hugging_face.DEFAULTS,
        "bf16": _half,
        "fp16": _fp16,
        "learning_rate": _rate,
        "schedule": "cosine",
        "weight_decay": 0.1,
        "batch_size": 1,
        "accumulation": _accumulation,
        "checkpointing": True,
        "packing": False,
        "train_on_prompt": False,
        "last_answer_only": False,
        "rank": 8,
        "alpha": 32.0,
        "dropout": 0.05,
        "targets": ("all-linear",),
    },
    known=known,
    interpret=interpret,
    takes_text=True,
)

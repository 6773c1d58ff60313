"""The YAML files of the official GLM-4 (and ChatGLM3) fine-tuning script.

zai-org/GLM-4, finetune/finetune.py and configs at commit 3f79b543 of 2025-07-04. The script loads
the weights in bf16 whatever is said, and reads YAML 1.2, in which 5e-4 is a number.
"""

from __future__ import annotations

from glmdiag.configs import hugging_face
from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.unknown import listed

VERSION = "zai-org/GLM-4 3f79b543, transformers 4"
OWN = {
    "max_input_length": ("max_input_length",),
    "max_output_length": ("max_output_length",),
    "last_answer_only": ("combine",),
    "rank": ("peft_config.r",),
    "alpha": ("peft_config.lora_alpha",),
    "dropout": ("peft_config.lora_dropout",),
    "rslora": ("peft_config.use_rslora",),
    "targets": ("peft_config.target_modules",),
    "prefix_tokens": ("peft_config.num_virtual_tokens",),
}
METHODS = {"LORA": "lora", "PREFIX_TUNING": "ptuning", "P_TUNING": "ptuning"}
ARGUMENTS = "training_args"
DATA = ("train_file", "val_file", "test_file", "num_proc", "data_format")
TOP = ("max_input_length", "max_output_length", "combine", "freezeV", "swanlab")


def recognised(tree: object) -> bool:
    """Whether a tree has the tables of these files."""
    return isinstance(tree, dict) and isinstance(tree.get(ARGUMENTS), dict)


def known() -> frozenset[str]:
    """All keys; those of peft_config are PEFT's own."""
    arguments = listed("transformers", "transformers_4", "seq2seq")
    return frozenset(
        {f"{ARGUMENTS}.{key}" for key in arguments}
        | {f"data_config.{key}" for key in DATA}
        | {*TOP, "peft_config"}
    )


def interpret(reader: Reader) -> None:
    """The method, from peft_config; without one all weights are trained."""
    kind = reader.get("peft_config.peft_type")
    if kind is None:
        reader.values["method"] = "full"
    else:
        reader.set("method", METHODS.get(str(kind).upper(), "other"), "peft_config.peft_type")
    eos = reader.get(f"{ARGUMENTS}.generation_config.eos_token_id")
    if isinstance(eos, (int, list)):
        ids = eos if isinstance(eos, list) else [eos]
        key = f"{ARGUMENTS}.generation_config.eos_token_id"
        reader.set("stop_tokens", tuple(map(str, ids)), key)


FORMAT = Format(
    name="official",
    version=VERSION,
    keys={
        **OWN,
        **{
            name: tuple(f"{ARGUMENTS}.{key}" for key in keys)
            for name, keys in hugging_face.KEYS.items()
        },
    },
    defaults={**hugging_face.DEFAULTS, "weights": "bf16", "last_answer_only": False},
    known=known,
    interpret=interpret,
    open_tables=frozenset({"peft_config", f"{ARGUMENTS}.generation_config"}),
)

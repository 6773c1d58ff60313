"""The base model: the built-in tiny one, a folder, or a model hub's id."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import torch
from glmprep.errors import InputError, UsageError, first_line
from torch import Tensor, nn

TINY = "tiny"
TINY_SEED = 20240605
SAMPLED_VALUES = 4096
LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError)
# What a folder's own code raises that is older than transformers.
CODE_ERRORS = (TypeError, AttributeError, ImportError)

# transformers and peft come without types; this names what is meant.
CausalModel: TypeAlias = Any


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers, peft and the hub client from saying what the caller cannot act on."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not torch.accelerator.is_available():
        # Else deepspeed, which others import, says on standard output that it found none.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import huggingface_hub  # noqa: F401 - it sets its own log level when it is imported,
    from transformers.utils import logging as transformers_logging  # and so does this

    # The variables above count only where these were not imported before.
    transformers_logging.disable_progress_bar()
    names = ("transformers", "huggingface_hub", "peft", "accelerate", "torch")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=rf"({'|'.join(names)})(\.|$)")
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def load(
    path: str, dtype: torch.dtype, *, attention: str = "sdpa", trust_remote_code: bool = False
) -> CausalModel:
    """The base model in `dtype`, ready for training without a cache of keys and values.

    Weights are read from safetensors only. Code from the model's folder is run where it is trusted,
    which gives it all rights of the user. Raises InputError for what is not such a model.
    """
    if path == TINY:
        model = tiny(dtype=dtype)
        model.set_attn_implementation(attention)
    else:
        # Remote code may know no attention but its own; transformers takes sdpa where there is one.
        chosen = None if attention == "sdpa" else attention
        model = _load_pretrained(path, dtype, chosen, trust_remote_code)
    model.config.use_cache = False  # a cache drops the block mask of packed rows
    check_head(model)
    check_finite(path, model)
    return model


def tiny(seed: int = TINY_SEED, dtype: torch.dtype = torch.float32) -> CausalModel:
    """A random two-layer GLM with the GLM-4 vocabulary; the same weights for the same seed."""
    from transformers import GlmConfig, GlmForCausalLM

    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = GlmForCausalLM(GlmConfig(**tiny_config()))
    finally:
        torch.set_rng_state(state)
    return model.to(dtype)


def tiny_config() -> dict[str, Any]:
    """The tiny model's configuration, as in a model folder's `config.json`."""
    text = (resources.files("glmtrain") / "assets" / "tiny.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    return config


def describe(path: str, model: CausalModel) -> dict[str, Any]:
    """What tells this base model from others; for the tiny one all that is needed to make it."""
    made_from = {"seed": TINY_SEED, "config": tiny_config()} if path == TINY else {}
    return {
        "path": path,
        "architecture": type(model).__name__,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "fingerprint": fingerprint(model),
        **made_from,
    }


def fingerprint(model: CausalModel) -> str:
    """A digest of names, shapes and evenly spaced values of all weights.

    It tells one base model from another without reading gigabytes. Values are rounded to bfloat16,
    so that a base loaded in bfloat16 and in float32 is the same one; float16 may round otherwise.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1)
        sampled = flat[:: max(1, flat.numel() // SAMPLED_VALUES)]
        sample = sampled.to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()


def head_weight(model: CausalModel) -> Tensor:
    """The output projection's weight, [vocabulary, width]."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


def check_head(model: CausalModel) -> None:
    """Raise UsageError for a model whose logits are not a plain projection of its last state."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise UsageError(
            f"{type(model).__name__}: its output layer is not a plain projection, "
            "which the loss needs; use a GLM causal language model"
        )


def check_finite(path: str, model: CausalModel) -> None:
    """Raise InputError where a weight is NaN or infinite."""
    for name, weight in model.named_parameters():
        # The extremes are NaN where any value is, and need no memory of the weight's size.
        if not torch.stack(torch.aminmax(weight.detach())).isfinite().all():
            raise InputError(
                f"{path}: weight {name} holds NaN or infinity; fetch the model again, or save it "
                "again in bf16 or fp32 (values of bf16 models overflow in fp16)"
            )


def _load_pretrained(
    path: str, dtype: torch.dtype, attention: str | None, trust_remote_code: bool
) -> CausalModel:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if Path(path).is_file():
        raise InputError(f"{path}: is a file; name the model's folder, a hub id, or 'tiny'")
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise InputError(f"{path}: no config.json, so not a model's folder")
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (*LOADING_ERRORS, *CODE_ERRORS, SafetensorError, StrictDataclassError) as error:
        raise InputError(f"{path}: cannot be loaded as a model; {_advice(path, error)}") from error
    # transformers fills in random numbers for these, with a warning.
    if missing := sorted(loading["missing_keys"]):
        raise InputError(
            f"{path}: its files lack {len(missing)} weights, as {missing[0]}; "
            "fetch it again, or look whether config.json is that of this model"
        )
    return model


def _advice(path: str, error: Exception) -> str:
    """One line of what to do about a model that did not load."""
    text = str(error)
    if "remote code" in text or "trust_remote_code" in text:
        return (
            "it needs Python code from its folder; take the '-hf' edition, e.g. "
            "zai-org/glm-4-9b-chat-hf, or read that code, which can do all that you can, and set "
            "model.trust_remote_code=true"
        )
    if type(error).__name__ == "SafetensorError":
        return f"a safetensors file is damaged ({first_line(error)}); fetch it again"
    if "ignore_mismatched_sizes" in text:
        return "its weights have other shapes than its config.json says; fetch both again"
    if "safetensors" in text:
        return "its weights are not in safetensors files; convert them first"
    if not Path(path).exists():
        return "no such folder, and no hub has a model of that name (or it cannot be reached)"
    return first_line(error)

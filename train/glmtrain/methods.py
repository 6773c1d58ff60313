"""What of the model is trained: low-rank adapters on its linear layers, or all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from glmprep.errors import InputError, UsageError
from torch import Tensor, nn

from glmtrain.learner import Learner
from glmtrain.model import CausalModel
from glmtrain.settings import ALL_LINEAR, Config, Lora

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def save(learner: Learner, folder: Path) -> None:
    """Write the weights that learn, as peft's adapter or as a whole model, in safetensors."""
    if learner.adapter is None:
        learner.causal.save_pretrained(folder)
    else:
        _save_adapter(learner.adapter, folder)


def restore(learner: Learner, folder: Path) -> None:
    """Read what `save` wrote; raises InputError where it does not fit the model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("adapter_model*.safetensors" if learner.adapter else "model*"))
    try:
        weights = {
            k: v for f in files if f.suffix == ".safetensors" for k, v in load_file(f).items()
        }
        _load(learner, weights)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise InputError(f"{folder}: its weights do not fit the model ({_line(error)})") from error


def _load(learner: Learner, weights: dict[str, Tensor]) -> None:
    causal, adapter = learner.causal, learner.adapter
    if adapter is None:
        causal.load_state_dict(weights, strict=not causal.config.tie_word_embeddings)
        return
    from peft import set_peft_model_state_dict

    if set_peft_model_state_dict(adapter, weights).unexpected_keys or not weights:
        raise KeyError("other adapter weights than this model has")


def prepare(model: CausalModel, config: Config, dtype: torch.dtype) -> Learner:
    """Make the model trainable by the configured method; targets must be resolved names.

    Logits are multiplied out in `dtype`.
    """
    if config.model.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    if config.model.method == "full":
        model.requires_grad_(True)
        return Learner(model, dtype=dtype)
    return Learner(model, dtype=dtype, adapter=_with_lora(model, config))


def lora_targets(model: CausalModel, lora: Lora) -> tuple[str, ...]:
    """The names of the linear layers that get adapters; raises UsageError for an unknown one."""
    head = model.get_output_embeddings()
    layers = [name for name, layer in model.named_modules() if _is_linear(layer, head)]
    known = sorted({name.rpartition(".")[2] for name in layers})
    if lora.target_modules == (ALL_LINEAR,):
        return tuple(known)
    for target in lora.target_modules:
        if target not in known:
            raise UsageError(
                f"lora.target_modules: no linear layer {target!r} to adapt; "
                f"there are {', '.join(known)} (the output layer stays as it is)"
            )
    return lora.target_modules


def _is_linear(layer: nn.Module, head: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and layer is not head


def _with_lora(model: CausalModel, config: Config) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = config.lora
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    # The generator is seeded here, so that the first adapter weights follow from the seed alone.
    torch.manual_seed(config.run.seed)
    return get_peft_model(model, settings)


def _save_adapter(adapter: Any, folder: Path) -> None:
    """peft's own format, without the model card and the look at the hub of `save_pretrained`."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(adapter, save_embedding_layers=False)
    contiguous = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(contiguous, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    settings = adapter.peft_config["default"]
    training, settings.inference_mode = settings.inference_mode, True
    settings.save_pretrained(folder)
    settings.inference_mode = training


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""What of the model is trained: low-rank adapters on its linear layers, or all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import InputError, UsageError
from torch import Tensor, nn

from glmtrain.batches import Inputs
from glmtrain.config import ALL_LINEAR, Config, Lora
from glmtrain.loss import summed_loss
from glmtrain.model import CausalModel, head_weight

ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableModel:
    """A causal language model of which some weights learn; `adapter` is peft's view of it."""

    causal: CausalModel
    adapter: Any | None

    def parameters(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by name."""
        named = self.causal.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def states(self, inputs: Inputs) -> Tensor:
        """The decoder's last hidden states, [rows, length, width]."""
        states: Tensor = self.causal.get_decoder()(
            input_ids=inputs.input_ids,
            position_ids=inputs.position_ids,
            attention_mask=inputs.attention_mask,
            use_cache=False,
        ).last_hidden_state
        return states

    def loss(self, inputs: Inputs, dtype: torch.dtype) -> Tensor:
        """Summed cross-entropy of the labelled tokens; logits are multiplied out in `dtype`."""
        return summed_loss(self.states(inputs), inputs.labels, head_weight(self.causal), dtype)

    def save(self, folder: Path) -> None:
        """Write the weights that learn, as peft's adapter or as a whole model, in safetensors."""
        if self.adapter is None:
            self.causal.save_pretrained(folder)
        else:
            _save_adapter(self.adapter, folder)

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; raises InputError where it does not fit the model."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        files = sorted(folder.glob("adapter_model*.safetensors" if self.adapter else "model*"))
        try:
            weights = {
                k: v for f in files if f.suffix == ".safetensors" for k, v in load_file(f).items()
            }
            self._load(weights)
        except (OSError, SafetensorError, RuntimeError, KeyError) as error:
            raise InputError(
                f"{folder}: its weights do not fit the model ({_line(error)})"
            ) from error

    def _load(self, weights: dict[str, Tensor]) -> None:
        if self.adapter is None:
            self.causal.load_state_dict(weights, strict=not self.causal.config.tie_word_embeddings)
            return
        from peft import set_peft_model_state_dict

        if set_peft_model_state_dict(self.adapter, weights).unexpected_keys or not weights:
            raise KeyError("other adapter weights than this model has")


def prepare(model: CausalModel, config: Config) -> TrainableModel:
    """Make the model trainable by the configured method; targets must be resolved names."""
    if config.model.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    if config.model.method == "full":
        model.requires_grad_(True)
        return TrainableModel(causal=model, adapter=None)
    return TrainableModel(causal=model, adapter=_with_lora(model, config))


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

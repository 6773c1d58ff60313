"""What of the model is trained: all of it, adapters on it, or adapters on a base in four bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import UsageError
from torch import Tensor

from glmtrain import (
    adapters,
    attention,
    kernels,
    lora,
    model,
    neftune,
    newtokens,
    prefix,
    quantised,
)
from glmtrain.adapters import WEIGHTS as ADAPTER_WEIGHTS
from glmtrain.devices import SLICING, Place
from glmtrain.learner import Learner
from glmtrain.model import CausalModel
from glmtrain.newtokens import NewToken
from glmtrain.precision import Precision
from glmtrain.prefix import Prefixed
from glmtrain.settings import Config
from glmtrain.student import PROJECTION

__all__ = ["ADAPTER_WEIGHTS", "load", "prepare", "save", "targets"]


def load(config: Config, precision: Precision, place: Place) -> CausalModel:
    """The base model of a run, on its device unless it is to be sliced or quantised on the way.

    Raises UsageError for an attention that cannot run here, InputError for what is no model.
    """
    asked = config.model
    base = model.load(
        asked.path,
        precision.frozen_dtype(asked.method),
        attention=attention.choose(
            asked.attention,
            precision.device,
            precision.dtype,
            prefix=asked.method == "ptuning",
        ),
        trust_remote_code=asked.trust_remote_code,
    )
    later = asked.method == "qlora" or place.strategy in SLICING
    return base if later else base.to(precision.device)


def targets(base: CausalModel, config: Config) -> tuple[str, ...]:
    """What gets adapters, none where the method has none; see `lora.targets`."""
    method = config.model.method
    if method not in ("lora", "qlora"):
        return ()
    return lora.targets(base, config.lora, quantised=method == "qlora")


def prepare(
    base: CausalModel,
    config: Config,
    dtype: torch.dtype,
    *,
    device: torch.device | None = None,
    new_tokens: Sequence[NewToken] = (),
) -> Learner:
    """Make the loaded base trainable by the configured method; targets must be resolved names.

    Logits are multiplied out in `dtype`, by the kernel that `loss.kernel` names if it can be taken
    on `device`, where the run computes. A base to be quantised is moved there, where it has room
    in four bits alone; any other stays where it is. Raises UsageError for settings that do not go
    together, InputError for an adapter that does not fit.
    """
    found = _adapter_to_go_on_from(base, config)
    if config.model.method == "ptuning":
        _require_no_new_rows(new_tokens)
    newtokens.extend(base, new_tokens)
    if config.model.method == "qlora":
        quantised.quantise(base, dtype, device or base.device, config.lora.target_modules)
    learns_in = dtype if config.precision.pure else torch.float32
    adapter = _attach(base, config, learns_in, new_tokens)
    if found is not None:
        adapters.load(adapter, found.folder)
    if config.model.neftune_alpha:
        neftune.install(base, config.model.neftune_alpha)
    if config.model.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    base.train()
    head = base.get_output_embeddings()
    objective = kernels.objective(config, head, dtype, device or base.device)
    return Learner(base, objective=objective, adapter=adapter)


def save(learner: Learner, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the weights that learn, as peft's adapter or as a whole model, in safetensors.

    `weights` has them by their names in `Learner.learning`, where the learner holds but a slice.
    """
    if weights is not None:
        weights = {name: weight for name, weight in weights.items() if name != PROJECTION}
    if learner.adapter is None:
        whole = None if weights is None else dict(weights)
        learner.causal.save_pretrained(folder, state_dict=whole)
    elif isinstance(learner.adapter, Prefixed):
        prefix.save(learner.adapter, folder, weights)
    else:
        adapters.save(learner.adapter, folder, weights)


def _attach(
    base: CausalModel, config: Config, learns_in: torch.dtype, new_tokens: Sequence[NewToken]
) -> Any | None:
    """peft's view of the base with new adapters in it; None where all of it learns."""
    method = config.model.method
    if method == "full":
        base.to(learns_in).requires_grad_(True)
        return None
    if method == "ptuning":
        return prefix.install(base, config.prefix, config.run.seed)
    return lora.attach(
        base,
        config.lora,
        seed=config.run.seed,
        tokens=newtokens.trained_rows(base, new_tokens),
        dtype=learns_in,
    )


def _require_no_new_rows(tokens: Sequence[NewToken]) -> None:
    """A prefix has no rows of embeddings: those of new tokens would neither learn nor be kept."""
    fresh = [token.text for token in tokens if token.pieces is not None]
    if fresh:
        raise UsageError(
            f"the shards add the token {fresh[0]}, which ptuning cannot train; "
            "take --method lora, qlora or full"
        )


def _adapter_to_go_on_from(base: CausalModel, config: Config) -> adapters.Found | None:
    """The adapter that `model.adapter` names, checked against base and settings."""
    if config.model.adapter is None:
        return None
    method = config.model.method
    if method not in ("lora", "qlora"):
        raise UsageError(
            f"model.adapter: a LoRA adapter goes on with lora or qlora, not {method}; merge it "
            "first, or set model.method=lora"
        )
    found = adapters.read(Path(config.model.adapter))
    adapters.check_same(found, config.lora, model.fingerprint(base))
    return found

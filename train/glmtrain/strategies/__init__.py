"""How several processes share one model: the same few steps, whoever keeps which part of it.

    with devices.join(config.devices) as place:
        with place.turn():                   # where slicing is, one whole model at a time
            learner = methods.prepare(...)
            strategy = strategies.make(place, learner, config, precision)
        for part in parts:                                # the same number of parts on every rank
            with strategy.accumulating(last=part is parts[-1]):
                strategy.backward(strategy.model(part) / labelled_tokens_of_all_ranks)
        norm = strategy.clip_and_step(limit, sound=math.isfinite(place.total([loss])[0]))

Everything but `set_rate` is a joint act: every rank has to do it, in the same order, and the model
has to be called equally often on all. A rank without rows computes a batch of padding, whose loss
is a zero with a graph.

single      one process
ddp         everything on every rank, gradients are summed
fsdp2       every rank keeps a slice of every weight, gradient and moment; a layer is put together
            when it is computed
zero2       gradients and moments are sliced (DeepSpeed)
zero3       all is sliced (DeepSpeed)

All four were equal to one process within 1e-5 over gloo: LoRA, full and prefix on a dense GLM, LoRA
and full on a mixture of experts; QLoRA with ddp and zero2. None was tried with NCCL or on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from glmprep.errors import UsageError
from torch import Tensor, nn

from glmtrain.batches import Inputs
from glmtrain.devices import SLICING, Place
from glmtrain.learner import Learner, Returns
from glmtrain.precision import Precision
from glmtrain.settings import Config

# Their state, or their step, is not that of each number on its own.
_NEEDS_WHOLE_WEIGHTS = {"adamw8bit", "adafactor", "muon"}


class Strategy(Protocol):
    """What the training loop asks of it. Names of weights are those of `Learner.learning`."""

    learner: Learner
    learning: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer

    @property
    def loss_scale(self) -> float | None:
        """What losses are multiplied with before the backward pass under fp16, None else."""

    def model(self, inputs: Inputs, returns: Returns = "sum") -> Tensor:
        """What the learner returns, computed in the run's precision."""

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward pass of a part; gradients are exchanged at the last alone,
        where the strategy can wait."""

    def backward(self, loss: Tensor) -> None:
        """Add gradients: over all ranks they are those of the *sum* of the ranks' losses."""

    def clip_and_step(
        self, limit: float, *, sound: bool, accept: Callable[[float], bool] | None = None
    ) -> float:
        """Make one optimiser step and forget the gradients; returns their norm before clipping.

        The norm is over all weights and ranks and the same on each; `limit` 0 leaves it be. No
        rank steps where `sound` is false on any, where the norm is not finite, or where `accept`
        says no to the norm. Under fp16 the loss scale is adapted either way.
        """

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""

    def weights(self) -> dict[str, Tensor]:
        """The weights that learn, whole, on the CPU of rank 0; empty on the other ranks."""

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take what `weights` gave, whichever strategy and number of ranks it comes from.

        Every rank passes the whole weights. Raises KeyError where one is missing.
        """

    def optimiser_state(self) -> dict[str, Tensor]:
        """What the optimiser remembers, whole, as `moment.weight`, on the CPU of rank 0; empty on
        the other ranks, and before the first step."""

    def load_optimiser_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `optimiser_state` gave, on every rank. Raises KeyError where a part misses."""

    def scaler_state(self) -> dict[str, float]:
        """What the loss scaling of fp16 remembers, to be written as JSON; empty without."""

    def load_scaler_state(self, state: Mapping[str, float]) -> None:
        """Take what `scaler_state` gave."""

    def whole(self) -> AbstractContextManager[Learner]:
        """The learner with all of its weights in place on every rank, to be read or called directly
        (to generate text); every rank has to make the same calls. Takes the memory of the whole
        model."""


def make(place: Place, learner: Learner, config: Config, precision: Precision) -> Strategy:
    """The strategy that `place` names, around `learner` and an optimiser for what of it learns.

    Raises UsageError for settings that do not go together.
    """
    name = place.strategy
    check(place, config, precision)
    if name == "fsdp2":
        from glmtrain.strategies.fsdp2 import FSDP2

        return FSDP2(place, learner, config, precision)
    if name in ("zero2", "zero3"):
        from glmtrain.strategies.zero import Zero

        return Zero(place, learner, config, precision)
    if name == "ddp":
        from glmtrain.strategies.ddp import DDP

        return DDP(place, learner, config, precision)
    from glmtrain.strategies.single import Single

    return Single(place, learner, config, precision)


def check(place: Place, config: Config, precision: Precision) -> None:
    """Raise UsageError where settings do not go together; needs no model, so ask before loading."""
    name, chosen, method = place.strategy, config.optimiser.name, config.model.method
    if name in SLICING and chosen in _NEEDS_WHOLE_WEIGHTS:
        raise UsageError(
            f"optimiser.name = {chosen} looks at whole weights, which {name} slices; "
            "take adamw or lion, or devices.strategy = ddp"
        )
    if name in ("fsdp2", "zero3") and method == "qlora":
        raise UsageError(
            f"{name} cannot slice 4-bit weights; take devices.strategy = ddp, "
            "or model.method = lora"
        )
    on_cpu = place.device.type == "cpu"
    if name in ("zero2", "zero3") and on_cpu and precision.dtype == torch.float16:
        raise UsageError(f"{name} has no fp16 on a CPU; take --dtype bf16 or fp32, or fsdp2")

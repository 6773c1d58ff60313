"""One process; also what ddp and fsdp2 build upon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from glmtrain import optimiser
from glmtrain.batches import Inputs
from glmtrain.devices import Place
from glmtrain.learner import Learner, Returns
from glmtrain.offload import offloaded
from glmtrain.precision import Precision
from glmtrain.settings import Config


class Single:
    """Everything in one place; see `Strategy` for what the methods do."""

    def __init__(
        self, place: Place, learner: Learner, config: Config, precision: Precision
    ) -> None:
        self.place = place
        self.learner = learner
        self.precision = precision
        self._offload = config.model.offload_activations
        self.module = self._wrapped(config)
        # Asked once: while fsdp2 computes, the model holds other tensors in their stead.
        self.learning = learner.learning()
        self.optimiser = optimiser.make(self.learning, config.optimiser)

    def _wrapped(self, config: Config) -> nn.Module:
        """What is called for a loss. The learner may get other parameters here."""
        return self.learner.to(self.place.device)

    @property
    def loss_scale(self) -> float | None:
        """See `Strategy`."""
        return self.precision.loss_scale

    def model(self, inputs: Inputs, returns: Returns = "sum") -> Tensor:
        """See `Strategy`."""
        weights = self.learner.parameters()
        with self.precision.autocast(), offloaded(weights, self.place.device, wanted=self._offload):
            found: Tensor = self.module(inputs, returns)
        return found

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """See `Strategy`."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """See `Strategy`."""
        # Gradients are averaged over the ranks when they are exchanged, and a sum is meant.
        loss = loss * self.place.ranks
        if self.precision.scaler is not None:
            loss = self.precision.scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]

    def clip_and_step(
        self, limit: float, *, sound: bool, accept: Callable[[float], bool] | None = None
    ) -> float:
        """See `Strategy`."""
        if self.precision.scaler is not None:
            self.precision.scaler.unscale_(self.optimiser)
        norm = self._norm()
        take = not self.place.any(not (sound and math.isfinite(norm)))
        take = take and (accept is None or accept(norm))
        if take and limit:
            clip_grads_with_norm_(self.learning.values(), limit, torch.tensor(norm))
        optimiser.finish(self.optimiser, self.precision, take=take)
        return norm

    def _norm(self) -> float:
        """The norm of all gradients, over all ranks."""
        weights = self.learning.values()
        return float(get_total_norm([w.grad for w in weights if w.grad is not None]))

    def set_rate(self, rate: float) -> None:
        """See `Strategy`."""
        optimiser.set_rate(self.optimiser, rate)

    def weights(self) -> dict[str, Tensor]:
        """See `Strategy`."""
        return self._kept(self.learning)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Strategy`."""
        with torch.no_grad():
            for name, weight in self.learning.items():
                weight.copy_(weights[name])

    def optimiser_state(self) -> dict[str, Tensor]:
        """See `Strategy`."""
        return self._kept(optimiser.state_tensors(self.optimiser, self.learning))

    def load_optimiser_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Strategy`."""
        optimiser.load_state_tensors(self.optimiser, self.learning, state)

    def scaler_state(self) -> dict[str, float]:
        """See `Strategy`."""
        scaler = self.precision.scaler
        return {} if scaler is None else scaler.state_dict()

    def load_scaler_state(self, state: Mapping[str, float]) -> None:
        """See `Strategy`."""
        if self.precision.scaler is not None and state:
            self.precision.scaler.load_state_dict(dict(state))

    def _kept(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the CPU of rank 0."""
        if not self.place.main:
            return {}
        return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}

    @contextmanager
    def whole(self) -> Iterator[Learner]:
        """See `Strategy`."""
        yield self.learner

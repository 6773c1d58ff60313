"""Every rank keeps a slice of everything (torch's `fully_shard`).

One group for each decoder layer, put together while it is computed, and one for the rest:
embeddings, last norm and output layer, which stay together from the forward pass to the end of the
backward pass, because the loss uses the output layer's weight outside of its module.

A group may mix number formats as long as all that *learns* in it has the same: float32 adapters
beside a frozen bf16 base are one group. Weights that learn are kept in float32 slices and put
together in the run's format; gradients are added up in float32.

Proven with two processes over gloo, equal to one within 1e-5: LoRA, full, prefix, gradient
checkpointing, offload; bf16 and fp16 run. Not tried with NCCL, nor offload from a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import get_total_norm

from glmtrain import optimiser
from glmtrain.batches import Inputs
from glmtrain.learner import Learner
from glmtrain.settings import Config
from glmtrain.strategies.single import Single


class FSDP2(Single):
    """Slices along the first dimension of each weight.

    Where only adapters learn, gradients wait for the last part of a step. In full training they
    are exchanged part by part: waiting would keep a whole gradient on every rank.
    """

    def _wrapped(self, config: Config) -> nn.Module:
        device = self.place.device
        computed = self.precision.dtype
        pinned = device.type != "cpu"
        offload = CPUOffloadPolicy(pin_memory=pinned) if config.devices.offload else OffloadPolicy()
        how: dict[str, Any] = {
            "mesh": init_device_mesh(device.type, (self.place.ranks,)),
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=None if computed == torch.float32 else computed,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,  # autocast decides, as with every other strategy
            ),
            "offload_policy": offload,
        }
        self._waits = config.model.method != "full"
        self._layers = list(self.learner.causal.get_decoder().layers)
        for layer in self._layers:
            fully_shard(layer, **how)
        fully_shard(self.learner, **how)
        return self.learner

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """See the class."""
        _as_sliced(self.learner).set_requires_gradient_sync(last or not self._waits)
        return nullcontext()

    def _norm(self) -> float:
        norm = get_total_norm([w.grad for w in self.learning.values() if w.grad is not None])
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Strategy`."""
        _as_sliced(self.learner).reshard()  # else what is still together would be used once more
        for name, weight in self.learning.items():
            _local(weight.detach()).copy_(_local(_sliced_like(weight, weights[name])))

    def optimiser_state(self) -> dict[str, Tensor]:
        """See `Strategy`."""
        known = {n: w for n, w in self.learning.items() if w in self.optimiser.state}
        # Put together on the device, one after the other, before anything goes to the CPU.
        state = {
            f"{optimiser.PREFIX}{key}.{name}": torch.as_tensor(value)
            for name, weight in known.items()
            for key, value in self.optimiser.state[weight].items()
        }
        return self._kept({**state, optimiser.COUNT: torch.tensor(len(known))})

    def load_optimiser_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Strategy`."""
        sliced = dict(state)
        for key, value in state.items():
            weight = self.learning.get(key.removeprefix(optimiser.PREFIX).partition(".")[2])
            if weight is not None and value.shape == weight.shape:
                sliced[key] = _sliced_like(weight, value)
        super().load_optimiser_state(sliced)

    def _kept(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kept = {}
        for name, value in tensors.items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            if self.place.main:
                kept[name] = whole.detach().to("cpu", copy=True)
        return kept

    @contextmanager
    def whole(self) -> Iterator[Learner]:
        """See `Strategy`."""
        self._first_call()
        parts = [_as_sliced(part) for part in (*self._layers, self.learner)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield self.learner
        finally:
            for part in parts:
                part.set_reshard_after_forward(part is not parts[-1], recurse=False)
                part.reshard()

    def _first_call(self) -> None:
        """The first module that is called becomes the one that leads; let it be the learner."""
        nothing = torch.zeros((1, 2), dtype=torch.int64, device=self.place.device)
        inputs = Inputs(
            input_ids=nothing,
            position_ids=nothing,
            attention_mask=None,
            labels=nothing - 100,
            tokens=0,
            supervised=0,
        )
        with torch.no_grad():
            self.model(inputs)


def _as_sliced(module: nn.Module) -> FSDPModule:
    assert isinstance(module, FSDPModule)  # `fully_shard` changes a module's class
    return module


def _sliced_like(weight: Tensor, whole: Tensor) -> DTensor:
    assert isinstance(weight, DTensor)
    # Every rank has the whole, so nothing needs to be sent.
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value

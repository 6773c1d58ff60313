"""DeepSpeed's ZeRO (Rajbhandari et al. 2020), stages 2 and 3, with this trainer's own optimiser.

DeepSpeed gets a configuration without gaps: what it would assume on its own (clipping at 1.0, for
one) is told it. Under bf16 and fp16 it keeps the model in that format, float32 copies of what
learns in the optimiser, and its own loss scale.

Proven with two processes over gloo, equal to one within 1e-5, LoRA and full, stages 2 and 3; bf16
runs. Not tried with NCCL, nor offload from a GPU, and fp16 not at all: DeepSpeed has none on a CPU.
Each process loads the whole model before stage 3 slices it; where main memory has no room for
that, take fsdp2.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from glmprep.errors import SuiteError
from torch import Tensor, nn
from torch.nn.functional import pad

from glmtrain import optimiser
from glmtrain.batches import Inputs
from glmtrain.devices import Place
from glmtrain.learner import Learner, Returns
from glmtrain.precision import Precision
from glmtrain.settings import Config

_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class Zero:
    """Gradients and moments in slices; weights too in stage 3. See `Strategy` for the methods."""

    def __init__(
        self, place: Place, learner: Learner, config: Config, precision: Precision
    ) -> None:
        self.place = place
        self.learner = learner
        self.learning = learner.learning()
        self.optimiser = optimiser.make(self.learning, config.optimiser)
        self._step = self.optimiser.step
        self.optimiser.step = self._step_if_allowed  # type: ignore[assignment, method-assign]
        self._allowed: Callable[[], bool] = lambda: True
        self._stage = 3 if place.strategy == "zero3" else 2
        self._engine = _engine(learner, self.optimiser, settings(place, config, precision))
        self._zero = self._engine.optimizer

    @property
    def loss_scale(self) -> float | None:
        """See `Strategy`."""
        return float(self._zero.loss_scale) if self._engine.fp16_enabled() else None

    def model(self, inputs: Inputs, returns: Returns = "sum") -> Tensor:
        """See `Strategy`."""
        found: Tensor = self._engine(inputs, returns)
        return found

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """ZeRO exchanges the gradients of every part: no rank has room for whole ones."""
        self._engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """See `Strategy`."""
        self._engine.backward(loss * self.place.ranks, scale_wrt_gas=False)

    def clip_and_step(
        self, limit: float, *, sound: bool, accept: Callable[[float], bool] | None = None
    ) -> float:
        """See `Strategy`."""
        take = not self.place.any(not sound)
        self._allowed = _once(lambda: take and (accept is None or accept(self._norm())))
        self._zero.clip_grad = limit
        try:
            self._engine.step()
        except Exception as error:  # DeepSpeed raises no narrower kind
            if "loss scale already at minimum" not in str(error):
                raise
            raise SuiteError(
                "fp16 overflows even without a loss scale; use --dtype bf16 where the hardware "
                "has it, or fp32"
            ) from error
        return self._norm()

    def _norm(self) -> float:
        return float(self._zero._global_grad_norm)

    def _step_if_allowed(self, closure: Any = None) -> None:
        """In the optimiser's place. DeepSpeed calls it when it has the norm, slice by slice."""
        if self._allowed():
            self._step()

    def set_rate(self, rate: float) -> None:
        """See `Strategy`."""
        optimiser.set_rate(self.optimiser, rate)

    def weights(self) -> dict[str, Tensor]:
        """See `Strategy`. In float32, from the optimiser's copies."""
        from deepspeed.utils import safe_get_full_fp32_param

        return self._kept(self.learning, safe_get_full_fp32_param)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Strategy`."""
        for name, weight in self.learning.items():
            self._put(weight, weights[name])
        if self._stage == 2:
            self._zero.update_lp_params()
            return
        import deepspeed

        learning = list(self.learning.values())
        with deepspeed.zero.GatheredParameters(learning, modifier_rank=0):
            if self.place.main:
                for name, weight in self.learning.items():
                    weight.data.copy_(weights[name])

    def optimiser_state(self) -> dict[str, Tensor]:
        """See `Strategy`."""
        from deepspeed.utils import safe_get_full_optimizer_state

        known = self.optimiser.state.get(self._slices()[0], {})
        self._link()
        state: dict[str, Tensor] = {}
        for key, value in known.items():
            if torch.as_tensor(value).ndim:
                ask = partial(safe_get_full_optimizer_state, optim_state_key=key)
                found = self._kept(self.learning, ask)
            else:
                number = torch.as_tensor(value).cpu()
                found = {name: number.clone() for name in self.learning if self.place.main}
            state |= {f"{optimiser.PREFIX}{key}.{name}": part for name, part in found.items()}
        count = torch.tensor(len(self.learning) if known else 0)
        return {**state, optimiser.COUNT: count} if self.place.main else {}

    def load_optimiser_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Strategy`."""
        first = next(iter(self.learning))
        ending = f".{first}"
        named = (
            [key for key in state if key.endswith(ending)] if int(state[optimiser.COUNT]) else []
        )
        keys = [key.removeprefix(optimiser.PREFIX).removesuffix(ending) for key in named]
        for part in self._slices():
            self.optimiser.state[part] = {
                key: torch.zeros_like(part)
                if state[name].ndim
                else state[name].to(part.device, copy=True)
                for key, name in zip(keys, named, strict=True)
            }
        self._link()
        for key in (key for key, name in zip(keys, named, strict=True) if state[name].ndim):
            for name, weight in self.learning.items():
                self._put(weight, state[f"{optimiser.PREFIX}{key}.{name}"], key)

    def scaler_state(self) -> dict[str, float]:
        """See `Strategy`."""
        if not self._engine.fp16_enabled():
            return {}
        return {name: float(getattr(self._zero.loss_scaler, name)) for name in _SCALER}

    def load_scaler_state(self, state: Mapping[str, float]) -> None:
        """See `Strategy`. What another strategy wrote is left alone."""
        if self._engine.fp16_enabled() and set(_SCALER) <= set(state):
            for name in _SCALER:
                value = state[name] if name == "cur_scale" else int(state[name])
                setattr(self._zero.loss_scaler, name, value)

    @contextmanager
    def whole(self) -> Iterator[Learner]:
        """See `Strategy`."""
        if self._stage == 2:
            yield self.learner
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.learner.parameters())):
            yield self.learner

    def _kept(
        self, weights: Mapping[str, nn.Parameter], ask: Callable[[nn.Parameter], Tensor]
    ) -> dict[str, Tensor]:
        """What every rank asks for of each weight, on the CPU of rank 0."""
        kept = {}
        for name, weight in weights.items():
            whole = ask(weight)
            if self.place.main:
                kept[name] = whole.detach().to("cpu", copy=True)
        return kept

    def _link(self) -> None:
        """Have stage 2 find the state of all groups: on its own it looks when only one has some."""
        if self._stage == 2:
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _slices(self) -> list[Tensor]:
        """The float32 weights of this rank, which the optimiser knows: one a group, or several."""
        zero = self._zero
        found: list[Tensor] = (
            zero.single_partition_of_fp32_groups
            if self._stage == 2
            else zero.fp32_partitioned_groups_flat
        )
        return found

    def _put(self, weight: nn.Parameter, whole: Tensor, key: str | None = None) -> None:
        """Set this rank's slice of a weight, or of its state `key`."""
        from deepspeed import utils

        value = whole.to(self.place.device, torch.float32)
        if self._stage == 2 and key is None:
            utils.safe_set_full_fp32_param(weight, value)
        elif self._stage == 2:
            utils.safe_set_full_optimizer_state(weight, value, key)
        else:
            size = weight.ds_tensor.ds_numel  # type: ignore[attr-defined]
            flat = pad(value.flatten(), (0, size * self.place.ranks - value.numel()))
            mine = flat[size * self.place.rank :][:size]
            if key is None:
                utils.safe_set_local_fp32_param(weight, mine)
            else:
                utils.safe_set_local_optimizer_state(weight, mine, key)


def settings(place: Place, config: Config, precision: Precision) -> dict[str, Any]:
    """DeepSpeed's configuration, nothing of it left to DeepSpeed."""
    on_cpu = place.device.type == "cpu"
    stage = 3 if place.strategy == "zero3" else 2
    elements = config.devices.bucket_mb * 2**20 // 4
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": not on_cpu,
        "reduce_bucket_size": elements,
        "allgather_bucket_size": elements,
    }
    offload = {"device": "cpu", "pin_memory": not on_cpu}
    if config.devices.offload:
        zero["offload_optimizer"] = offload
        if stage == 3:
            zero["offload_param"] = offload
    return {
        # It only counts with these two: the loop says which part is the last of a step.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optimiser.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "data_types": {"grad_accum_dtype": "fp32"},
        "bf16": {"enabled": precision.dtype == torch.bfloat16},
        "fp16": {
            "enabled": precision.dtype == torch.float16,
            "loss_scale": 0,
            "initial_scale_power": int(math.log2(config.precision.initial_loss_scale)),
            "hysteresis": 1,
        },
    }


def _engine(learner: Learner, made: torch.optim.Optimizer, settings: dict[str, Any]) -> Any:
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Between processes on a CPU it would compile code of its own at the first start, and wait
    # for ever where such a compilation was once killed; gloo does as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    head = learner.causal.get_output_embeddings()
    for weight in head.parameters():  # the loss uses them outside of the module that has them
        deepspeed.zero.register_external_parameter(learner, weight)
    engine, *_ = deepspeed.initialize(
        model=learner, optimizer=made, config=settings, dist_init_required=False
    )
    return engine


def _once(ask: Callable[[], bool]) -> Callable[[], bool]:
    """The same answer however often it is asked for: one step has many slices."""
    answers: list[bool] = []

    def answer() -> bool:
        if not answers:
            answers.append(ask())
        return answers[0]

    return answer

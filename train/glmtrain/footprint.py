"""The memory of a step, before the run: measured with the fullest batch, beside arithmetic.

On CUDA the allocator counts. On a CPU it keeps no count, and the tensors themselves are followed
(see `tensormemory`), which also sees nothing of libraries and of freed memory that stays with the
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from glmprep import memory
from glmprep.memory import BF16, FP32, Footprint, Training
from glmprep.shape import Experts, Shape
from torch import Tensor

from glmtrain.batches import Batch, Inputs, collate
from glmtrain.data import TrainingData
from glmtrain.devices import SLICING, Place
from glmtrain.model import CausalModel
from glmtrain.settings import Config
from glmtrain.strategies import Strategy
from glmtrain.tensormemory import TensorMemory

By: TypeAlias = Literal["allocator", "tensors"]
GIB = 1 << 30
BORDERLESS = ("sdpa", "eager")
"""Attention that needs a mask to know where rows and segments end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """A step at its largest: so many `rows` padded to `length`, and the bytes that it took.

    `measured` is the most at once, `by` who counted, `predicted` the arithmetic, None for what it
    does not cover: experts, weights in slices, offloaded activations. `available` is all memory of
    the device, None where it is not known.
    """

    bucket: int
    rows: int
    length: int
    labelled: int
    measured: int
    by: By
    predicted: Footprint | None
    available: int | None

    @property
    def error(self) -> float | None:
        """How far the prediction is from what was measured, as a share of that."""
        return None if self.predicted is None else self.predicted.peak / self.measured - 1

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("bucket", "rows", "length", "labelled", "measured", "by", "available")
        predicted = None if self.predicted is None else self.predicted.as_json()
        return {name: getattr(self, name) for name in names} | {"predicted": predicted}

    def __str__(self) -> str:
        batch = f"{self.rows} rows of {self.length:,} tokens (bucket {self.bucket:,})"
        told = f"a step with {batch} takes {self.measured / GIB:.2f} GiB"
        if self.predicted is not None:
            predicted = self.predicted.peak / GIB
            told += f", predicted {predicted:.2f} GiB ({self.error:+.1%})"
        return told if self.available is None else f"{told}, of {self.available / GIB:.1f} GiB"


def dry_run(strategy: Strategy, data: TrainingData, config: Config, place: Place) -> DryRun:
    """Do a step with the batch that needs most memory; weights and optimiser stay as they were.

    `config` has no gaps. All ranks take part, each with the same batch. A step is done twice, as
    the optimiser's state is there only after the first, and at a learning rate of 0.
    """
    assert config.data.tokens_per_batch is not None
    batches = fullest(data, config.data.tokens_per_batch)
    predicted = [_predicted(strategy.learner.causal, data, each, config, place) for each in batches]
    needs = [_need(data, *each) for each in zip(batches, predicted, strict=True)]
    most = needs.index(max(needs))
    batch = batches[most]
    inputs = collate(data.rows, batch, data.pad_id).to(place.device)
    parts = min(2, config.data.accumulate)
    step = step_of(strategy, inputs, parts, config.optimiser.max_grad_norm)
    with _as_before(strategy):
        step()
        state = [v for s in strategy.optimiser.state.values() for v in s.values()]
        held = [*strategy.learner.parameters(), *strategy.learner.buffers(), *state]
        measured = peak_of(step, place.device, [t for t in held if isinstance(t, Tensor)])
    return DryRun(
        bucket=batch.bucket,
        rows=inputs.input_ids.shape[0],
        length=inputs.input_ids.shape[1],
        labelled=inputs.supervised,
        measured=measured,
        by="allocator" if place.device.type == "cuda" else "tensors",
        predicted=predicted[most],
        available=_available(place.device),
    )


def peak_of(run: Callable[[], object], device: torch.device, held: Iterable[Tensor]) -> int:
    """The most bytes of tensors at once while it runs; `held` are those that are there before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        most: int = torch.cuda.max_memory_allocated(device)
        return most
    with TensorMemory(held) as tensors:
        run()
    peak: int = tensors.peak
    return peak


def step_of(
    strategy: Strategy, inputs: Inputs, batches: int, max_grad_norm: float
) -> Callable[[], None]:
    """A step that does the same batch so many times."""

    def step() -> None:
        for number in range(batches):
            with strategy.accumulating(last=number == batches - 1):
                loss = strategy.model(inputs) / (batches * inputs.supervised)
                strategy.backward(loss)
                del loss
        strategy.clip_and_step(max_grad_norm, sound=True)

    return step


def fullest(data: TrainingData, tokens_per_batch: int) -> list[Batch]:
    """For each bucket the batch of its longest rows, as many as one may hold: no other is larger.

    The rows without a training target, which are left out of training, are left out here.
    """
    rows = data.trainable
    buckets, packed, lengths = data.rows.bucket, data.packed, data.rows.lengths
    batches = []
    for bucket, kind in sorted(
        set(zip(buckets[rows].tolist(), packed[rows].tolist(), strict=True))
    ):
        own = rows[(buckets[rows] == bucket) & (packed[rows] == kind)]
        longest = own[np.argsort(-lengths[own], kind="stable")]
        most = max(1, tokens_per_batch // bucket)
        batches.append(Batch(rows=longest[:most], bucket=bucket, packed=kind))
    return batches


def by_bucket(steps: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """The most bytes of a step by its longest bucket, from the lines of metrics.jsonl."""
    peaks: dict[int, int] = {}
    for step in steps:
        peaks[step["bucket"]] = max(peaks.get(step["bucket"], 0), step["peak_memory"])
    return dict(sorted(peaks.items()))


def shape_of(causal: CausalModel) -> Shape:
    """What memory depends on in a model."""
    config = causal.config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    layer = causal.get_decoder().layers[0]
    rotated = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    return Shape(
        name=type(causal).__name__,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        kv=(config.num_key_value_heads or heads) * width,
        query=heads * width,
        feed_forward=config.intermediate_size,
        vocabulary=causal.get_output_embeddings().weight.shape[0],
        norms=sum(name.endswith("layernorm") for name, _ in layer.named_children()),
        rotary=round(2 * rotated * width),
        tied=bool(config.tie_word_embeddings),
        head_norms=bool(getattr(config, "use_qk_norm", False)),
        experts=_experts(config),
    )


def _experts(config: Any) -> Experts | None:
    count = getattr(config, "n_routed_experts", 0) or 0
    if count < 2:
        return None
    return Experts(
        count=count,
        chosen=config.num_experts_per_tok,
        inner=config.moe_intermediate_size,
        shared=config.moe_intermediate_size * config.n_shared_experts,
        dense=config.first_k_dense_replace,
    )


def training_of(config: Config, device: torch.device) -> Training:
    """What memory depends on in the settings, which have no gaps, and in the device."""
    width = FP32 if config.precision.dtype == "fp32" else BF16
    learning = width if config.precision.pure else FP32
    noise = 1 if device.type == "cuda" else learning
    return Training(
        method=config.model.method,
        rank=config.lora.rank or 0,
        prefix=config.prefix.tokens or 0,
        width=width,
        learning=learning,
        optimiser=config.optimiser.name,
        checkpointing=config.model.gradient_checkpointing,
        noise=noise if config.lora.dropout else 0,
        accumulating=config.data.accumulate > 1,
    )


def _predicted(
    causal: CausalModel, data: TrainingData, batch: Batch, config: Config, place: Place
) -> Footprint | None:
    if place.strategy in SLICING or config.model.offload_activations:
        return None
    training = training_of(config, place.device)
    return memory.footprint(shape_of(causal), training, _facts(data, batch, causal))


def _facts(data: TrainingData, batch: Batch, causal: CausalModel) -> memory.Batch:
    lengths = data.rows.lengths[batch.rows]
    borders = batch.packed or bool((lengths != lengths.max()).any())
    return memory.Batch(
        rows=len(batch.rows),
        length=int(lengths.max()),
        labelled=int(data.rows.supervised[batch.rows].sum()),
        masked=borders and causal.config._attn_implementation in BORDERLESS,
    )


def _need(data: TrainingData, batch: Batch, predicted: Footprint | None) -> int:
    """What a batch needs: bytes where they can be told, tokens else."""
    if predicted is not None:
        return predicted.peak
    return len(batch.rows) * int(data.rows.lengths[batch.rows].max())


@contextmanager
def _as_before(strategy: Strategy) -> Iterator[None]:
    """Steps in here move no weight, and leave no trace in the optimiser or in random numbers."""
    groups = strategy.optimiser.param_groups
    rates, scaler = [group["lr"] for group in groups], strategy.scaler_state()
    strategy.set_rate(0.0)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        strategy.optimiser.state.clear()
        strategy.load_scaler_state(scaler)


def _available(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None

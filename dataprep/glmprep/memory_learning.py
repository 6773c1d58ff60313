"""What learns in a model, and what its gradients and the optimiser's state take. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from glmprep.shape import Block, Shape

Method: TypeAlias = Literal["lora", "qlora", "ptuning", "full"]
Optimiser: TypeAlias = Literal["adamw", "adamw8bit", "adafactor", "muon", "lion"]

BF16, FP32 = 2, 4
NF4 = 0.516
"""Bytes of a weight in four bits, with scales for each 64 that are quantised again."""
FEW = 4096
"""Numbers below which a weight's moments stay in 32 bits in bitsandbytes' 8-bit AdamW."""
SCRATCH: Mapping[Optimiser, int] = {"lion": 2, "adafactor": 1}
"""Copies of the weight that is being updated, in optimisers that do not work in place."""
MOMENTS_8BIT = 2 * (1 + 4 / 256)
"""Bytes of two moments in 8 bits, with a scale for each 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What memory depends on besides the model.

    `width` is the bytes of a number that is computed with, `learning` those of a weight that
    learns (4, or `width` where the run is pure). `noise` is the bytes that dropout remembers of
    each input of an adapter, 0 without dropout: CUDA one bit in a byte, a CPU a number.
    `accumulating` is whether a step has several batches. Of `gpus` devices each keeps a slice: of
    the optimiser's state from `stage` 1 of ZeRO on, of gradients from 2, of weights in 3 (and
    FSDP2). With `offload` these slices lie in main memory.
    """

    method: Method = "lora"
    rank: int = 8
    prefix: int = 64
    width: int = BF16
    learning: int = FP32
    optimiser: Optimiser = "adamw"
    checkpointing: bool = True
    noise: int = 0
    accumulating: bool = False
    stage: int = 0
    gpus: int = 1
    offload: bool = False

    @property
    def cast(self) -> bool:
        """Whether weights that learn are cast before they are computed with."""
        return self.learning != self.width

    def share(self, stage: int) -> float:
        """What a device has of something that is sliced from that stage on."""
        return 1 / self.gpus if self.stage >= stage else 1.0

    @property
    def stream(self) -> int:
        """Bytes of a number between the layers: full training keeps what it adds up precise."""
        return self.learning if self.method == "full" else self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What learns in the whole model: parameters, and a device's bytes of gradients and state.

    `state` is the optimiser's memory, wherever it lies, `scratch` what it works with.
    """

    parameters: int
    gradients: float
    state: float
    scratch: float


@dataclass(frozen=True, slots=True)
class Weights:
    """So many weights of one size that learn; `matrix` where Muon takes them."""

    count: int
    size: int
    matrix: bool = True


def learned(shape: Shape, training: Training) -> Learned:
    """Sums over the whole model."""
    weights = [
        Weights(block.count * each.count, each.size, each.matrix)
        for block in shape.blocks
        for each in of_block(block, training)
    ]
    if training.method == "full":
        weights.append(Weights(1 if shape.tied else 2, shape.head_parameters, matrix=False))
    parameters = sum(each.count * each.size for each in weights)
    largest = max(each.size for each in weights)
    return Learned(
        parameters=parameters,
        gradients=training.learning * parameters * training.share(2),
        state=training.share(1)
        * sum(each.count * each.size * _state(each, training) for each in weights),
        scratch=float(SCRATCH.get(training.optimiser, 0) * largest * training.learning),
    )


def of_block(block: Block, training: Training) -> Iterator[Weights]:
    """The weights of one layer that learn, without norms and biases."""
    linears = (*block.attention, *block.dense)
    if training.method == "ptuning":
        yield Weights(1, 2 * training.prefix * block.kv, matrix=False)
    elif training.method == "full":
        yield from (Weights(1, i * o) for i, o in linears)
        if block.experts is not None:
            count = block.experts.count
            yield from (Weights(1, count * i * o, matrix=False) for i, o in block.mixed)
            yield Weights(1, block.router_parameters)
    else:
        yield from (Weights(1, training.rank * size) for pair in linears for size in pair)
        if block.experts is not None and training.method == "lora":
            rank = training.rank * block.experts.count
            yield from (Weights(1, rank * size) for pair in block.mixed for size in pair)


def _state(weights: Weights, training: Training) -> float:
    """Bytes that the optimiser remembers of each number."""
    two = 2.0 * training.learning
    if training.optimiser == "adamw8bit":
        return 2.0 * FP32 if weights.size < FEW else MOMENTS_8BIT
    if training.optimiser == "muon":
        return training.learning if weights.matrix else two
    return {"adamw": two, "adafactor": 0.0, "lion": float(training.learning)}[training.optimiser]

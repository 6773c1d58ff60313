"""The memory of a training step, by arithmetic on a model's shape. No torch.

Counted are the tensors of a step: weights, gradients, the optimiser's state, what each operation of
a layer keeps for its backward pass, one layer's working memory, and the loss: in chunks at labelled
positions, as `glmtrain` computes it, or of all logits at once, as models of transformers do. Where
several devices keep slices (Rajbhandari et al. 2020), the sums are those of one. Not counted are
the CUDA context, fragmentation and buffers of collectives. What else a model does is in
`memory_inference`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from glmprep.memory_layer import LayerMemory, of_layer
from glmprep.memory_learning import BF16, FP32, NF4, Method, Training, learned
from glmprep.shape import Block, Shape

Loss: TypeAlias = Literal["chunked", "naive"]
Moment: TypeAlias = Literal["forward", "backward", "update"]
ADAPTER = 16
"""Bytes of an adapter's parameter in fp32: weight, gradient, and the two moments of AdamW."""
CHUNK = 512
"""Labelled positions whose logits exist at once, in fp32; their gradient takes their place."""
NAIVE = 3
"""Copies of all logits in fp32 in the naive loss's backward pass: log-softmax and two gradients."""

__all__ = ["BF16", "FP32", "NF4", "Batch", "Footprint", "Loss", "Method", "Training", "footprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """So many rows, padded to one length.

    `labelled` of the tokens have a label. `masked` is whether attention gets a mask of length x
    length, which padding and packed segments need where its kernel knows no borders.
    """

    rows: int
    length: int
    labelled: int
    masked: bool = False

    @property
    def tokens(self) -> int:
        """Tokens computed."""
        return self.rows * self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes of a step by what they are for, and of its three moments that can need most.

    `loss` is its logits and gradients, `gradients` those of weights, `working` what a layer works
    with in its backward pass, with checkpointing its activations too. `host` lies in main memory.
    In `forward` all activations are there and the loss is computed; in `backward` a layer is worked
    on; `update` is the optimiser's.
    """

    weights: float
    state: float
    gradients: float
    activations: float
    working: float
    loss: float
    forward: float
    backward: float
    update: float
    host: float = 0.0

    @property
    def moment(self) -> Moment:
        """When the most is there."""
        moments: tuple[Moment, ...] = ("forward", "backward", "update")
        return max(moments, key=lambda name: float(getattr(self, name)))

    @property
    def peak(self) -> int:
        """The most bytes at once."""
        return round(max(self.forward, self.backward, self.update))

    def as_json(self) -> dict[str, int]:
        """All of it in whole bytes."""
        return {name: round(value) for name, value in asdict(self).items()} | {"peak": self.peak}


def footprint(shape: Shape, training: Training, batch: Batch, loss: Loss = "chunked") -> Footprint:
    """The memory of a step.

    With checkpointing a layer keeps its input alone and makes the rest again when its turn comes.
    Going backward frees activations and makes gradients of weights, layer by layer.
    """
    layers = [
        of_layer(shape, block, training, batch.rows, batch.length, masked=batch.masked)
        for block in shape.blocks
        for _ in range(block.count)
    ]
    learns = learned(shape, training)
    weights, ends = weight_bytes(shape, training), _ends(shape, training, batch)
    kept = sum(layer.kept for layer in layers)
    copies = sum(layer.copies for layer in layers)
    there = learns.gradients if training.accumulating else 0.0
    of_loss, left = (_chunked if loss == "chunked" else _naive)(shape, training, batch)
    state = 0.0 if training.offload else learns.state
    steady = weights + state
    backward = _backward(layers, training, ends, there)
    return Footprint(
        weights=weights,
        state=state,
        gradients=learns.gradients,
        activations=kept + ends,
        working=max(layer.again + layer.working for layer in layers),
        loss=of_loss,
        forward=steady + kept + ends + of_loss + copies + there,
        backward=steady + left + backward,
        update=steady + learns.gradients + learns.scratch,
        host=_host(shape, training, learns.state),
    )


def lora_bytes(shape: Shape, tokens: int, rank: int = 8, width: int = BF16) -> int:
    """Bytes of one step of LoRA on one row of so many tokens, all labelled, with checkpointing.

    `width` is the bytes of a number in the model: 2 for bf16 and fp16, 4 for fp32.
    """
    training = Training(rank=rank, width=width)
    return footprint(shape, training, Batch(rows=1, length=tokens, labelled=tokens)).peak


def weight_bytes(shape: Shape, training: Training) -> float:
    """Bytes of a device's weights, those that were added to learn included.

    Below stage 3 a weight that is cast is kept whole as it is computed with, and as a slice of what
    it learns in. In stage 3 two layers, embeddings and output layer are put together for a moment.
    """
    learning = float(training.learning * learned(shape, training).parameters)
    frozen = 0.0 if training.method == "full" else _frozen(shape, training)
    if training.stage < 1 or training.gpus == 1:
        return frozen + learning
    if training.stage < 3:
        if not training.cast:
            return frozen + learning
        whole = learning / training.learning * training.width
        return frozen + whole + (0.0 if training.offload else learning * training.share(1))
    layer = 2 * max(block.parameters for block in shape.blocks)
    ends = (1 if shape.tied else 2) * shape.head_parameters
    together = training.width * (layer + ends)
    return float(together + (0.0 if training.offload else (frozen + learning) * training.share(3)))


def _frozen(shape: Shape, training: Training) -> float:
    """Bytes of a base that does not learn, whole."""
    if training.method != "qlora":
        return float(training.width * shape.parameters)
    quantised = sum(block.count * quantised_parameters(block) for block in shape.blocks)
    return NF4 * quantised + training.width * (shape.parameters - quantised)


def _host(shape: Shape, training: Training, state: float) -> float:
    """Bytes of a process's slices in main memory."""
    if not training.offload:
        return 0.0
    learning = training.learning * learned(shape, training).parameters * training.share(1)
    frozen = 0.0
    if training.stage >= 3 and training.method != "full":
        frozen = _frozen(shape, training) * training.share(3)
    return state + learning + frozen


def quantised_parameters(block: Block) -> int:
    """Weights of a layer that QLoRA holds in four bits.

    In a mixture that is all but its router and the layers beside the experts, whose adapters change
    the weight itself.
    """
    kept = 0 if block.fused else block.dense_parameters
    return block.parameters - block.router_parameters - kept


def _backward(layers: list[LayerMemory], training: Training, ends: float, there: float) -> float:
    """The most bytes of activations, work and gradients while a layer's turn has come."""
    below = list(accumulate(layer.kept for layer in layers))
    copies = list(accumulate(layer.copies for layer in layers))
    total = sum(layer.gradients for layer in layers)
    above = [total - upto for upto in accumulate(layer.gradients for layer in layers)]
    most = 0.0
    for place, layer in enumerate(layers):
        now = below[place] + layer.again + layer.working + max(there, above[place])
        now += layer.copies if training.checkpointing else copies[place]
        most = max(most, now + (ends if place == len(layers) - 1 else 0.0))
    return most


def _ends(shape: Shape, training: Training, batch: Batch) -> float:
    """Bytes of what the last norm keeps, and of what it gives to the loss."""
    norm = FP32 * shape.hidden * (2 if training.method == "full" else 1)
    return float(batch.tokens * (norm + training.stream * shape.hidden))


def _chunked(shape: Shape, training: Training, batch: Batch) -> tuple[float, float]:
    """Bytes while the loss is computed, and of its gradients, which are left of it."""
    chunk, narrow = min(CHUNK, batch.labelled), training.width != FP32
    logits = chunk * shape.vocabulary * (FP32 + (training.width if narrow else 0))
    of_rows = batch.labelled * shape.hidden * FP32
    rows = batch.labelled * shape.hidden * (training.stream + (training.width if narrow else 0))
    piece = chunk * shape.hidden * training.width
    head = shape.head_parameters if training.method == "full" else 0
    of_head, cast = head * FP32, head * training.width if training.cast else 0
    kept = head * training.learning * training.share(2)
    return float(logits + of_rows + rows + piece + of_head + cast), float(of_rows + kept)


def _naive(shape: Shape, training: Training, batch: Batch) -> tuple[float, float]:
    """The same, of all logits at once: the softmax's backward pass, or the output layer's."""
    narrow = training.width != FP32
    logits = batch.tokens * shape.vocabulary
    head = shape.head_parameters if training.method == "full" else 0
    cast = head * training.width if training.cast else 0
    softmax = NAIVE * FP32 * logits
    output = logits * (FP32 + (training.width if narrow else 0)) + head * training.width
    rows = batch.tokens * shape.hidden * training.stream
    return float(max(softmax, output) + cast), float(
        rows + head * training.learning * training.share(2)
    )

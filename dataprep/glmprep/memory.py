"""The memory of a training step, by arithmetic on a model's shape. No torch.

Counted are the tensors of a step as `glmtrain` does it: weights, gradients, the optimiser's state,
what each operation of a layer keeps for its backward pass, one layer's working memory, and the loss
in chunks. Not counted: the CUDA context, fragmentation, and buffers of collectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from glmprep.shape import Shape

Method: TypeAlias = Literal["lora", "qlora", "ptuning", "full"]

BF16, FP32 = 2, 4
NF4 = 0.516
"""Bytes of a weight in four bits, with scales for each 64 that are quantised again."""
STATE: Mapping[str, float] = {"adamw": 8, "adamw8bit": 2, "adafactor": 0, "muon": 4, "lion": 4}
"""What an optimiser remembers of each weight that learns, in bytes."""
ADAPTER = 16
"""Bytes of an adapter's parameter in fp32: weight, gradient, and the two moments of AdamW."""
CHUNK = 512
"""Labelled positions whose logits exist at once, in fp32; their gradient takes their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What memory depends on besides the model.

    `width` is the bytes of a number that is computed with, `learning` those of a weight that
    learns (4, or `width` where the run is pure), `state` those that the optimiser keeps of it.
    `noise` is the bytes that dropout remembers of each input of an adapter, 0 without dropout: CUDA
    one bit in a byte, a CPU a number. `accumulating` is whether a step has several batches.
    """

    method: Method = "lora"
    rank: int = 8
    prefix: int = 64
    width: int = BF16
    learning: int = FP32
    state: float = STATE["adamw"]
    checkpointing: bool = True
    noise: int = 0
    accumulating: bool = False

    @property
    def cast(self) -> bool:
        """Whether weights that learn are cast before they are computed with."""
        return self.learning != self.width

    @property
    def stream(self) -> int:
        """Bytes of a number between the layers: full training keeps what it adds up precise."""
        return self.learning if self.method == "full" else self.width


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

    `loss` is its logits and gradients, `gradients` those of weights. In `forward` all activations
    are there and the loss is computed; in `backward` a layer is worked on; `update` is the
    optimiser's.
    """

    weights: float
    state: float
    gradients: float
    activations: float
    loss: float
    forward: float
    backward: float
    update: float

    @property
    def peak(self) -> int:
        """The most bytes at once."""
        return round(max(self.forward, self.backward, self.update))

    def as_json(self) -> dict[str, int]:
        """All of it in whole bytes."""
        return {name: round(value) for name, value in asdict(self).items()} | {"peak": self.peak}


def footprint(shape: Shape, training: Training, batch: Batch) -> Footprint:
    """The memory of a step.

    With checkpointing a layer keeps its input alone and makes the rest again when its turn comes.
    Going backward frees activations and makes gradients of weights, layer by layer alike, so it
    needs most at one of its ends.
    """
    layer = learning_of_layer(shape, training) * training.learning
    head = _learning_of_head(shape, training)
    gradients = layer * shape.layers + head * training.learning * (1 if shape.tied else 2)
    state = gradients / training.learning * training.state
    weights, ends = _weights(shape, training), _ends(shape, training, batch)
    copies = _copies(shape, training)
    full = saved_by_layer(shape, training, batch)
    own_input = training.stream * shape.hidden * batch.tokens
    kept = own_input if training.checkpointing else full
    again = full - own_input if training.checkpointing else 0.0
    loss, left = _loss(shape, training, batch)
    working = again + _working(shape, training, batch) + left
    working += copies / shape.layers if training.checkpointing else copies
    there = gradients if training.accumulating else 0.0
    begins = shape.layers * kept + ends + working + there
    closes = kept + working + max(there, (shape.layers - 1) * layer)
    steady = weights + state
    return Footprint(
        weights=weights,
        state=state,
        gradients=gradients,
        activations=shape.layers * kept + ends,
        loss=loss,
        forward=steady + shape.layers * kept + ends + loss + copies + there,
        backward=steady + max(begins, closes),
        update=steady + gradients,
    )


def lora_bytes(shape: Shape, tokens: int, rank: int = 8, width: int = BF16) -> int:
    """Bytes of one step of LoRA on one row of so many tokens, all labelled, with checkpointing.

    `width` is the bytes of a number in the model: 2 for bf16 and fp16, 4 for fp32.
    """
    training = Training(rank=rank, width=width)
    return footprint(shape, training, Batch(rows=1, length=tokens, labelled=tokens)).peak


def learning_of_layer(shape: Shape, training: Training) -> int:
    """Weights of one layer that learn."""
    if training.method == "full":
        return shape.block_parameters // shape.layers
    if training.method == "ptuning":
        return 2 * training.prefix * shape.kv
    return shape.adapter_parameters(training.rank) // shape.layers


def saved_by_layer(shape: Shape, training: Training, batch: Batch) -> float:
    """Bytes that the operations of one layer keep for the backward pass.

    Norms compute in fp32 and keep their input, and what they made of it where their weight learns.
    Attention keeps queries, keys, values and its output; keys and values are repeated for each
    query, and the mask is made one of numbers, where there is a mask. A linear layer keeps its
    input if it, or an adapter on it, learns: queries, keys and values the same one, but each its
    own where it is cast or dropout changes it.
    """
    hidden, query, kv, inner = shape.hidden, shape.queries, shape.kv, shape.feed_forward
    full, prefixed = training.method == "full", training.method == "ptuning"
    masked = batch.masked or prefixed
    norms = shape.norms * hidden * FP32 * (2 if full else 1)
    attention = 2 * query + 2 * (query if masked else kv) + shape.rotary
    if masked:
        attention += batch.length + (training.prefix if prefixed else 0)
    linear, noise = 3 * inner, 0
    if not prefixed:
        copies = 4 if training.cast or training.noise else 2
        linear += copies * hidden + query + inner
    if training.method in ("lora", "qlora"):
        linear += 6 * training.rank
        noise = training.noise * (4 * hidden + query + inner)
    return batch.tokens * (norms + training.width * (attention + linear) + noise)


def _weights(shape: Shape, training: Training) -> float:
    """Bytes of all weights as they are kept."""
    if training.method == "full":
        return float(training.learning * shape.parameters)
    embeddings = shape.parameters - shape.block_parameters
    added = training.learning * shape.layers * learning_of_layer(shape, training)
    each = NF4 if training.method == "qlora" else training.width
    return each * shape.block_parameters + training.width * embeddings + added


def _copies(shape: Shape, training: Training) -> float:
    """Bytes of the copies that autocast makes of the layers' weights that learn.

    They are there until the forward pass ends, and longer where operations kept them.
    """
    cast = training.cast and training.method != "ptuning"
    return float(cast * training.width * shape.layers * learning_of_layer(shape, training))


def _learning_of_head(shape: Shape, training: Training) -> int:
    return shape.head_parameters if training.method == "full" else 0


def _ends(shape: Shape, training: Training, batch: Batch) -> float:
    """Bytes of what the last norm keeps, and of what it gives to the loss."""
    norm = FP32 * shape.hidden * (2 if training.method == "full" else 1)
    return float(batch.tokens * (norm + training.stream * shape.hidden))


def _working(shape: Shape, training: Training, batch: Batch) -> float:
    """Bytes of the gradients within a layer: of the stream, and of what is being multiplied."""
    inner = (2 if training.method == "ptuning" else 1) * shape.feed_forward
    unpacked = shape.largest * training.width if training.method == "qlora" else 0
    gradients = training.stream * 2 * shape.hidden + training.width * inner
    return float(batch.tokens * gradients + unpacked)


def _loss(shape: Shape, training: Training, batch: Batch) -> tuple[float, float]:
    """Bytes while the loss is computed, and of its gradients, which are left of it."""
    chunk, narrow = min(CHUNK, batch.labelled), training.width != FP32
    logits = chunk * shape.vocabulary * (FP32 + (training.width if narrow else 0))
    of_rows = batch.labelled * shape.hidden * FP32
    rows = batch.labelled * shape.hidden * (training.stream + (training.width if narrow else 0))
    piece = chunk * shape.hidden * training.width
    of_head = _learning_of_head(shape, training) * FP32
    cast = _learning_of_head(shape, training) * training.width if training.cast else 0
    return float(logits + of_rows + rows + piece + of_head + cast), float(of_rows + of_head)

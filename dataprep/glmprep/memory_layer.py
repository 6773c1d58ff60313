"""The memory of one decoder layer in a training step. No torch.

Norms compute in fp32 and keep their input, and what they made of it where their weight learns.
Attention keeps queries, keys, values and its output; keys and values are repeated for each query,
and the mask is made one of numbers, where there is a mask. A linear layer keeps its input if it, or
an adapter on it, learns: queries, keys and values the same one, but each its own where it is cast
or dropout changes it.

Experts work on a copy of each token for each that it goes through. peft adds an adapter of a fused
weight to the weight itself, so a layer keeps all its experts once more; and where the base is in
four bits, it keeps them unpacked.
"""

from __future__ import annotations

from dataclasses import dataclass

from glmprep.memory_learning import FP32, Training, of_block
from glmprep.shape import Block, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMemory:
    """Bytes of one layer.

    `kept` is there from its forward to its backward pass, `again` is made again in the backward
    pass, `working` are the gradients within it, `gradients` those of its weights, `copies` casts of
    these weights.
    """

    kept: float
    again: float
    working: float
    gradients: float
    copies: float


def of_layer(
    shape: Shape, block: Block, training: Training, rows: int, length: int, *, masked: bool
) -> LayerMemory:
    """What one layer of this kind needs for so many rows of one length."""
    tokens = rows * length
    full = _saved(shape, block, training, tokens, length, masked=masked)
    own_input = float(training.stream * shape.hidden * tokens)
    learns = sum(each.count * each.size for each in of_block(block, training))
    cast = training.cast and training.method != "ptuning"
    return LayerMemory(
        kept=own_input if training.checkpointing else full,
        again=full - own_input if training.checkpointing else 0.0,
        working=_working(block, training, tokens) + _unsliced(learns, training),
        gradients=learns * training.learning * training.share(2),
        copies=float(cast * training.width * (learns - _expert_weights(block, training))),
    )


def _saved(
    shape: Shape, block: Block, training: Training, tokens: int, length: int, *, masked: bool
) -> float:
    """Bytes that the operations of one layer keep for the backward pass."""
    hidden, query, kv, inner = block.hidden, block.queries, block.kv, block.feed_forward
    full, prefixed = training.method == "full", training.method == "ptuning"
    adapted = training.method in ("lora", "qlora")
    masked = masked or prefixed
    of_heads = query + kv if shape.head_norms else 0
    norms = (shape.norms * hidden + of_heads) * FP32 * (2 if full else 1)
    attention = 2 * query + 2 * (query if masked else kv) + shape.rotary
    if masked:
        attention += length + (training.prefix if prefixed else 0)
    linear, noise = 3 * inner, 0
    if not prefixed:
        copies = 4 if training.cast or training.noise else 2
        linear += copies * hidden + query + inner
    if adapted:
        linear += 6 * training.rank
        noise = training.noise * (4 * hidden + query + inner)
    each = norms + training.width * (attention + linear) + noise
    return tokens * each + _experts(block, training, tokens) + _merged(block, training)


def _experts(block: Block, training: Training, tokens: int) -> float:
    """Bytes that the experts of a layer keep of the tokens."""
    if block.experts is None:
        return 0.0
    inner, copies = block.experts.inner, tokens * block.experts.chosen
    numbers = 3 * inner + block.hidden
    if training.method in ("lora", "full"):
        numbers += inner + block.hidden
    return float(_width(training) * copies * numbers + FP32 * tokens * block.experts.count)


def _merged(block: Block, training: Training) -> float:
    """Bytes of weights that exist once more, with their adapter in them or unpacked."""
    if block.experts is None and block.fused:
        return 0.0
    if training.method not in ("lora", "qlora"):
        return 0.0
    return float(training.width * (block.dense_parameters + block.expert_parameters))


def _working(block: Block, training: Training, tokens: int) -> float:
    """Bytes of the gradients within a layer: of the stream, and of what is being multiplied."""
    inner = (2 if training.method == "ptuning" else 1) * training.width
    if training.cast and training.method in ("lora", "qlora"):
        inner += training.learning  # peft gives an adapter its input in the adapter's own format
    stream = tokens * training.stream * block.hidden
    moments = [2.0 * stream + tokens * inner * block.feed_forward]
    if training.method == "qlora":
        moments.append(float(stream + training.width * block.largest))
    if block.experts is not None:
        copies = tokens * block.experts.chosen * _width(training)
        moments.append(2.0 * stream + 3 * copies * block.hidden)
        if training.method == "lora":
            back = block.expert_parameters / 3 * training.width
            moments.append(2.0 * stream + copies * (block.hidden + block.experts.inner) + back)
    return max(moments)


def _unsliced(learns: int, training: Training) -> float:
    """Bytes of a layer's gradients before each device has taken its slice."""
    return float(learns * training.learning) if training.share(2) < 1 else 0.0


def _width(training: Training) -> int:
    """Bytes of a number in the experts, which compute in the format of their weights."""
    return training.learning if training.method == "full" else training.width


def _expert_weights(block: Block, training: Training) -> int:
    """Weights of the experts that learn themselves: these are not cast."""
    if training.method != "full" or block.experts is None:
        return 0
    return block.expert_parameters

"""The memory of a model that is not training just now: a loss on held-out rows, answers, a resume.

By arithmetic on a model's shape, as in `memory`; no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from glmprep.memory import CHUNK, Batch, Loss, weight_bytes
from glmprep.memory_learning import FP32, Training, learned
from glmprep.shape import Block, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Bytes by what they are for, the most at once, and what main memory holds besides.

    `held` are weights, and what else of training is there meanwhile; `cache` are keys and values.
    """

    held: float
    cache: float = 0.0
    working: float = 0.0
    host: float = 0.0

    @property
    def peak(self) -> int:
        """The most bytes at once on the device."""
        return round(self.held + self.cache + self.working)

    def as_json(self) -> dict[str, int]:
        """All of it in whole bytes."""
        return {name: round(value) for name, value in asdict(self).items()} | {"peak": self.peak}


def evaluation(
    shape: Shape, training: Training, batch: Batch, loss: Loss = "chunked", *, state: bool = True
) -> Use:
    """The loss of rows without gradients; the optimiser's `state` is there if a run evaluates."""
    learns = learned(shape, training)
    cast = training.cast and training.method != "ptuning"
    ends = (1 if shape.tied else 2) * shape.head_parameters if training.method == "full" else 0
    copies = float(cast * training.width * (learns.parameters - ends))
    layers = copies + _forward(shape, training, batch)
    head = shape.head_parameters if training.method == "full" and cast else 0
    hidden = batch.tokens * shape.hidden * training.stream
    if loss == "chunked":
        chunk = min(CHUNK, batch.labelled)
        rows = batch.labelled * shape.hidden * training.width
        logits = 2 * FP32 * chunk * shape.vocabulary + rows + head * training.width
    else:
        narrow = training.width != FP32
        numbers = (2 * FP32 + (training.width if narrow else 0)) * shape.vocabulary
        logits = batch.tokens * numbers
    return Use(
        held=weight_bytes(shape, training) + (learns.state if state else 0.0),
        working=max(layers, copies + hidden + logits),
    )


def generation(shape: Shape, training: Training, rows: int, prompt: int, new: int) -> Use:
    """Answers of `new` tokens to `rows` prompts padded to one length, with a cache that grows.

    It needs most either when the prompt is read, or at the last token, where one layer's keys or
    values exist twice for a moment (and are repeated for each query where rows are padded).
    """
    width = training.width
    batch = Batch(rows=rows, length=prompt, labelled=0, masked=rows > 1)
    per_token = 2 * shape.kv * shape.layers * width
    reading = rows * prompt * per_token, _forward(shape, training, batch)
    length = prompt + new
    again = rows * length * width * (2 * shape.queries if rows > 1 else shape.kv)
    logits = rows * shape.vocabulary * (width + FP32)
    answering = rows * length * per_token, float(max(again, logits))
    cache, working = max(reading, answering, key=sum)
    return Use(held=weight_bytes(shape, training), cache=float(cache), working=working)


def resuming(shape: Shape, training: Training) -> Use:
    """Going on from a checkpoint: the optimiser's state is laid out by a step of zeros.

    Meanwhile the checkpoint's own copy lies in main memory.
    """
    learns = learned(shape, training)
    whole = training.learning * learns.parameters
    return Use(
        held=weight_bytes(shape, training) + learns.state,
        working=learns.gradients + learns.scratch,
        host=max(float(whole), learns.state),
    )


def _forward(shape: Shape, training: Training, batch: Batch) -> float:
    """Bytes that the largest layer works with while nothing is kept for a backward pass."""
    mask = batch.tokens * batch.length if batch.masked else 0
    rotations = batch.tokens * shape.rotary * training.width
    return mask + rotations + max(_layer(block, training, batch.tokens) for block in shape.blocks)


def _layer(block: Block, training: Training, tokens: int) -> float:
    """The stream, what stands beside it, and what is being multiplied; adapters add their part."""
    width, adapted = training.width, training.method in ("lora", "qlora")
    stream = tokens * block.hidden * (2 * training.stream + 2 * width)
    if training.cast:
        stream += tokens * block.hidden * FP32
    merged = 0 if block.fused else width * block.dense_parameters / 3
    inner = tokens * width * block.feed_forward
    most = (6 if adapted and block.fused else 4) * inner + (merged if adapted else 0)
    if block.experts is not None:
        most = max(most, _experts(block, training, tokens))
    return float(stream + most)


def _experts(block: Block, training: Training, tokens: int) -> float:
    """Copies of the tokens for each expert, and the weights with adapters in them, or unpacked."""
    assert block.experts is not None
    width = training.learning if training.method == "full" else training.width
    copies = width * tokens * block.experts.chosen
    again = training.width * block.expert_parameters if training.method in ("lora", "qlora") else 0
    first = copies * (block.hidden + 3 * block.experts.inner)
    return float(max(first, 4 * copies * block.hidden) + again)

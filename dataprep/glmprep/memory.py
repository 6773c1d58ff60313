"""What training needs, by arithmetic on a model's shape: parameters, FLOPs, bytes. No torch.

Estimates, to compare limits with each other and to see whether a card is large enough at all.
Counted: weights, the adapter with gradients and AdamW moments, one checkpointed input a layer, one
layer's activations while it is computed again, and the loss in chunks as `glmtrain` computes it.
Not counted: the CUDA context, fragmentation, and buffers of collectives.
"""

from __future__ import annotations

from dataclasses import dataclass

BF16 = 2
ADAPTER = 16
"""Bytes of an adapter's parameter in fp32: weight, gradient, and the two moments of AdamW."""
CHUNK = 512
"""Labelled positions whose logits exist at once, in fp32, with their gradient."""
TRAINING = 4
"""Forward passes that a step costs: one forward, one again for checkpointing, backward as two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder with grouped-query attention and a gated feed-forward layer."""

    name: str
    hidden: int
    layers: int
    kv: int
    feed_forward: int
    vocabulary: int

    @property
    def _linears(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the linear layers of one block."""
        return (
            (self.hidden, self.hidden + 2 * self.kv),
            (self.hidden, self.hidden),
            (self.hidden, 2 * self.feed_forward),
            (self.feed_forward, self.hidden),
        )

    @property
    def block_parameters(self) -> int:
        """Parameters of all blocks, without embeddings."""
        return self.layers * sum(i * o for i, o in self._linears)

    @property
    def parameters(self) -> int:
        """Parameters, input and output embeddings apart from each other."""
        return self.block_parameters + 2 * self.vocabulary * self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of LoRA on every linear layer."""
        return self.layers * rank * sum(i + o for i, o in self._linears)


GLM4_9B = Shape(
    name="GLM-4-9B", hidden=4096, layers=40, kv=256, feed_forward=13_696, vocabulary=151_552
)


def attention_flops(shape: Shape, length: float) -> float:
    """FLOPs of the attention matrices of one row in one step of training; causal, so half."""
    return TRAINING * 2 * shape.layers * shape.hidden * length**2


def linear_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of everything that is linear in the tokens, in one step of training."""
    return TRAINING * 2 * shape.block_parameters * tokens


def lora_bytes(shape: Shape, tokens: int, rank: int = 8, width: int = BF16) -> int:
    """Bytes of one step of LoRA on a batch of so many tokens, with checkpointing.

    `width` is the bytes of a number in the model: 2 for bf16 and fp16, 4 for fp32.
    """
    block = 8 * shape.hidden + 2 * shape.kv + 3 * shape.feed_forward
    activations = width * tokens * (shape.layers * shape.hidden + block)
    logits = 2 * 4 * min(tokens, CHUNK) * shape.vocabulary
    weights = width * shape.parameters + ADAPTER * shape.adapter_parameters(rank)
    return weights + activations + logits

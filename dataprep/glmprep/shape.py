"""A model's shape, and what follows from it: parameters and FLOPs. No torch."""

from __future__ import annotations

from dataclasses import dataclass

TRAINING = 4
"""Forward passes that a step costs: one forward, one again for checkpointing, backward as two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder with grouped-query attention and a gated feed-forward layer.

    `kv` is the width of all keys, `query` that of all queries (`hidden` where it is None), `norms`
    the norms of a block (4 in Glm4), `rotary` the numbers of a token's rotations, cosines and
    sines. `tied` is whether one matrix is both embedding and output layer.
    """

    name: str
    hidden: int
    layers: int
    kv: int
    feed_forward: int
    vocabulary: int
    query: int | None = None
    norms: int = 2
    rotary: int = 128
    tied: bool = False

    @property
    def queries(self) -> int:
        """The width of all queries."""
        return self.hidden if self.query is None else self.query

    @property
    def _linears(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the linear layers of one block; queries, keys, values as one."""
        return (
            (self.hidden, self.queries + 2 * self.kv),
            (self.queries, self.hidden),
            (self.hidden, 2 * self.feed_forward),
            (self.feed_forward, self.hidden),
        )

    @property
    def largest(self) -> int:
        """Parameters of the largest linear layer of a block."""
        return max(i * o for i, o in self._linears)

    @property
    def block_parameters(self) -> int:
        """Parameters of all blocks, without embeddings."""
        return self.layers * sum(i * o for i, o in self._linears)

    @property
    def parameters(self) -> int:
        """Parameters, without those of norms and biases."""
        return self.block_parameters + (1 if self.tied else 2) * self.head_parameters

    @property
    def head_parameters(self) -> int:
        """Parameters of the output layer."""
        return self.vocabulary * self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of LoRA on every linear layer, of queries, keys and values one each."""
        apart = 2 * self.hidden  # keys and values have an input of their own
        return self.layers * rank * (apart + sum(i + o for i, o in self._linears))


GLM4_9B = Shape(
    name="GLM-4-9B", hidden=4096, layers=40, kv=256, feed_forward=13_696, vocabulary=151_552
)


def attention_flops(shape: Shape, length: float) -> float:
    """FLOPs of the attention matrices of one row in one step of training; causal, so half."""
    return TRAINING * 2 * shape.layers * shape.hidden * length**2


def linear_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of everything that is linear in the tokens, in one step of training."""
    return TRAINING * 2 * shape.block_parameters * tokens

"""A model's shape, and what follows from it: parameters and FLOPs. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRAINING = 4
"""Forward passes that a step costs: one forward, one again for checkpointing, backward as two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture: `count` experts of width `inner` in a layer; a token goes through `chosen`.

    `shared` is the width of the feed-forward layer beside them that all tokens go through. The
    first `dense` layers have none.
    """

    count: int
    chosen: int
    inner: int
    shared: int
    dense: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Decoder layers of one kind: `count` of them. Widths as in `Shape`.

    `feed_forward` is what all tokens go through. `fused` is whether its gate is one matrix with
    what it gates.
    """

    count: int
    hidden: int
    queries: int
    kv: int
    feed_forward: int
    fused: bool
    experts: Experts | None

    @property
    def attention(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the projections to queries, keys, values, and back."""
        hidden, queries, kv = self.hidden, self.queries, self.kv
        return ((hidden, queries), (hidden, kv), (hidden, kv), (queries, hidden))

    @property
    def dense(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the linear layers that feed forward all tokens."""
        hidden, inner = self.hidden, self.feed_forward
        up = ((hidden, 2 * inner),) if self.fused else ((hidden, inner), (hidden, inner))
        return (*up, (inner, hidden))

    @property
    def mixed(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of one expert; empty where there are none."""
        if self.experts is None:
            return ()
        return ((self.hidden, 2 * self.experts.inner), (self.experts.inner, self.hidden))

    @property
    def dense_parameters(self) -> int:
        """Parameters of what feeds forward all tokens, in one layer."""
        return sum(i * o for i, o in self.dense)

    @property
    def expert_parameters(self) -> int:
        """Parameters of all experts of one layer, its router not counted."""
        count = 0 if self.experts is None else self.experts.count
        return count * sum(i * o for i, o in self.mixed)

    @property
    def router_parameters(self) -> int:
        """Parameters of what chooses the experts of one layer."""
        return 0 if self.experts is None else self.experts.count * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of one layer, without those of norms and biases."""
        linear = sum(i * o for i, o in (*self.attention, *self.dense))
        return linear + self.expert_parameters + self.router_parameters

    @property
    def largest(self) -> int:
        """Parameters of the largest matrix of one layer; those of its experts are one."""
        count = 0 if self.experts is None else self.experts.count
        matrices = [i * o for i, o in (*self.attention, *self.dense)]
        return max(*matrices, *(count * i * o for i, o in self.mixed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder with grouped-query attention and a gated feed-forward layer, or experts.

    `kv` is the width of all keys, `query` that of all queries (`hidden` where it is None), `norms`
    the norms of a block (4 in Glm4), `rotary` the numbers of a token's rotations, cosines and
    sines. `tied` is whether one matrix is both embedding and output layer, `head_norms` whether
    queries and keys have norms of their own.
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
    head_norms: bool = False
    experts: Experts | None = None

    @property
    def queries(self) -> int:
        """The width of all queries."""
        return self.hidden if self.query is None else self.query

    @property
    def blocks(self) -> Sequence[Block]:
        """The kinds of layers, in their order: of a mixture the dense ones first."""
        if self.experts is None:
            return (self._block(self.layers, self.feed_forward, None),)
        dense = min(self.experts.dense, self.layers)
        first = self._block(dense, self.feed_forward, None)
        rest = self._block(self.layers - dense, self.experts.shared, self.experts)
        return tuple(block for block in (first, rest) if block.count)

    @property
    def block_parameters(self) -> int:
        """Parameters of all blocks, without embeddings, norms and biases."""
        return sum(block.count * block.parameters for block in self.blocks)

    @property
    def parameters(self) -> int:
        """Parameters, without those of norms and biases."""
        return self.block_parameters + (1 if self.tied else 2) * self.head_parameters

    @property
    def head_parameters(self) -> int:
        """Parameters of the output layer."""
        return self.vocabulary * self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of LoRA on every linear layer, of queries, keys and values one each.

        Of a mixture each expert has its own.
        """
        return rank * sum(
            block.count
            * (
                sum(i + o for i, o in (*block.attention, *block.dense))
                + (block.experts.count if block.experts else 0) * sum(i + o for i, o in block.mixed)
            )
            for block in self.blocks
        )

    def _block(self, count: int, feed_forward: int, experts: Experts | None) -> Block:
        return Block(
            count=count,
            hidden=self.hidden,
            queries=self.queries,
            kv=self.kv,
            feed_forward=feed_forward,
            fused=self.experts is None,
            experts=experts,
        )


GLM4_9B = Shape(
    name="GLM-4-9B", hidden=4096, layers=40, kv=256, feed_forward=13_696, vocabulary=151_552
)


def attention_flops(shape: Shape, length: float) -> float:
    """FLOPs of the attention matrices of one row in one step of training; causal, so half."""
    return TRAINING * 2 * shape.layers * shape.hidden * length**2


def linear_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of everything that is linear in the tokens, in one step of training."""
    return TRAINING * 2 * shape.block_parameters * tokens

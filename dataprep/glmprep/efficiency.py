"""What a plan of rows costs, beside what its conversations would cost without any waste."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from glmprep.arrange import Plan
from glmprep.batching import ATTENTION
from glmprep.edges import CHUNK, Lengths, histogram
from glmprep.packing import least_bins


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Sums over the rows of a plan; a trained token is worth what is computed for it.

    `tokens` are those of the conversations, `computed` those of the rows with their padding;
    `replayed` tokens repeat, in front of a segment, what an earlier segment holds. Of attention the
    pairs of tokens are counted, causal or not: `pairs` within each conversation, which is all that
    is needed; `pairs_row` where each row attends to all of itself, padding too, and is masked
    afterwards; `pairs_varlen` where a kernel computes each conversation, and the padding, apart.
    `least_rows` no plan of packed rows can go below; `shapes` are the padded lengths.
    """

    rows: int
    least_rows: int
    shapes: int
    tokens: int
    computed: int
    supervised: int
    replayed: int
    pairs: int
    pairs_row: int
    pairs_varlen: int

    @property
    def filled(self) -> float:
        """Share of the computed tokens that are real: packing efficiency."""
        return self.tokens / max(1, self.computed)

    @property
    def reachable(self) -> float:
        """What no plan of these rows can exceed in `filled`."""
        return min(1.0, self.tokens * self.rows / max(1, self.computed * self.least_rows))

    @property
    def padding(self) -> float:
        """Share of the computed tokens that is padding."""
        return 1 - self.filled if self.computed else 0.0

    @property
    def supervised_share(self) -> float:
        """Trained tokens for each token computed."""
        return self.supervised / max(1, self.computed)

    @property
    def replay(self) -> float:
        """Replayed tokens for each token that is not."""
        return self.replayed / max(1, self.tokens - self.replayed)

    @property
    def attention(self) -> float:
        """Attention computed for what is needed, where rows attend to all of themselves."""
        return self.pairs_row / max(1, self.pairs)

    @property
    def attention_varlen(self) -> float:
        """The same, with a kernel that keeps conversations and padding apart."""
        return self.pairs_varlen / max(1, self.pairs)

    @property
    def work(self) -> float:
        """All FLOPs of GLM-4-9B for those needed, where rows attend to all of themselves."""
        return self._work(self.pairs_row)

    @property
    def work_varlen(self) -> float:
        """The same, with a kernel that keeps conversations and padding apart."""
        return self._work(self.pairs_varlen)

    def as_json(self) -> dict[str, Any]:
        """The sums and the shares as plain JSON values."""
        return {**asdict(self), **{name: round(getattr(self, name), 6) for name in SHARES}}

    def _work(self, pairs: int) -> float:
        needed = self.tokens + ATTENTION * self.pairs
        return (self.computed + ATTENTION * pairs) / max(1.0, needed)


SHARES = (
    "filled",
    "reachable",
    "padding",
    "supervised_share",
    "replay",
    "attention",
    "attention_varlen",
    "work",
    "work_varlen",
)


def efficiency(plan: Plan, lengths: Lengths, *, supervised: int, replayed: int = 0) -> Efficiency:
    """The sums of a plan over conversations of these lengths.

    `supervised` and `replayed` are tokens in all of them. Rows of several conversations count as
    packed: only for these is there a bound other than the number of rows itself.
    """
    packed = len(plan) < len(lengths)
    sizes, rows = np.unique(plan.bucket, return_counts=True)
    counts = histogram(lengths, int(lengths.max(initial=0)))
    pairs = _squares(np.arange(len(counts)), counts)
    return Efficiency(
        rows=len(plan),
        least_rows=least_bins(histogram(lengths, int(sizes[-1])), int(sizes[-1]))
        if packed
        else len(plan),
        shapes=len(sizes),
        tokens=int(counts @ np.arange(len(counts))),
        computed=int(sizes.astype(np.int64) @ rows),
        supervised=supervised,
        replayed=replayed,
        pairs=pairs,
        pairs_row=_squares(sizes, rows),
        pairs_varlen=pairs + _padding_squares(plan, lengths),
    )


def _squares(sizes: Lengths, counts: Lengths) -> int:
    """The sum of the squares of so many of each size; exact, as Python's numbers are."""
    return sum(
        size * size * count for size, count in zip(sizes.tolist(), counts.tolist(), strict=True)
    )


def _padding_squares(plan: Plan, lengths: Lengths) -> int:
    """The sum of the squares of the padding of all rows."""
    total = 0
    for start in range(0, len(plan), CHUNK):
        offsets = plan.offsets[start : start + CHUNK + 1]
        members = plan.members[offsets[0] : offsets[-1]]
        filled = np.add.reduceat(lengths[members], offsets[:-1] - offsets[0], dtype=np.int64)
        padding = plan.bucket[start : start + CHUNK] - filled
        total += int(padding @ padding)
    return total

"""Token lengths of conversations and turns, and what a maximum length would cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from glmprep.families.piece import NO_TURN
from glmprep.labels import TokenBatch
from glmprep.records import Conversation

Int64 = npt.NDArray[np.int64]
PERCENTILES = (50, 75, 90, 95, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What cutting everything after `max_length` tokens would lose.

    `rows` are longer; `without_labels` of these keep no training target at all;
    `answers_cut` answers would end in their middle, so that no stop token is trained there.
    """

    max_length: int
    rows: int
    without_labels: int
    answers_cut: int
    supervised_lost: int


@dataclass(slots=True)
class Lengths:
    """Collects the lengths of batches; all lengths are tokens.

    `conversations` counts prefix and closing stop; `prompts` are user turns and `answers` trained
    turns with their stop token, both per turn.
    """

    limits: Sequence[int]
    conversations: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    prompts: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    answers: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    supervised: int = 0
    _cuts: dict[int, Cut] = field(default_factory=dict)

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch."""
        counts = np.fromiter((len(c.messages) for c in conversations), np.int64)
        turn_of = (np.cumsum(counts) - counts)[tokens.row] + tokens.turn
        named = tokens.turn != NO_TURN
        total = int(counts.sum())
        widths = np.bincount(turn_of[named], (tokens.end - tokens.start)[named], total)
        targets = np.bincount(turn_of[named], tokens.targets[named], total).astype(np.int64)
        is_user = np.fromiter((m.role == "user" for c in conversations for m in c.messages), bool)
        self.conversations = np.concatenate([self.conversations, tokens.lengths])
        self.prompts = np.concatenate([self.prompts, widths.astype(np.int64)[is_user]])
        self.answers = np.concatenate([self.answers, targets[targets > 0]])
        self.supervised += int(tokens.supervised.sum())
        for limit in self.limits:
            self._cuts[limit] = _add(self._cuts.get(limit), _cut(tokens, limit))

    def cuts(self) -> list[Cut]:
        """What each limit would cut, shortest limit first."""
        return [self._cuts[limit] for limit in sorted(self._cuts)]

    def covering(self, share: float, multiple: int = 256) -> int:
        """The least multiple of `multiple` in which that share of the conversations fits whole."""
        length = float(np.quantile(self.conversations, share, method="higher"))
        return int(-(-length // multiple) * multiple)


def percentiles(lengths: Int64) -> dict[str, int]:
    """p50 … p100 of some lengths; empty for none."""
    if not len(lengths):
        return {}
    values = np.percentile(lengths, PERCENTILES, method="higher")
    return {f"p{p}": int(value) for p, value in zip(PERCENTILES, values, strict=True)}


def _cut(tokens: TokenBatch, limit: int) -> Cut:
    row_starts = tokens.offsets[tokens.row]
    trained = tokens.targets > 0
    end = (tokens.end - row_starts + tokens.stopped)[trained]
    begin = end - tokens.targets[trained]
    lost = np.clip(end - np.maximum(begin, limit), 0, None)
    long = tokens.lengths > limit
    first = np.full(len(long), np.iinfo(np.int64).max)
    np.minimum.at(first, tokens.row[trained], begin)
    return Cut(
        max_length=limit,
        rows=int(long.sum()),
        without_labels=int((long & (first >= limit) & (tokens.supervised > 0)).sum()),
        answers_cut=int(((begin < limit) & (end > limit)).sum()),
        supervised_lost=int(lost.sum()),
    )


def _add(one: Cut | None, other: Cut) -> Cut:
    if one is None:
        return other
    return Cut(
        max_length=one.max_length,
        rows=one.rows + other.rows,
        without_labels=one.without_labels + other.without_labels,
        answers_cut=one.answers_cut + other.answers_cut,
        supervised_lost=one.supervised_lost + other.supervised_lost,
    )

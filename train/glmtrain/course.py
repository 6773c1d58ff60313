"""The course of a run: which rows come at which step, on which device.

All of it follows from the rows, the settings and the seed, so it is never stored: a resumed run
finds its place again by the number of its step, and every process knows what the others have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from glmprep.batching import token_batches
from glmprep.errors import UsageError
from glmprep.order import Order
from glmprep.shards import Int64

from glmtrain import settings, sources
from glmtrain.batches import Batch
from glmtrain.data import TrainingData

Places = list[list[Batch]]
"""[place][rank]: the batches in one place are computed at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A step's batches on this process; `supervised` is counted over all processes.

    `epoch` is how many epochs are done after it.
    """

    number: int
    epoch: float
    batches: Sequence[Batch]
    supervised: int


class Course:
    """All epochs of a run on `ranks` processes, whose data settings have no gaps."""

    def __init__(
        self, data: TrainingData, chosen: settings.Data, *, seed: int, ranks: int = 1
    ) -> None:
        assert chosen.tokens_per_batch is not None
        self._data, self._seed, self._ranks = data, seed, ranks
        self._accumulate = chosen.accumulate
        self._lengths, self._supervised = data.rows.lengths, data.rows.supervised
        self._order = _order(data, chosen)
        self._stages = _stages(chosen.stages, chosen.tokens_per_batch)
        self._quotas = self._weighted_quotas()
        self._steps: dict[int, int] = {}
        self._latest: tuple[int, Places] | None = None

    def work(self, done: int, steps: int, rank: int = 0) -> Iterator[Work]:
        """The steps after `done`, up to `steps`, for a process."""
        epoch, skipped = self.place(done)
        number = done
        while number < steps:
            groups = self._groups(epoch)
            for step, places in enumerate(groups[skipped:], skipped + 1):
                if number == steps:
                    return
                number += 1
                rows = np.concatenate([batch.rows for place in places for batch in place])
                yield Work(
                    number=number,
                    epoch=epoch + step / len(groups),
                    batches=[place[rank] for place in places],
                    supervised=int(self._supervised[rows].sum()),
                )
            epoch, skipped = epoch + 1, 0

    @property
    def budget(self) -> int:
        """The most tokens that a batch may hold, that of the largest stage."""
        return max(tokens for _, tokens in self._stages)

    @property
    def lengths(self) -> Int64:
        """Tokens of each row."""
        return self._lengths

    def batches(self, epoch: int) -> Places:
        """An epoch's batches. Every row of the epoch is in exactly one of them.

        Those in one place cost nearly the same. Only where there are fewer rows than processes is a
        batch without rows.
        """
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self._made(epoch)
        return self._latest[1]

    def steps_in(self, epoch: int) -> int:
        """Optimiser steps of an epoch (from 0); its last may have fewer batches than the others."""
        same = 0 if self._quotas is None else epoch  # the same rows give as many batches
        if same not in self._steps:
            self._steps[same] = math.ceil(len(self.batches(same)) / self._accumulate)
        return self._steps[same]

    def steps(self, epochs: int) -> int:
        """Optimiser steps of so many epochs."""
        return sum(map(self.steps_in, range(epochs)))

    def place(self, done: int) -> tuple[int, int]:
        """The epoch of the step after `done`, and how many of its steps are done."""
        epoch = 0
        while done >= self.steps_in(epoch):
            done -= self.steps_in(epoch)
            epoch += 1
        return epoch, done

    def rows(self, epoch: int) -> Int64:
        """The rows of an epoch; those of a weighted source may come more than once."""
        if self._quotas is None:
            return self._data.trainable
        by_source = enumerate(zip(self._data.trainable_by_source, self._quotas, strict=True))
        drawn = [
            _stretch(rows, epoch * quota, quota, [self._seed, place])
            for place, (rows, quota) in by_source
        ]
        return np.concatenate(drawn)

    def longest(self) -> Batch:
        """The batch of the first epoch that computes the most tokens, and has the longest row."""
        made = [batch for place in self.batches(0) for batch in place if len(batch.rows)]

        def computed(batch: Batch) -> tuple[int, int]:
            most = int(self._lengths[batch.rows].max())
            return len(batch.rows) * most, most

        return max(made, key=computed)

    def _groups(self, epoch: int) -> list[Places]:
        """The places of each optimiser step."""
        places, count = self.batches(epoch), self._accumulate
        return [places[start : start + count] for start in range(0, len(places), count)]

    def _made(self, epoch: int) -> Places:
        rows = self.rows(epoch)
        stage = np.searchsorted([longest for longest, _ in self._stages], self._lengths[rows])
        made: Places = []
        for place, (_, tokens) in enumerate(self._stages):
            chosen = rows[stage == place]
            if len(chosen):
                made += self._of_stage(chosen, tokens, [self._seed, epoch, place])
        return made

    def _of_stage(self, rows: Int64, tokens: int, seed: list[int]) -> Places:
        """Rows of one bucket are batched together, packed ones apart."""
        data = self._data
        buckets, packed = data.rows.bucket[rows], data.packed[rows]
        kinds, kind = np.unique(buckets * np.int64(2) + packed, return_inverse=True)
        made = token_batches(
            self._lengths[rows],
            kind,
            kinds // 2,
            tokens=tokens,
            seed=seed,
            ranks=self._ranks,
            order=self._order,
            squares=data.squares[rows] if self._ranks > 1 else None,
        )
        shares = [made.of_rank(rank) for rank in range(self._ranks)]
        return [
            [self._batch(rows[chosen]) for chosen in place] for place in zip(*shares, strict=True)
        ]

    def _batch(self, rows: Int64) -> Batch:
        data = self._data
        return Batch(
            rows=rows,
            bucket=int(data.rows.bucket[rows].max(initial=0)),
            packed=bool(data.packed[rows].any()),
        )

    def _weighted_quotas(self) -> list[int] | None:
        """Rows of each source in an epoch; None where every row comes once."""
        data = self._data
        if all(source.weight is None and source.share is None for source in data.sources):
            return None
        rows = data.trainable_by_source
        tokens = [int(self._supervised[each].sum()) for each in rows]
        return sources.quotas(data.sources, [len(each) for each in rows], tokens)


def _stretch(rows: Int64, start: int, count: int, seed: list[int]) -> Int64:
    """`count` rows from place `start` on, of an endless row of shuffles of all rows."""
    first, last = start // len(rows), (start + count - 1) // len(rows)
    shuffles = [np.random.default_rng([*seed, n]).permutation(rows) for n in range(first, last + 1)]
    begin = start - first * len(rows)
    return np.concatenate(shuffles)[begin : begin + count]


def _order(data: TrainingData, chosen: settings.Data) -> Order:
    """The order of batches that was asked for, or that of the shards."""
    if chosen.order != "shards":
        return Order(kind=chosen.order, mixing=chosen.mixing or 0.0)
    if chosen.mixing is None:
        return data.order
    return Order(kind=data.order.kind, mixing=chosen.mixing)


def _stages(texts: Sequence[str], tokens: int) -> list[tuple[int, int]]:
    """Up to which length, in batches of how many tokens; the last takes what is longer, too."""
    stages = [_stage(text) for text in texts] or [(0, tokens)]
    if sorted(dict(stages)) != [longest for longest, _ in stages]:
        raise UsageError("data.stages: lengths ascend, as in ['1024:8192', '4096:16384']")
    return [*stages[:-1], (np.iinfo(np.int64).max, stages[-1][1])]


def _stage(text: str) -> tuple[int, int]:
    length, _, tokens = text.partition(":")
    if not (length.isdecimal() and tokens.isdecimal() and int(length) and int(tokens)):
        raise UsageError(f"data.stages: {text!r} is not LENGTH:TOKENS, such as '1024:8192'")
    return int(length), int(tokens)

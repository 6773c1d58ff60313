"""What another trainer would make of chat data, by its rules as `glmprep.peers` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.families.piece import NO_TOKEN
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.peers import TRAINERS as PEERS
from glmprep.peers import Rows, Trainer
from glmprep.records import Conversation
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

from glmdiag.labels.apart import Int64
from glmdiag.labels.tokenized import IGNORED, Tokens, make

OURS = "glmprep"
LENGTHS = {
    OURS: 8192,
    "official": 1024,
    "official_combine": 1024,
    "llamafactory": 2048,
    "trl": 1024,
    "trl_answers": 1024,
}
"""The limits that each takes where it is told none."""
TRAINERS = tuple(LENGTHS)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Tokens as a trainer makes them, the limit it cuts at, and how many rows it refuses."""

    tokens: Tokens
    limit: int
    left_out: int


def simulate(
    source: Source, trainer: str, limit: int | None, family: Family, tokenizer: Tokenizer
) -> Simulated:
    """Tokenize chat data as a trainer would, and label it by its rules.

    This suite sets rows aside that are longer than the limit; others cut them. Raises InputError
    where no row is left, UsageError for a trainer that is not known.
    """
    if trainer not in LENGTHS:
        raise UsageError(f"--as {trainer}: this version knows {', '.join(TRAINERS)}")
    length = limit or LENGTHS[trainer]
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    made = _Made(family, tokenizer, next((p for p in PEERS if p.name == trainer), None), length)
    for batch in intake.batches():
        if batch.rows:
            made.add(batch.rows)
    if not made.ids:
        raise InputError(intake.nothing_left())
    cut = length + 1 if trainer.startswith("official") else length
    ids, labels = np.concatenate(made.ids), np.concatenate(made.labels)
    tokens = make(
        ids,
        labels,
        np.concatenate(made.lengths),
        held=np.ones(len(ids), np.bool_),
        starts=np.zeros(len(ids), np.bool_),
        prefix=family.prefix,
    )
    return Simulated(tokens=tokens, limit=cut, left_out=made.left_out + len(intake.rejections))


@dataclass(slots=True)
class _Made:
    """Ids, labels and lengths of one batch after the other."""

    family: Family
    tokenizer: Tokenizer
    trainer: Trainer | None
    length: int
    ids: list[Int64] = field(default_factory=list)
    labels: list[Int64] = field(default_factory=list)
    lengths: list[Int64] = field(default_factory=list)
    left_out: int = 0

    def add(self, conversations: Sequence[Conversation]) -> None:
        """Take in a batch."""
        if self.trainer is None:
            self._add_ours(conversations)
            return
        if (read := self.trainer.read) is not None:
            conversations = [read(one, self.family).conversation for one in conversations]
        batch = tokenize(conversations, self.family, self.tokenizer)
        rows = Rows.of(conversations, batch, self.family, self.tokenizer)
        found = self.trainer.label(rows, self.length)
        # Each row's tail stands behind its tokens, so both are sorted by row.
        tailed = np.flatnonzero(found.tail != NO_TOKEN)
        row = np.concatenate([rows.row[found.present], tailed])
        ids = np.concatenate([batch.ids[found.present], found.tail[tailed]])
        labels = np.concatenate([found.labels[found.present], found.tail_label[tailed]])
        order = np.argsort(row, kind="stable")
        lengths = np.bincount(row, minlength=len(rows))
        self._keep(ids[order], labels[order], lengths[lengths > 0])
        self.left_out += int((lengths == 0).sum())

    def _add_ours(self, conversations: Sequence[Conversation]) -> None:
        batch = tokenize(conversations, self.family, self.tokenizer)
        fits = batch.lengths <= self.length
        there = np.repeat(fits, batch.lengths)
        labels = np.where(batch.mask == 1, batch.ids, IGNORED)
        self._keep(batch.ids[there], labels[there], batch.lengths[fits])
        self.left_out += int((~fits).sum())

    def _keep(self, ids: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> None:
        if len(lengths):
            self.ids.append(ids.astype(np.int64))
            self.labels.append(labels.astype(np.int64))
            self.lengths.append(lengths.astype(np.int64))

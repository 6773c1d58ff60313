"""What a trainer makes of rows: by its rule for length alone, and with its own labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glmprep.families import Family
from glmprep.families.piece import NO_TOKEN
from glmprep.peers.rows import Bool, Int32, Rows
from glmprep.records import Conversation

IGNORED = -100
"""The label of a token that is not trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a rule for length leaves, over the tokens and the rows of a batch.

    `present` tokens reach the model, and of these `trained` are those of this suite's targets that
    are still targets. `dropped` rows are not trained on at all. In a row of `stops_after_cut` a
    stop token is trained behind an answer that was cut.
    """

    present: Bool
    trained: Bool
    dropped: Bool
    stops_after_cut: Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A trainer's own input and labels, over the tokens and the rows of a batch.

    `present` tokens reach the model; `labels` is what it learns to say there, IGNORED for nothing.
    `tail` is the token that is put behind the row, NO_TOKEN for none, and `tail_label` its label.
    `refused` rows never get so far.
    """

    present: Bool
    labels: Int32
    tail: Int32
    tail_label: Int32
    refused: Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A conversation as a trainer renders it, and of each of its messages the original's number."""

    conversation: Conversation
    turns: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A rule for rows that are longer than a maximum length."""

    name: str
    keep: Callable[[Rows, int], Kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A trainer's labels at a maximum length; `read` where its text is not the template's."""

    name: str
    label: Callable[[Rows, int], Labelled]
    read: Callable[[Conversation, Family], Reading] | None = None


def keep_whole(rows: Rows, present: Bool, dropped: Bool | None = None) -> Kept:
    """What is kept where a rule only decides which tokens are there."""
    nothing = np.zeros(len(rows), np.bool_)
    return Kept(
        present=present,
        trained=present & rows.trained,
        dropped=nothing if dropped is None else dropped,
        stops_after_cut=nothing,
    )


def drop_long(rows: Rows, length: int) -> Kept:
    """Rows that fit stay as they are, the others are left out."""
    long = rows.tokens.lengths > length
    return keep_whole(rows, ~long[rows.row], long)


def label(
    rows: Rows,
    present: Bool,
    labels: npt.NDArray[np.integer],
    *,
    tail: Int32 | None = None,
    tail_label: Int32 | None = None,
    refused: Bool | None = None,
) -> Labelled:
    """A trainer's labels; tokens that are not there have none, nor have refused rows any token."""
    out = np.zeros(len(rows), np.bool_) if refused is None else refused
    there = present & ~out[rows.row]
    none = np.full(len(rows), NO_TOKEN, np.int32)
    tails = none if tail is None else np.where(out, NO_TOKEN, tail).astype(np.int32)
    ignored = np.full(len(rows), IGNORED, np.int32)
    said = ignored if tail_label is None else tail_label
    return Labelled(
        present=there,
        labels=np.where(there, labels, IGNORED).astype(np.int32),
        tail=tails,
        tail_label=np.where(tails == NO_TOKEN, IGNORED, said).astype(np.int32),
        refused=out,
    )

"""Validation rows, parted from training rows by groups of conversations that say the same.

A row whose twin is trained on tells nothing about new data, so rows that share an opening, and rows
made of one conversation, stay on one side.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from glmprep.errors import UsageError
from glmprep.records import Conversation
from glmprep.sets.fingerprints import FEW_WORDS
from glmprep.text.hashing import GOLDEN, UInt64, mix

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)
NO_NAME = np.uint64(np.iinfo(np.uint64).max)
SEGMENT = re.compile(r"#\d+$")
"""What `glmprep segment` puts behind the id of a conversation."""


def opening(conversation: Conversation) -> int:
    """A 64-bit hash of what the user begins with, case, width and spaces aside; 0 for nothing.

    Where that is a greeting of a few words, which conversations share that have nothing else in
    common, the user's next messages belong to it. The same everywhere and in every version.
    """
    said = ""
    for text in _asked(conversation):
        said = f"{said}\n{text}" if said else text
        if len(said.encode("utf-8", "replace")) > FEW_WORDS:
            break
    return _hash(said)


def original(conversation: Conversation, *, segmented: bool) -> int:
    """A 64-bit hash of the conversation that a row was made of.

    Rows of one line of the input are of one conversation; in the output of `glmprep segment`
    (`segmented`) so are those whose ids differ in the number of the segment only.
    """
    name = SEGMENT.sub("", conversation.id) if segmented else ""
    return _hash(f"id {name}" if name else f"line {conversation.origin}")


def groups(*keys: UInt64) -> UInt64:
    """The group of each row: rows that share any of their keys are together, 0 being no key.

    A group is named after the least key in it, so that it keeps its name when other rows come, and
    a row without keys, which is alone, after its place.
    """
    if not keys:
        raise ValueError("no keys to group by")
    rows = len(keys[0])
    shared = [_numbered(key) for key in keys]
    label: Int64 = np.arange(rows)
    while True:
        before = label
        for number in shared:
            label = _least(number, label, rows)[number]
        label = label[label]
        if np.array_equal(label, before):
            break
    names = np.min([np.where(key == 0, NO_NAME, key) for key in keys], axis=0)
    names = _least(label, names, int(NO_NAME))[label]
    return np.where(names == NO_NAME, mix(label.astype(np.uint64)), names)


def split(groups: UInt64, share: float, seed: int) -> Bool:
    """Which rows are for validation: whole groups, at most `share` of the rows and near to it.

    Groups are asked in the order of a hash of their name and the seed, and taken as long as they
    fit; so most that were chosen are chosen again when rows are added. At least one row is wanted.
    Raises UsageError for a share outside 0 to 1, and where every group is larger than the share.
    """
    require_share(share)
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    room = max(1, round(share * len(groups)))
    chosen = np.zeros(len(names), np.bool_)
    with np.errstate(over="ignore"):
        order = np.argsort(mix(mix(names) + np.uint64(seed) * GOLDEN), kind="stable")
    for each, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= room:
            chosen[each] = True
            room -= size
        if not room:
            break
    if not chosen.any():
        least = sizes.min(initial=len(groups))
        raise UsageError(
            f"a validation share of {share}: the smallest group of conversations that share an "
            f"opening has {least} of {len(groups)} rows; raise the share, or name other data"
        )
    return chosen[group]


def require_share(share: float) -> None:
    """Raise UsageError for a share that leaves nothing on one side."""
    if not 0 < share < 1:
        raise UsageError(f"a validation share of {share}: must be above 0 and below 1")


def _asked(conversation: Conversation) -> Iterator[str]:
    """What the user says, so that it can be compared."""
    for message in conversation.messages:
        if message.role == "user":
            text = unicodedata.normalize("NFKC", message.content).casefold()
            if words := text.split():
                yield " ".join(words)


def _hash(text: str) -> int:
    """64 bits, never 0 for a text."""
    if not text:
        return 0
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little") or 1


def _numbered(key: UInt64) -> Int64:
    """The keys numbered from 0, rows without one each with a number of their own."""
    _, number = np.unique(key, return_inverse=True)
    bare = np.flatnonzero(key == 0)
    number[bare] = len(key) + np.arange(len(bare))
    return np.asarray(number, np.int64)


def _least(number: Int64, values: npt.NDArray[Scalar], start: int) -> npt.NDArray[Scalar]:
    """The least of the values of each number."""
    least = np.full(int(number.max(initial=-1)) + 1, start, values.dtype)
    np.minimum.at(least, number, values)
    return least

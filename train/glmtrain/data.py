"""The rows of shard folders in memory, checked against their manifests before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from glmprep import shards
from glmprep.errors import InputError, UsageError
from glmprep.files import sha256
from glmprep.order import Order
from glmprep.shards import Int64, Manifest, Rows

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Rows of all folders in order; a row's id is its index here."""

    folders: Sequence[Path]
    manifests: Sequence[Manifest]
    rows: Rows

    @property
    def pad_id(self) -> int:
        """What padding is filled with; never a target and never attended to."""
        return self.manifests[0].pad_id

    @property
    def tokens_per_batch(self) -> int:
        """What all shards were made for: the smallest of their budgets."""
        return min(manifest.tokens_per_batch for manifest in self.manifests)

    @cached_property
    def packed(self) -> Bool:
        """Which rows hold more than one segment."""
        last = self.rows.segment_ids[self.rows.offsets[1:] - 1]
        return np.asarray(last > 0)

    @cached_property
    def trainable(self) -> Int64:
        """Ids of the rows that hold at least one training target."""
        return np.flatnonzero(self.rows.supervised)

    @cached_property
    def squares(self) -> Int64:
        """The sum of the squared lengths of each row's segments: its work in attention."""
        starts = np.flatnonzero(self.rows.position_ids == 0)
        lengths = np.diff(starts, append=len(self.rows.position_ids))
        # Every row begins with a segment.
        first = np.searchsorted(starts, self.rows.offsets[:-1])
        return np.asarray(np.add.reduceat(lengths**2, first))

    @property
    def order(self) -> Order:
        """In which order batches come: that of the shards."""
        return _order(self.manifests[0])

    @property
    def largest_id(self) -> int:
        """The largest token id."""
        return int(self.rows.input_ids.max())

    def fingerprints(self) -> list[dict[str, Any]]:
        """Per folder: its name, its manifest's digest, and the first of its row ids."""
        starts = np.cumsum([0, *(_promised(m, "rows") for m in self.manifests)])
        return [
            {
                "folder": str(folder),
                "manifest_sha256": sha256(folder / shards.MANIFEST),
                "first_row": int(start),
            }
            for folder, start in zip(self.folders, starts, strict=False)
        ]


def load(folders: Sequence[str]) -> TrainingData:
    """Read shard folders.

    Raises UsageError for folders that do not go together or hold nothing to train on, InputError
    for one that is missing, unfinished, or not what its manifest promises.
    """
    if not folders:
        raise UsageError("no shards; pass --shards DIR, made by glmprep bucket")
    paths = [Path(folder) for folder in folders]
    parts = [_read(path) for path in paths]
    manifests = [manifest for manifest, _ in parts]
    _check_same_tokenizer(paths, manifests)
    _check_same_order(paths, manifests)
    data = TrainingData(
        folders=paths, manifests=manifests, rows=shards.join([rows for _, rows in parts])
    )
    _check_targets(data)
    return data


def check_against_model(data: TrainingData, *, vocabulary: int, positions: int | None) -> None:
    """Raise UsageError where the model has no room for the shards' ids or row lengths."""
    if data.largest_id >= vocabulary:
        raise UsageError(
            f"the shards hold token id {data.largest_id}, but the model knows {vocabulary} tokens; "
            "tokenize with the model's own vocabulary: glmprep bucket --tokenizer MODEL_FOLDER"
        )
    longest = int(data.rows.position_ids.max()) + 1
    if positions is not None and longest > positions:
        raise UsageError(
            f"the shards hold a conversation of {longest} tokens, but the model reads {positions}; "
            f"rows are never cut here: glmprep segment --max-length {positions}"
        )


def _read(folder: Path) -> tuple[Manifest, Rows]:
    manifest, rows = shards.read(folder)
    found = {
        "rows": len(rows),
        "tokens": int(rows.offsets[-1]),
        "supervised": int(rows.loss_mask.sum(dtype=np.int64)),
    }
    for name, count in found.items():
        if count != _promised(manifest, name):
            raise InputError(
                f"{folder}: {count} {name}, but its manifest says {_promised(manifest, name)}; "
                "run glmprep verify, or glmprep bucket again"
            )
    if found["supervised"] == 0:
        raise UsageError(
            f"{folder}: no token in it is a training target; "
            "look at it with glmprep show, and at --train-on of glmprep bucket"
        )
    return manifest, rows


def _promised(manifest: Manifest, name: str) -> int:
    return sum(int(entry[name]) for entry in manifest.files)


def _check_same_tokenizer(folders: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    def made_with(manifest: Manifest) -> tuple[Mapping[str, Any], str]:
        return manifest.tokenizer, manifest.family

    for folder, manifest in zip(folders, manifests, strict=True):
        if made_with(manifest) != made_with(manifests[0]):
            raise UsageError(
                f"{folder}: made with another tokenizer or template than {folders[0]}; "
                "make both with the same --tokenizer and --family"
            )


def _order(manifest: Manifest) -> Order:
    """The order that shards were made for; those of earlier versions name none."""
    config = {"order": "shuffled", "mixing": 0.0, **manifest.config}
    return Order(kind=config["order"], mixing=config["mixing"])


def _check_same_order(folders: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    for folder, manifest in zip(folders, manifests, strict=True):
        if _order(manifest) != _order(manifests[0]):
            raise UsageError(
                f"{folder}: made for another order of batches than {folders[0]}; "
                "make both with the same --order and --mixing"
            )


def _check_targets(data: TrainingData) -> None:
    """A segment's first token is predicted by nothing, so it cannot be a target."""
    rows = data.rows
    wrong = np.flatnonzero((rows.position_ids == 0) & (rows.loss_mask == 1))
    if len(wrong):
        row = int(np.searchsorted(rows.offsets, wrong[0], side="right")) - 1
        raise InputError(
            f"row {row}: the first token of a segment is marked as a training target, "
            "which no token can predict; make the shards again with glmprep bucket"
        )

"""The rows of shard folders, checked against their manifests before any training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

from glmtrain import columns
from glmtrain.sources import Source, parse

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Rows of all sources in order; a row's id is its index here."""

    sources: Sequence[Source]
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

    @cached_property
    def trainable_by_source(self) -> list[Int64]:
        """`trainable`, source by source."""
        bounds = np.searchsorted(self.trainable, self._firsts)
        return np.split(self.trainable, bounds[1:])

    @property
    def order(self) -> Order:
        """The order of batches that the shards were made for.

        Raises UsageError where they were made for different ones.
        """
        orders = [_order(manifest) for manifest in self.manifests]
        for source, order in zip(self.sources, orders, strict=True):
            if order != orders[0]:
                raise UsageError(
                    f"{source.folder}: made for another order of batches than "
                    f"{self.sources[0].folder}; say which with --set data.order=shuffled"
                )
        return orders[0]

    def stops(self) -> list[tuple[int, int]]:
        """Per source: how many trained stretches it has, and how many end in a stop token."""
        ids, (_, ends) = self.rows.input_ids, self._stretches
        bounds = np.searchsorted(ends, self.rows.offsets[self._firsts[1:]])
        parts = zip(np.split(ends, bounds), self.manifests, strict=True)
        return [(len(p), int(np.isin(ids[p], list(m.stop_ids)).sum())) for p, m in parts]

    @property
    def ends(self) -> set[int]:
        """The stop tokens that end what the model says.

        Not the one that opens an answer: where it ends one, another answer follows at once.
        """
        ids, (firsts, ends) = self.rows.input_ids, self._stretches
        opening = {int(x) for back in (1, 2) for x in np.unique(ids[np.maximum(firsts - back, 0)])}
        stops = {stop for manifest in self.manifests for stop in manifest.stop_ids}
        return (stops & set(np.unique(ids[ends]).tolist())) - opening

    @cached_property
    def _stretches(self) -> tuple[Int64, Int64]:
        """The first and the last place of each trained stretch."""
        mask = self.rows.loss_mask == 1
        firsts = np.flatnonzero(mask & ~np.append(False, mask[:-1]))
        return firsts, np.flatnonzero(mask & ~np.append(mask[1:], False))

    @property
    def largest_id(self) -> int:
        """The largest token id."""
        return int(self.rows.input_ids.max())

    def fingerprints(self) -> list[dict[str, Any]]:
        """Per source: its folder, its manifest's digest, the first of its row ids, its weight."""
        return [
            {
                "folder": str(source.folder),
                "manifest_sha256": sha256(source.folder / shards.MANIFEST),
                "first_row": int(first),
                "weight": source.weight,
                "share": source.share,
            }
            for source, first in zip(self.sources, self._firsts, strict=True)
        ]

    @property
    def _firsts(self) -> Int64:
        """The first row id of each source."""
        return np.cumsum([0, *(_promised(m, "rows") for m in self.manifests[:-1])])


def load(
    learned: Sequence[str],
    replayed: Sequence[str] = (),
    *,
    unpacked: Path | None = None,
    first: bool = True,
) -> TrainingData:
    """Read shard folders, named as `sources.parse` takes them.

    Large ones are unpacked into the folder `unpacked`, by the `first` process there. Raises
    UsageError for folders that do not go together or hold nothing to train on, InputError for one
    that is missing, unfinished, or not what its manifest promises.
    """
    sources = parse(learned, replayed)
    folders = [source.folder for source in sources]
    manifests = [shards.read_manifest(folder) for folder in folders]
    _check_same_tokenizer(folders, manifests)
    parts = (
        rows for each in zip(folders, manifests, strict=True) for rows in _checked_files(*each)
    )
    tokens = sum(_promised(manifest, "tokens") for manifest in manifests)
    if unpacked is None or tokens < columns.MAPPED_FROM:
        rows = shards.join(list(parts))
    else:
        if first:
            columns.write(parts, unpacked)
        rows = columns.mapped(unpacked)
    data = TrainingData(sources=sources, manifests=manifests, rows=rows)
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


def _checked_files(folder: Path, manifest: Manifest) -> Iterator[Rows]:
    """The rows of each file; it must hold what the manifest promises, and the folder a target."""
    if not _promised(manifest, "supervised"):
        raise UsageError(
            f"{folder}: no token in it is a training target; "
            "look at it with glmprep show, and at --train-on of glmprep bucket"
        )
    for entry, rows in zip(manifest.files, shards.read_files(folder, manifest), strict=True):
        found = {
            "rows": len(rows),
            "tokens": int(rows.offsets[-1]),
            "supervised": int(rows.loss_mask.sum(dtype=np.int64)),
        }
        for name, count in found.items():
            if count != entry[name]:
                raise InputError(
                    f"{folder / entry['name']}: {count} {name}, but its manifest says "
                    f"{entry[name]}; run glmprep verify, or glmprep bucket again"
                )
        yield rows


def _promised(manifest: Manifest, name: str) -> int:
    return sum(int(entry[name]) for entry in manifest.files)


def _check_same_tokenizer(folders: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    def made_with(manifest: Manifest) -> tuple[Mapping[str, Any], Sequence[str], str]:
        return manifest.tokenizer, manifest.added_tokens, manifest.family

    for folder, manifest in zip(folders, manifests, strict=True):
        if made_with(manifest) != made_with(manifests[0]):
            raise UsageError(
                f"{folder}: made with another tokenizer or template than {folders[0]}; "
                "make both with the same --tokenizer, --add-token and --family"
            )


def _order(manifest: Manifest) -> Order:
    """The order that shards were made for; those of earlier versions name none."""
    config = {"order": "shuffled", "mixing": 0.0, **manifest.config}
    return Order(kind=config["order"], mixing=config["mixing"])


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

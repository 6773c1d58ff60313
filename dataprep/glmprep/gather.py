"""Planned rows to shard files: each file takes its conversations from the units that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from glmprep.accounts import Kept
from glmprep.arrange import Plan
from glmprep.entries import DIGEST_BYTES
from glmprep.errors import InputError
from glmprep.labels import ranges
from glmprep.shards import FORMAT, Rows, write_rows
from glmprep.store import Store
from glmprep.units import Record, record

TOKENS_PER_FILE = 1 << 20
"""A worker needs some fifty bytes for each while it writes a file."""
NOTE = "shard"
"""How the name ends of what is noted of a shard file that was written."""

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFile:
    """The rows of one file: row r holds `sizes[r]` conversations and is padded to `bucket[r]`.

    The conversations, in order, have `lengths` tokens each and lie as records of `records` bytes
    at `starts` in `units[unit]`.
    """

    name: str
    sizes: Int64
    bucket: Int32
    units: Sequence[str]
    unit: Int64
    lengths: Int32
    records: Int32
    starts: Int64

    def digest(self) -> str:
        """Stands for the file's bytes, which follow from all of this."""
        found = blake2b(orjson.dumps([FORMAT, self.name, self.units]), digest_size=DIGEST_BYTES)
        for column in (self.sizes, self.bucket, self.unit, self.lengths, self.starts):
            found.update(np.ascontiguousarray(column, np.int64).data)
        return found.hexdigest()


def shard_files(plan: Plan, kept: Kept) -> Iterator[ShardFile]:
    """The files of a plan, each with about TOKENS_PER_FILE tokens in whole rows."""
    row_tokens = np.add.reduceat(kept.lengths[plan.members], plan.offsets[:-1], dtype=np.int64)
    file_of = (np.cumsum(row_tokens) - row_tokens) // TOKENS_PER_FILE
    bounds = np.flatnonzero(np.diff(file_of, prepend=-1, append=-1))
    for number, (first, last) in enumerate(pairwise(bounds.tolist())):
        members = plan.members[plan.offsets[first] : plan.offsets[last]]
        units, unit = np.unique(kept.unit[members], return_inverse=True)
        yield ShardFile(
            name=f"shard-{number:05d}.parquet",
            sizes=np.diff(plan.offsets[first : last + 1]),
            bucket=plan.bucket[first:last],
            units=[kept.units[place] for place in units.tolist()],
            unit=unit,
            lengths=kept.lengths[members],
            records=kept.records[members],
            starts=kept.starts[members],
        )


@dataclass(frozen=True, slots=True)
class Gather:
    """The work of writing shard files from `units` to `output`: call it with a file."""

    units: Store
    output: Store

    def __call__(self, file: ShardFile) -> dict[str, Any]:
        """Write it, unless it lies there from a run that was cut short; what the manifest says."""
        note = f"{file.digest()}.{NOTE}"
        known = self._noted(note)
        if known is None or not self._is_there(known):
            known = write_rows(self.output, file.name, self._rows(file))
            self.units.write(note, [orjson.dumps(known)])
        return known

    def _noted(self, note: str) -> dict[str, Any] | None:
        """What was noted when the same file was written before."""
        try:
            found: dict[str, Any] = orjson.loads(self.units.read(note))
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        return found

    def _is_there(self, entry: Mapping[str, Any]) -> bool:
        name = str(entry["name"])
        if self.output.size(name) is None:
            return False
        return hashlib.sha256(self.output.read(name)).hexdigest() == str(entry["sha256"])

    def _rows(self, file: ShardFile) -> Rows:
        records = self._records(file)
        bounds = np.concatenate(([0], np.cumsum(file.sizes)))
        lengths = file.lengths.astype(np.int64)
        inner = ranges(np.zeros(len(file.sizes), np.int64), file.sizes)
        names = [each.conversation for each in records]
        return Rows(
            input_ids=np.frombuffer(b"".join([each.ids for each in records]), "<i4"),
            loss_mask=np.frombuffer(b"".join([each.mask for each in records]), np.uint8),
            position_ids=ranges(np.zeros_like(file.lengths), file.lengths),
            segment_ids=np.repeat(inner.astype(np.int32), lengths),
            offsets=np.concatenate(([0], np.cumsum(lengths)))[bounds],
            bucket=file.bucket.astype(np.int32),
            conversation_ids=[names[a:b] for a, b in pairwise(bounds.tolist())],
        )

    def _records(self, file: ShardFile) -> list[Record]:
        """The conversations of a file, in order; each unit is read once."""
        found: list[Record | None] = [None] * len(file.lengths)
        order = np.argsort(file.unit, kind="stable")
        bounds = np.searchsorted(file.unit[order], np.arange(len(file.units) + 1))
        for name, (begin, end) in zip(file.units, pairwise(bounds.tolist()), strict=True):
            chosen = order[begin:end]
            parts = self.units.ranges(
                f"{name}.tokens", file.starts[chosen].tolist(), file.records[chosen].tolist()
            )
            lengths = file.lengths[chosen].tolist()
            for place, part, length in zip(chosen.tolist(), parts, lengths, strict=True):
                found[place] = self._record(name, part, length)
        return [each for each in found if each is not None]

    def _record(self, unit: str, part: bytes, length: int) -> Record:
        try:
            return record(part, length)
        except ValueError as error:
            self.units.delete(f"{unit}.rows")  # so that the next run makes the unit again
            raise InputError(f"the unit {unit} was changed on disk ({error}); run again") from error

"""Settles each row that was read: rejected, set aside by a rule, or kept; and keeps the ledger.

`glmprep bucket` writes what is kept; `glmprep verify` settles the data again to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from glmprep.entries import COMMON, DIGEST_BYTES, REJECTED, names
from glmprep.errors import InputError
from glmprep.ledger import NUMBERS, Ledger, Sums, Turns
from glmprep.records import Origin, Rejection
from glmprep.rules.lengths import no_labels, too_long
from glmprep.seen import Moved, Seen
from glmprep.store import Store
from glmprep.units import Unit, facts, read_rows

WRITTEN, SET_ASIDE = "written", "set_aside"
COLUMNS = pa.schema(
    [*((name, pa.int32()) for name in NUMBERS), ("digest", pa.binary(DIGEST_BYTES))]
)
"""What a line tells of its row: the ledger's numbers, and the digest of its ids and mask."""
SCHEMA = pa.schema([*COMMON, *COLUMNS, ("shard_row", pa.int64()), ("segment", pa.int32())])
"""The lines in a shard folder, which also tell the row of the shards and the segment in it."""
KEPT, TOO_LONG, NO_LABELS = range(3)
RULES = {TOO_LONG: too_long.id, NO_LABELS: no_labels.id}
"""How a row is settled, and the rule by which it is set aside."""
REJECTED_SCHEMA = {
    "line": pl.Int64,
    "row": pl.Int32,
    "conversation": pl.String,
    "outcome": pl.String,
    "rule": pl.String,
}
REASON_COLUMNS = ("line", "conversation", "tokens", "supervised")

Bool = npt.NDArray[np.bool_]
Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Rows that are kept, in columns, in the order in which they were read.

    Row r is the `lengths[r]` tokens (int32) that lie as a record of `records[r]` bytes at
    `starts[r]` in the unit `units[unit[r]]`.
    """

    units: Sequence[str]
    unit: Int32
    lengths: Int32
    records: Int32
    starts: Int64


class Accounts:
    """The units of a run and what becomes of their rows, with some ten bytes for each.

    Rows longer than `max_length` tokens and rows without a target are set aside. `seen` and
    `ledger` hold what was added. `files` are the input files as the origins of rows name them,
    `paths` what named these; `store` is where the units are; `notes`
    are the tokenizer's, each once.
    """

    def __init__(
        self, store: Store, files: Sequence[str], paths: Sequence[str], *, max_length: int
    ) -> None:
        self.ledger = Ledger()
        self.seen = Seen(paths)
        self.notes: dict[str, None] = {}
        self.files = files
        self.store = store
        self._max_length = max_length
        self._parts: list[_Part] = []

    def add(self, unit: Unit, before: int = 0) -> None:
        """Take in the next unit, whose lines stand behind so many more."""
        path = self.files[unit.place]
        seen = Seen.from_json(self.seen.paths, unit.seen, path=path, before=before)
        lengths, supervised = unit.numbers["tokens"], unit.numbers["supervised"]
        settled = np.full(len(lengths), KEPT, np.int8)
        settled[supervised == 0] = NO_LABELS
        settled[lengths > self._max_length] = TOO_LONG
        self._parts.append(
            _Part(
                name=unit.name,
                place=unit.place,
                before=before,
                settled=settled,
                lengths=lengths,
                records=unit.records,
                rejected=tuple(seen.rejections),
            )
        )
        self.seen.add(seen)
        self.notes.update(dict.fromkeys(unit.notes))
        self._add_up(unit, seen, settled)
        if settled.any():
            self._set_aside(self._parts[-1])

    def kept(self) -> Kept:
        """The rows that are kept."""
        chosen = [part.settled == KEPT for part in self._parts]
        starts = [np.cumsum(part.records, dtype=np.int64) - part.records for part in self._parts]
        return Kept(
            units=[part.name for part in self._parts],
            unit=np.repeat(
                np.arange(len(chosen), dtype=np.int32), [int(rows.sum()) for rows in chosen]
            ),
            lengths=_joined(np.int32, [p.lengths for p in self._parts], chosen),
            records=_joined(np.int32, [p.records for p in self._parts], chosen),
            starts=_joined(np.int64, starts, chosen),
        )

    def lines(
        self, shard_row: Int64 | None = None, segment: Int64 | None = None
    ) -> Iterator[pa.Table]:
        """The ledger's lines, a unit at a time, in the order of files, lines and rows.

        `shard_row` and `segment` are the place of each row that is kept, in their order.
        """
        first = 0
        for part in self._parts:
            after = first + int((part.settled == KEPT).sum())
            yield self._lines(
                part,
                None if shard_row is None else shard_row[first:after],
                None if segment is None else segment[first:after],
            )
            first = after

    def mended(self) -> Iterator[bytes]:
        """The ledger of repairs, a unit at a time."""
        for part in self._parts:
            known = facts(self._table(part))
            path = self.files[part.place]
            moved = Moved(known["seen"]["path"], path, part.before)
            yield moved.lines(known["mended"].encode())

    def _rows(self, part: _Part) -> pl.DataFrame:
        rows = pl.from_arrow(self._table(part))
        assert isinstance(rows, pl.DataFrame)
        return rows

    def _table(self, part: _Part) -> pa.Table:
        table = read_rows(self.store, part.name, tokens=False)
        if table is None:
            raise InputError(f"the unit {part.name} was removed or changed during the run")
        return table

    def _add_up(self, unit: Unit, seen: Seen, settled: Int8) -> None:
        ledger, numbers = self.ledger, unit.numbers
        ledger.read += seen.rows
        ledger.sound += unit.sound
        ledger.rejected_turns += seen.messages - unit.sound.turns
        for repair, rows in sorted(seen.repaired.items()):
            ledger.repaired[repair] = ledger.repaired.get(repair, 0) + rows
        for one in seen.rejections:
            ledger.rejected[one.rule] = ledger.rejected.get(one.rule, 0) + 1
        ledger.tokenized += _sums(numbers, np.ones(len(settled), np.bool_))
        ledger.written += _sums(numbers, settled == KEPT)
        ledger.open_ends += int(unit.open_ends[settled == KEPT].sum())
        for code, rule in RULES.items():
            if (settled == code).any():
                before = ledger.set_aside.get(rule, Sums())
                ledger.set_aside[rule] = before + _sums(numbers, settled == code)

    def _set_aside(self, part: _Part) -> None:
        """Reject the rows of a unit that are not kept, those that are too long first."""
        rows = self._rows(part).select(REASON_COLUMNS).with_columns(settled=part.settled)
        for code, rule in RULES.items():
            for line, name, tokens, supervised, _ in rows.filter(settled=code).rows():
                self.seen.reject(
                    Rejection(
                        rule=rule,
                        reason=f"{tokens} tokens, {supervised} of them trained",
                        origin=Origin(self.files[part.place], line + part.before),
                        conversation=name,
                    )
                )

    def _lines(self, part: _Part, shard_row: Int64 | None, segment: Int64 | None) -> pa.Table:
        kept = part.settled == KEPT
        settled = pl.Series(part.settled)
        rows = self._rows(part).with_columns(
            pl.col("line") + part.before,
            outcome=settled.replace_strict({KEPT: WRITTEN}, default=SET_ASIDE),
            rule=settled.replace_strict(RULES, default=None, return_dtype=pl.String),
            shard_row=_placed(shard_row, kept),
            segment=_placed(segment, kept),
        )
        rejected = pl.DataFrame(
            [(one.origin.line, 0, one.conversation, REJECTED, one.rule) for one in part.rejected],
            schema=REJECTED_SCHEMA,
            orient="row",
        )
        both = pl.concat([rows, rejected], how="diagonal_relaxed").sort("line", "row")
        whole = both.with_columns(
            file_index=pl.lit(part.place), file=pl.lit(names(self.files)[part.place])
        )
        return whole.select(SCHEMA.names).to_arrow().cast(SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What is kept of a unit, which stands behind `before` lines.

    For each row: how it is settled, its tokens, and the bytes of its record.
    """

    name: str
    place: int
    before: int
    settled: Int8
    lengths: Int32
    records: Int32
    rejected: Sequence[Rejection]


def added_up(lines: pl.DataFrame) -> Ledger:
    """The sums of lines; what lines do not tell stays 0."""
    settled = lines.filter(pl.col("outcome") != REJECTED)
    rejected = lines.filter(pl.col("outcome") == REJECTED)["rule"].value_counts()
    set_aside = settled.filter(pl.col("outcome") == SET_ASIDE)
    tokenized = _added(settled)
    return Ledger(
        read=lines.select("file_index", "line").n_unique(),
        rejected={str(rule): rows for rule, rows in sorted(rejected.rows(), key=str)},
        sound=Turns(
            rows=settled.select("file_index", "line").n_unique(),
            trained_turns=tokenized.trained_turns,
        ),
        tokenized=tokenized,
        set_aside={str(rule): _added(part) for (rule,), part in set_aside.group_by("rule")},
        written=_added(settled.filter(pl.col("outcome") == WRITTEN)),
    )


def _added(lines: pl.DataFrame) -> Sums:
    return Sums(rows=lines.height, **{name: int(lines[name].sum()) for name in NUMBERS})


def _sums(numbers: Mapping[str, Int32], chosen: Bool) -> Sums:
    sums = {name: int(column[chosen].sum(dtype=np.int64)) for name, column in numbers.items()}
    return Sums(rows=int(chosen.sum()), **sums)


def _joined(kind: Any, columns: Sequence[npt.NDArray[Any]], chosen: Sequence[Bool]) -> Any:
    """The chosen rows of all columns as one."""
    parts = [column[rows] for column, rows in zip(columns, chosen, strict=True)]
    return np.concatenate([np.zeros(0, kind), *parts])


def _placed(places: Int64 | None, kept: Bool) -> pl.Series:
    """The places of rows that are kept as a column of all rows, null for the others."""
    column = np.zeros(len(kept), np.int64)
    if places is None:
        return pl.Series([None] * len(kept), dtype=pl.Int64)
    column[kept] = places
    return pl.select(pl.when(pl.Series(kept)).then(pl.Series(column))).to_series()

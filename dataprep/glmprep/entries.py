"""The ledger's lines: for each row that was read what became of it, in columns, as a Parquet file.

    file_index    int32   which of the input files, from 0
    file          string  its name without folders
    line          int64   the row's line in it, from 1
    row           int32   which of the rows that were made of it, from 0
    conversation  string  its id; null where the row holds none
    outcome       string  what became of it
    rule          string  the rule that left it out; null where none did

and further columns of each command, null where a row was rejected. Lines stand in the order of
files, lines and rows. The same lines give the same bytes: writer settings are pinned.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from glmprep.errors import InputError, first_line
from glmprep.records import Conversation, Rejection

REJECTED = "rejected"
DIGEST_BYTES = 16
ROWS_PER_GROUP = 1 << 16
NAME = pa.dictionary(pa.int16(), pa.string())
KEY = ("file_index", "line", "row")
COMMON = pa.schema(
    [
        ("file_index", pa.int32()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("row", pa.int32()),
        ("conversation", pa.string()),
        ("outcome", pa.string()),
        ("rule", pa.string()),
    ]
)

Int64 = npt.NDArray[np.int64]


class Entries:
    """Collects lines, a batch at a time: some hundred bytes for each, and no object.

    `files` are the input files as their rows' origins name them; `columns` what each line tells
    beyond the common columns.
    """

    def __init__(self, files: Sequence[str], columns: pa.Schema) -> None:
        self._index = {path: place for place, path in enumerate(files)}
        self._names = names(files)
        self._columns = columns
        self._batches: list[pa.RecordBatch] = []

    def add(
        self,
        rows: Sequence[Conversation],
        *,
        place: Int64,
        outcome: Sequence[str],
        rule: Sequence[str | None],
        **columns: Any,
    ) -> None:
        """Add a line for each of these rows; `place` is which of its conversation's rows it is."""
        made = [
            pa.array([self._index[row.origin.path] for row in rows], pa.int32()),
            pa.array([row.origin.line for row in rows], pa.int64()),
            pa.array(place, pa.int32()),
            pa.array([row.id for row in rows], pa.string()),
            pa.array(outcome, NAME),
            pa.array(rule, NAME),
            *(pa.array(columns[each.name], each.type) for each in self._columns),
        ]
        self._batches.append(pa.RecordBatch.from_arrays(made, schema=self._schema))

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Add a line for each row that went no further."""
        count = len(rejections)
        made = [
            pa.array([self._index[one.origin.path] for one in rejections], pa.int32()),
            pa.array([one.origin.line for one in rejections], pa.int64()),
            pa.array(np.zeros(count, np.int32)),
            pa.array([one.conversation for one in rejections], pa.string()),
            pa.array([REJECTED] * count, NAME),
            pa.array([one.rule for one in rejections], NAME),
            *(pa.nulls(count, each.type) for each in self._columns),
        ]
        self._batches.append(pa.RecordBatch.from_arrays(made, schema=self._schema))

    def table(self) -> pa.Table:
        """All lines in their order."""
        whole = pa.Table.from_batches(self._batches, self._schema)
        columns = {name: whole.column(name) for name in whole.column_names}
        files = pa.array(self._names, pa.string())
        columns["file"] = files.take(whole.column("file_index").combine_chunks())
        schema = pa.schema([*COMMON, *self._columns])
        made = {each.name: columns[each.name].cast(each.type) for each in schema}
        return pa.table(made, schema).sort_by([(name, "ascending") for name in KEY])

    @property
    def _schema(self) -> pa.Schema:
        """The columns while they are collected: names as numbers, the file's name left out."""
        named = {"outcome": NAME, "rule": NAME}
        common = [pa.field(c.name, named.get(c.name, c.type)) for c in COMMON if c.name != "file"]
        return pa.schema([*common, *self._columns])


def names(files: Iterable[str]) -> list[str]:
    """Files without their folders, which belong to a machine."""
    return [PurePath(path).name for path in files]


def places(row_of: Sequence[int]) -> Int64:
    """For each row, which of its conversation's rows it is; `row_of` as in `intake.Batch`."""
    group = np.asarray(row_of, np.int64)
    return np.arange(len(group)) - np.searchsorted(group, group)


def digests(ids: npt.NDArray[np.int32], mask: npt.NDArray[np.uint8], offsets: Int64) -> pa.Array:
    """BLAKE2b of each conversation's ids (32 bits each, little-endian) and then its mask."""
    id_bytes, mask_bytes = memoryview(ids.astype("<i4").tobytes()), memoryview(mask.tobytes())
    width = 4
    made = bytearray()
    bounds = offsets.tolist()
    for begin, end in pairwise(bounds):
        digest = blake2b(id_bytes[width * begin : width * end], digest_size=DIGEST_BYTES)
        digest.update(mask_bytes[begin:end])
        made += digest.digest()
    kind = pa.binary(DIGEST_BYTES)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(bounds) - 1, [None, pa.py_buffer(made)])


def write(tables: Iterable[pa.Table], file: str | Path | io.RawIOBase | IO[bytes]) -> int:
    """Write lines as Parquet, in order, and return how many; the tables are cut anew in groups."""
    waiting: list[pa.Table] = []
    rows = 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for table in tables:
            if writer is None:
                writer = stack.enter_context(_writer(table.schema, file))
            waiting.append(table)
            rows += table.num_rows
            while sum(part.num_rows for part in waiting) >= ROWS_PER_GROUP:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, ROWS_PER_GROUP).combine_chunks())
                waiting = [whole.slice(ROWS_PER_GROUP)]
        if writer is not None and sum(part.num_rows for part in waiting):
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
    return rows


def _writer(schema: pa.Schema, file: str | Path | io.RawIOBase | IO[bytes]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=["file_index", "file", "outcome", "rule"],
        column_encoding={"line": "DELTA_BINARY_PACKED"},
        version="2.6",
        store_schema=False,
    )


def read(path: Path, schema: pa.Schema) -> pl.DataFrame:
    """The lines of a Parquet file; raises InputError for one that is missing or another."""
    try:
        table = pq.read_table(path, schema=schema)
        if any(table.column(name).null_count for name in (*KEY, "file", "outcome")):
            raise ValueError("a column is missing or has gaps")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a ledger ({first_line(error)})") from error
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame

"""Tables to rows: CSV and TSV with a header, and Parquet, a batch at a time.

A row of a table is the object of its columns; what is null is left out of it, since a table has
every column in every row, and a nested one every field.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import IO, Any, Self

from glmprep import remote
from glmprep.errors import InputError
from glmprep.findings import Severity, rule
from glmprep.lines import MAX_LINE_BYTES, invalid_utf8, skip_line
from glmprep.records import Origin, RawRow, Rejection

BATCH = 1024
TOKENS = "input_ids"
"""The column by which sets that are tokenized already are known, our shards among them."""


@rule("DF025", Severity.ERROR)
def malformed_record(fields: Sequence[str], header: Sequence[str]) -> str | None:
    """A row of a table does not fit its header.

    Evidence: rows of CSV or TSV files that are not as their header says: {count}.
    Why: a quote that is missing, or a comma too many, moves text from one column to the next, so
    that answers are taken for questions.
    Fix: write the file with a library for CSV, which quotes text that holds commas and line breaks.
    """
    if len(fields) == len(header):
        return None
    return f"{len(fields)} fields, where the header has {len(header)}"


def csv_rows(path: str, file: IO[bytes], tabs: bool) -> Iterator[RawRow | Rejection]:
    """The records of a table in text, each with the line that it begins in.

    Raises InputError for a header that names a column twice.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    text = _Lines(file)
    reader = csv.reader(text, delimiter="\t" if tabs else text.separator(), strict=True)
    header: list[str] | None = None
    while True:
        origin = Origin(path, text.read + 1)
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Rejection(rule=malformed_record.id, reason=f"not CSV: {error}", origin=origin)
            continue
        if fields is None:
            return
        if not fields:
            continue
        if header is None:
            header = _header(path, fields)
            continue
        yield _record(fields, header, origin)


def _header(path: str, fields: Sequence[str]) -> list[str]:
    header = [name.strip() for name in fields]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}:1: two columns are called {twice[:40]!r}")
    return header


def _record(fields: list[str], header: list[str], origin: Origin) -> RawRow | Rejection:
    reason = malformed_record(fields, header)
    if reason is not None:
        return Rejection(rule=malformed_record.id, reason=reason, origin=origin)
    for field in fields:
        if not field.isascii() and (reason := invalid_utf8(_bytes(field))) is not None:
            return Rejection(rule=invalid_utf8.id, reason=reason, origin=origin)
    value = {name: field for name, field in zip(header, fields, strict=True) if field}
    return RawRow(value=value, origin=origin)


class _Lines:
    """The lines of a file as text, in which bytes that are not UTF-8 are kept as surrogates.

    A line that is too long is passed over and raises csv.Error; the next one can be read then.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.read = 0
        self._file = file
        self._head: bytes | None = file.readline(MAX_LINE_BYTES + 1)

    def separator(self) -> str:
        """The semicolon, as spreadsheets in half of Europe write it, or the comma."""
        return ";" if self._head and b";" in self._head and b"," not in self._head else ","

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_BYTES + 1) if self._head is None else self._head
        self._head = None
        if not line:
            raise StopIteration
        self.read += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            skip_line(self._file)
            raise csv.Error(f"a line longer than {MAX_LINE_BYTES >> 20} MiB")
        return line.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def parquet_rows(path: str) -> Iterator[RawRow | Rejection]:
    """The rows of a Parquet file, counted from 1; raises InputError where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(remote.opened(path) if remote.is_url(path) else path) as file:
            if TOKENS in file.schema_arrow.names:
                raise InputError(f"{path}: holds tokens; give the data that they were made from")
            for batch in file.iter_batches(batch_size=BATCH):
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(value=_without_nulls(value), origin=Origin(path, number))
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as Parquet: {reason}") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value

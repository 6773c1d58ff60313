"""A look at data that may be large: some thousand rows, from all of its files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import orjson

from glmprep import read, remote
from glmprep.lines import MAX_LINE_BYTES, line_rows, skip_line
from glmprep.read import COMPRESSED, DataFile
from glmprep.records import RawRow, Rejection

ROWS = 2000
LEAST = 50
BYTES = 16 << 20
"""Rows that are looked at, of each file at least so many, and the size at which it ends."""
PLACES = 16
"""Places of a large file of JSON Lines from which rows are taken, evenly spaced."""

Row = RawRow | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """Rows that were looked at; `size` is that of the files on disk, in bytes.

    `whole` says that these are all rows; `total` is about how many there are, None where the kind
    of a file does not tell.
    """

    rows: Sequence[Row]
    files: int
    size: int
    total: int | None
    whole: bool


def glimpse(files: Sequence[DataFile]) -> Glimpse:
    """Look at files, each by its share of all bytes; raises InputError for one that is no data."""
    sizes = [_size(file.path) for file in files]
    rows: list[Row] = []
    totals: list[int | None] = []
    whole = True
    for file, size in zip(files, sizes, strict=True):
        share = size / max(1, sum(sizes))
        found, all_of_it, total = _of_file(file, max(LEAST, int(ROWS * share)), int(BYTES * share))
        rows += found
        totals.append(total)
        whole = whole and all_of_it
    known = [total for total in totals if total is not None]
    return Glimpse(
        rows=rows,
        files=len(files),
        size=sum(sizes),
        total=sum(known) if len(known) == len(totals) else None,
        whole=whole,
    )


def _of_file(file: DataFile, rows: int, size: int) -> tuple[list[Row], bool, int | None]:
    """Some rows of a file, whether these are all, and about how many there are."""
    with read.opened(file.path) as (kind, _):
        pass
    reading = iter(read.file_rows(file))
    first = list(_until(reading, rows, size))
    if next(reading, None) is None:
        return first, True, len(first)
    if kind == "array":
        return first, False, len(first) + 1 + sum(1 for _ in reading)
    if kind == "parquet":
        return first, False, _parquet_rows(file.path)
    if kind != "lines" or str(read.real_path(file.path)).endswith(COMPRESSED):
        return first, False, None
    found, taken = _spread(file, rows, size)
    return found, False, round(_size(file.path) / max(1, taken) * len(found))


def _parquet_rows(path: str) -> int:
    import pyarrow.parquet as pq

    with _raw(path) as file:
        return int(pq.read_metadata(file).num_rows)


def _size(path: str) -> int:
    with read.reading(path), _raw(path) as file:
        return file.seek(0, io.SEEK_END)


def _raw(path: str) -> IO[bytes]:
    """The file as it lies there, here or behind a URL."""
    return remote.opened(path) if remote.is_url(path) else read.real_path(path).open("rb")


def _until(rows: Iterable[Row], most: int, size: int) -> Iterator[Row]:
    """The first rows, up to a number or a size."""
    for count, row in enumerate(rows, 1):
        yield row
        size -= len(orjson.dumps(row.value)) if isinstance(row, RawRow) else 0
        if count >= most or size <= 0:
            return


def _spread(file: DataFile, rows: int, size: int) -> tuple[list[Row], int]:
    """Rows from evenly spaced places, and how many bytes they are.

    As its line a row has the byte at which its place begins, and its own place in there.
    """
    found: list[Row] = []
    taken, length = 0, _size(file.path)
    with read.reading(file.path), _raw(file.path) as text:
        for place in range(PLACES):
            begin, end = length * place // PLACES, length * (place + 1) // PLACES
            text.seek(begin)
            if place:
                skip_line(text)
            part = b"".join(_lines(text, end, -(-rows // PLACES), size // PLACES))
            found += read.described(line_rows(file.path, io.BytesIO(part), begin), file.description)
            taken += len(part)
    return found, taken


def _lines(text: IO[bytes], end: int, most: int, size: int) -> Iterator[bytes]:
    """Lines that begin before `end`, one at least if there is one."""
    while most > 0 and size > 0 and text.tell() < end:
        line = text.readline(MAX_LINE_BYTES + 1)
        yield line
        most, size = most - 1, size - len(line)

"""Input in blocks: line-aligned parts of files, each of which can be worked on by itself.

A block of JSON Lines is about BLOCK_BYTES long; a file of another kind is one block. A block names
its bytes by their digest, so that what was made of them is known again, and a file that changed
meanwhile is noticed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import IO, Any

from glmprep import lines, read
from glmprep.errors import InputError
from glmprep.read import BOM, COMPRESSED, DataFile, Kind
from glmprep.records import RawRow, Rejection

BLOCK_BYTES = 4 << 20
DIGEST_BYTES = 16
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Part of a file: `size` bytes from `start` on, behind `before` lines; or the whole of it.

    `place` is which of the input files it is, from 0. `data` holds the bytes where they cannot be
    read again from the file: they were compressed, came through a pipe, or were made by an earlier
    stage (`derived`). Rows of a derived block have ids of their own, and its lines are counted
    from 1, since those before it may still change.
    """

    file: DataFile
    place: int
    kind: Kind
    digest: str
    size: int
    start: int = 0
    before: int = 0
    data: bytes | None = None
    derived: bool = False

    def rows(self) -> Iterator[RawRow | Rejection]:
        """The block's rows; raises InputError where the file is not what it was."""
        path, description = self.file.path, self.file.description
        if self.kind == "lines":
            text = io.BytesIO(self.data if self.data is not None else self._part())
            yield from read.described(lines.line_rows(path, text, self.before), description)
        elif self.data is not None:
            rows = read.READERS[self.kind](path, io.BytesIO(self.data))
            yield from read.described(rows, description)
        else:
            yield from read.file_rows(self.file)
            self._require_same(_whole(path)[1])

    def named(self) -> list[Any]:
        """What of the block decides what is made of it; where it lies is not part of that.

        The name and the lines before it are: of them ids are made for rows that have none.
        """
        place = [] if self.derived else [PurePath(self.file.path).name, self.before]
        return [self.digest, repr(self.file.description), *place]

    def _part(self) -> bytes:
        path = self.file.path
        with read.reading(path), read.opened_raw(path) as file:
            file.seek(self.start)
            data = file.read(self.size)
        self._require_same(_digest(data))
        return data

    def _require_same(self, digest: str) -> None:
        if digest != self.digest:
            raise InputError(f"{self.file.path}: changed while it was read; run again")


def blocks(files: Sequence[DataFile]) -> Iterator[Block]:
    """The blocks of all files, in order; raises InputError for a file that cannot be read."""
    for place, file in enumerate(files):
        yield from file_blocks(place, file)


def file_blocks(place: int, file: DataFile) -> Iterator[Block]:
    """The blocks of one file, which is number `place` among the inputs."""
    again = read.is_there_again(file.path)
    with read.opened(file.path) as (kind, text):
        if kind == "lines":
            yield from _line_blocks(place, file, text)
            return
        data = None if again else text.read(lines.MAX_ARRAY_BYTES)
    size, digest = _whole(file.path) if data is None else (len(data), _digest(data))
    yield Block(file=file, place=place, kind=kind, digest=digest, size=size, data=data)


def _line_blocks(place: int, file: DataFile, text: IO[bytes]) -> Iterator[Block]:
    packed = str(read.real_path(file.path)).endswith(COMPRESSED)
    again = read.is_there_again(file.path) and not packed
    start = _mark_bytes(file.path) if again else 0
    before = 0
    while data := text.read(BLOCK_BYTES):
        if not data.endswith(b"\n"):
            data += text.readline(lines.MAX_LINE_BYTES + 1)
        # The rest of a line that is too long for a row is left out: its beginning tells.
        skipped = 0 if data.endswith(b"\n") else _skip(text)
        yield Block(
            file=file,
            place=place,
            kind="lines",
            digest=_digest(data),
            size=len(data),
            start=start,
            before=before,
            data=None if again else data,
        )
        start += len(data) + skipped
        before += data.count(b"\n") + (not data.endswith(b"\n"))


def _skip(text: IO[bytes]) -> int:
    """Pass over the rest of a line; how many bytes it was."""
    skipped = 0
    while part := text.readline(lines.SKIP_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _mark_bytes(path: str) -> int:
    """The length of the byte order mark that a file begins with."""
    with read.reading(path), read.opened_raw(path) as file:
        return len(BOM) if file.read(len(BOM)) == BOM else 0


def derived(path: str, data: bytes) -> Block:
    """The lines that a stage made of a block, as a block for the next; they will lie in `path`."""
    file = DataFile(path)
    return Block(
        file=file,
        place=0,
        kind="lines",
        digest=_digest(data),
        size=len(data),
        data=data,
        derived=True,
    )


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def _whole(path: str) -> tuple[int, str]:
    """The size and the digest of a whole file as it lies there."""
    found, size = blake2b(digest_size=DIGEST_BYTES), 0
    with read.reading(path), read.opened_raw(path) as file:
        while part := file.read(COPY_BYTES):
            found.update(part)
            size += len(part)
    return size, found.hexdigest()

"""Files to rows: what paths name, and how each kind of file is read.

JSON Lines, JSON arrays, CSV and TSV, plain, gzip or zstd; Parquet; and data sets that a
dataset_info.json of LLaMA-Factory describes.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import IO, Literal, cast

from glmprep import lines, remote, tables
from glmprep.errors import InputError
from glmprep.records import RawRow, Rejection
from glmprep.schemas import dataset_info
from glmprep.schemas.dataset_info import Description

Kind = Literal["lines", "array", "csv", "tsv", "parquet"]
SAMPLE = "sample:"
"""Before the name of a sample that ships with this package: real conversations to try things on."""
REJECTS = "rejects.jsonl"
LISTS = (REJECTS, "repairs.jsonl", "ledger.parquet")
"""How the names of files end that commands write beside their output: what became of rows."""
TEXT = (".jsonl", ".json", ".ndjson", ".csv", ".tsv")
PARQUET = ".parquet"
COMPRESSED = (".gz", ".zst")
MANIFEST, SHARDS = "manifest.json", "shard-*.parquet"
HEAD_BYTES = 4096
MAX_BLANK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows, and how dataset_info.json describes them, if it does."""

    path: str
    description: Description | None = None


def read(paths: Sequence[str]) -> Iterator[RawRow | Rejection]:
    """The rows of files, folders, globs, samples or standard input (`-`), in order.

    Raises InputError for a path that is missing, holds no data, or is no text.
    """
    for file in files(paths):
        yield from file_rows(file)


def file_rows(file: DataFile) -> Iterator[RawRow | Rejection]:
    """The rows of one file."""
    with opened(file.path) as (kind, text):
        yield from described(READERS[kind](file.path, text), file.description)


def described(
    rows: Iterable[RawRow | Rejection], description: Description | None
) -> Iterator[RawRow | Rejection]:
    """Rows as a dataset_info.json describes them."""
    for row in rows:
        if description is not None and isinstance(row, RawRow):
            row = replace(row, value=description.standard(row.value))
        yield row


def find(paths: Sequence[str]) -> list[str]:
    """The names of the data files that `paths` name (see `files`)."""
    return [file.path for file in files(paths)]


def files(paths: Sequence[str]) -> list[DataFile]:
    """The data files that `paths` name, each once; raises InputError where a path names none.

    A folder stands for all data files in it and below, without shards and lists of what became of
    rows.
    """
    found: list[DataFile] = []
    for path in paths:
        if path == "-" and DataFile("-") in found:
            raise InputError("-: standard input can be read only once")
        found += _named(path)
    for file in found:
        if file.path.encode("utf-8", "replace").decode() != file.path:
            raise InputError(f"{file.path}: the file's name is not UTF-8; rename it")
    once: dict[str, DataFile] = {}
    for file in found:
        once.setdefault(os.path.realpath(file.path), file)
    return list(once.values())


@contextmanager
def opened(path: str) -> Iterator[tuple[Kind, IO[bytes]]]:
    """What kind of file this is, and its content, unpacked and without a byte order mark.

    Raises InputError for what cannot be read, in the block too.
    """
    with reading(path), closing(_open(path)) as file:
        yield _looked_at(path, file)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns what goes wrong while a file is read into InputError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read: {reason}") from error


def samples() -> list[str]:
    """The samples that ship with this package, as commands take them."""
    names = (path.name.partition(".")[0] for path in _samples().iterdir() if _is_data(path))
    return [SAMPLE + name for name in sorted(names)]


def _named(path: str) -> list[DataFile]:
    """The files that one path names."""
    path = remote.local(path)
    if remote.is_url(path):
        return [DataFile(url) for url in remote.find(path, lambda name: _is_data(Path(name)))]
    if path.startswith(SAMPLE) and not _sample(path).is_file():
        raise InputError(f"{path}: no such sample; there are {', '.join(samples())}")
    info, colon, name = path.rpartition(":")
    if Path(path).name == dataset_info.FILE and Path(path).is_file():
        return _only_entry(path)
    if path == "-" or path.startswith(SAMPLE) or _is_readable(Path(path)):
        return [DataFile(path)]
    if Path(path).is_dir():
        return _below(Path(path))
    if colon and info.endswith(".json") and Path(info).is_file():
        return _described(*dataset_info.find(info, name))
    matches = sorted(p for p in glob.glob(path, recursive=True) if _is_rows(Path(p)))
    if not matches:
        raise InputError(f"{path}: no such file")
    return [DataFile(match) for match in matches]


def _only_entry(path: str) -> list[DataFile]:
    """The one set that lies beside a dataset_info.json; InputError where there are several."""
    names = sorted(name for group in dataset_info.local_files(path).values() for name in group)
    if len(names) != 1:
        known = ", ".join(names) or "none"
        raise InputError(f"{path}: write {path}:NAME for one of its data sets; there are {known}")
    return _described(*dataset_info.find(path, names[0]))


def _described(path: str, description: Description) -> list[DataFile]:
    """The file, or the files in the folder, of an entry of dataset_info.json."""
    if Path(path).is_dir():
        return [DataFile(file.path, description) for file in _below(Path(path))]
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    if path.endswith(".txt"):
        raise InputError(f"{path}: is running text, for pretraining; fine-tuning needs answers")
    return [DataFile(path, description)]


def _below(folder: Path) -> list[DataFile]:
    """All data files in a folder and below, as a dataset_info.json beside them describes them."""
    if _holds_shards(folder):
        raise InputError(f"{folder}: holds shards; give the data that they were made from")
    data = (path for path in folder.rglob("*") if path.is_file() and _is_data(path))
    files = sorted(str(path) for path in data if not _holds_shards(path.parent))
    if not files:
        raise InputError(f"{folder}: no data files ({', '.join((*TEXT, PARQUET))}, .gz or .zst)")
    info = str(folder / dataset_info.FILE)
    named = dataset_info.local_files(info) if Path(info).is_file() else {}
    return [DataFile(path, _description(info, named.get(path, []))) for path in files]


def _description(info: str, names: Sequence[str]) -> Description | None:
    """What all of these entries, which name the same file, say of its rows."""
    found = [dataset_info.find(info, name)[1] for name in names]
    if any(other != found[0] for other in found[1:]):
        alike = ", ".join(f"{info}:{name}" for name in names)
        raise InputError(f"{info}: describes one file in several ways; name one of {alike}")
    return found[0] if found else None


def _holds_shards(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and any(folder.glob(SHARDS))


def _is_readable(path: Path) -> bool:
    """A file or a pipe, such as the shell's <(command)."""
    return path.exists() and not path.is_dir()


def _is_rows(path: Path) -> bool:
    return path.is_file() and path.name != dataset_info.FILE


def _samples() -> Path:
    with resources.as_file(resources.files("glmprep") / "assets" / "samples") as folder:
        return folder


def _sample(path: str) -> Path:
    """The file of `sample:NAME`."""
    return _samples() / f"{path.removeprefix(SAMPLE) or '-'}.jsonl.gz"


def real_path(path: str) -> Path:
    """Where a file is that may be a sample."""
    return _sample(path) if path.startswith(SAMPLE) else Path(path)


def _is_data(path: Path) -> bool:
    name = _plain_name(path.name)
    if name.endswith(LISTS) or name == dataset_info.FILE:
        return False
    return name.endswith(TEXT) or path.name.endswith(PARQUET)


def _plain_name(name: str) -> str:
    """A file's name without what says that it is compressed."""
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def is_there_again(path: str) -> bool:
    """Whether a file can be read once more, as a pipe cannot."""
    return remote.is_url(path) or real_path(path).is_file()


def opened_raw(path: str) -> io.BufferedReader:
    """The bytes of a file as they lie there; raises OSError or InputError."""
    return remote.opened(path) if remote.is_url(path) else real_path(path).open("rb")


def _open(path: str) -> io.BufferedReader:
    if path == "-":
        return cast(io.BufferedReader, sys.stdin.buffer)
    far = remote.opened(path) if remote.is_url(path) else None
    path = path if far else str(real_path(path))
    if path.endswith(".gz"):
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(far or path, "rb")))
    if path.endswith(".zst"):
        import pyarrow as pa  # which, unlike others, fails on a file that was cut off

        return io.BufferedReader(pa.input_stream(far or path, compression="zstd"))
    return far or open(path, "rb")


def _looked_at(path: str, file: io.BufferedReader) -> tuple[Kind, IO[bytes]]:
    head = _head(file)
    text = io.BufferedReader(_Joined(head.removeprefix(BOM), file), BUFFER_BYTES)
    if head.startswith(b"PAR1"):
        is_file = remote.is_url(path) or Path(path).is_file()
        if not is_file or _plain_name(path) != path:
            raise InputError(f"{path}: Parquet in a pipe or compressed once more; name the file")
        return "parquet", text
    _require_text(path, head)
    name = _plain_name(path)
    if name.endswith((".csv", ".tsv")):
        return ("tsv" if name.endswith(".tsv") else "csv"), text
    is_array = head.removeprefix(BOM).lstrip(BLANK).startswith(b"[")
    return ("array" if is_array else "lines"), text


READERS: Mapping[Kind, Callable[[str, IO[bytes]], Iterator[RawRow | Rejection]]] = {
    "lines": lines.line_rows,
    "array": lines.array_rows,
    "csv": partial(tables.csv_rows, tabs=False),
    "tsv": partial(tables.csv_rows, tabs=True),
    "parquet": lambda path, _: tables.parquet_rows(path),
}


def _head(file: IO[bytes]) -> bytes:
    """The beginning of a file, as far as to what stands behind blank lines."""
    head = file.read(HEAD_BYTES)
    while not head.removeprefix(BOM).lstrip(BLANK) and len(head) < MAX_BLANK_BYTES:
        more = file.read(HEAD_BYTES)
        if not more:
            break
        head += more
    return head


def _require_text(path: str, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head[:2] in (b"{\0", b"[\0", b"\0{", b"\0["):
        raise InputError(f"{path}: is UTF-16; convert it with iconv -f UTF-16 -t UTF-8")
    if b"\0" in head:
        raise InputError(f"{path}: is a binary file; give JSON Lines text")


class _Joined(io.RawIOBase):
    """The beginning of a file, which was read to look at it, and the rest."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._head, self._rest = memoryview(head), rest

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer, from the beginning first; 0 at the end."""
        if not self._head:
            return self._rest.readinto1(buffer)
        taken = min(len(buffer), len(self._head))
        buffer[:taken] = self._head[:taken]
        self._head = self._head[taken:]
        return taken

"""Files to rows: JSON Lines or a JSON array, plain, gzip or zstd, in bounded memory.

Rules here take one line's bytes and return a reason, or None when the line is sound.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import IO, cast

import orjson

from glmprep.errors import InputError
from glmprep.findings import Severity, rule
from glmprep.records import Origin, RawRow, Rejection

SAMPLE = "sample:"
"""Before the name of a sample that ships with this package: real conversations to try things on."""
REJECTS = "rejects.jsonl"
SUFFIXES = (".jsonl", ".json", ".ndjson")
COMPRESSED = (".gz", ".zst")
MAX_LINE_BYTES = 32 << 20
MAX_ARRAY_BYTES = 2 << 30
SKIP_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


@rule("DF001", Severity.ERROR)
def invalid_json(line: bytes) -> str | None:
    """A line is not JSON.

    Evidence: lines that cannot be parsed as JSON: {count}.
    Why: such a line cannot be trained on; often a file was cut off, or objects span several lines.
    Fix: write one JSON object per line; the location and the parser's words are in the examples.
    """
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg} at column {error.colno}"
    return None


@rule("DF002", Severity.ERROR)
def invalid_utf8(line: bytes) -> str | None:
    """A line is not UTF-8.

    Evidence: lines with bytes that are not UTF-8: {count}.
    Why: the file was written in another encoding (GBK is common), so its text would be garbled.
    Fix: convert the file, for example with iconv -f GBK -t UTF-8.
    """
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1}"
    return None


@rule("DF003", Severity.ERROR)
def line_too_long(line: bytes, limit: int = MAX_LINE_BYTES) -> str | None:
    """A line is longer than any conversation.

    Evidence: lines longer than the limit for one line: {count}.
    Why: it is mostly a file without line breaks, and would have to fit in memory at once.
    Fix: write one conversation per line.
    """
    return f"longer than {limit >> 20} MiB" if len(line) > limit else None


def read(paths: Sequence[str]) -> Iterator[RawRow | Rejection]:
    """The rows of files, folders, globs, samples or standard input (`-`), in order.

    Raises InputError for a path that is missing, holds no data, or is no text.
    """
    for path in find(paths):
        try:
            with closing(_open(path)) as file:
                yield from _rows(path, file)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be read: {reason}") from error


def find(paths: Sequence[str]) -> list[str]:
    """The data files that `paths` name, each once; raises InputError where a path names none.

    A folder stands for all data files in it and below, without lists of rejected rows.
    """
    found: list[str] = []
    for path in paths:
        if path == "-" and path in found:
            raise InputError("-: standard input can be read only once")
        if path == "-" or _sample(path).is_file() or _is_readable(Path(path)):
            found.append(path)
        elif path.startswith(SAMPLE):
            raise InputError(f"{path}: no such sample; there are {', '.join(samples())}")
        elif Path(path).is_dir():
            files = sorted(str(p) for p in Path(path).rglob("*") if p.is_file() and _is_data(p))
            if not files:
                raise InputError(f"{path}: no data files ({', '.join(SUFFIXES)}, .gz or .zst)")
            found += files
        else:
            matches = sorted(p for p in glob.glob(path, recursive=True) if Path(p).is_file())
            if not matches:
                raise InputError(f"{path}: no such file")
            found += matches
    for path in found:
        if path.encode("utf-8", "replace").decode() != path:
            raise InputError(f"{path}: the file's name is not UTF-8; rename it")
    once: dict[str, str] = {}
    for path in found:
        once.setdefault(os.path.realpath(path), path)
    return list(once.values())


def _is_readable(path: Path) -> bool:
    """A file or a pipe, such as the shell's <(command)."""
    return path.exists() and not path.is_dir()


def samples() -> list[str]:
    """The samples that ship with this package, as commands take them."""
    names = (path.name.partition(".")[0] for path in _samples().iterdir() if _is_data(path))
    return [SAMPLE + name for name in sorted(names)]


def _samples() -> Path:
    with resources.as_file(resources.files("glmprep") / "assets" / "samples") as folder:
        return folder


def _sample(path: str) -> Path:
    """The file of `sample:NAME`; a path that does not exist for anything else."""
    name = path.removeprefix(SAMPLE) if path.startswith(SAMPLE) else ""
    return _samples() / f"{name or '-'}.jsonl.gz"


def _is_data(path: Path) -> bool:
    name = path.name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name.endswith(SUFFIXES) and not name.endswith(REJECTS)


def _open(path: str) -> io.BufferedReader:
    if path == "-":
        return cast(io.BufferedReader, sys.stdin.buffer)
    if path.startswith(SAMPLE):
        path = str(_sample(path))
    if path.endswith(".gz"):
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path, "rb")))
    if path.endswith(".zst"):
        import pyarrow as pa  # which, unlike others, fails on a file that was cut off

        return io.BufferedReader(pa.input_stream(path, compression="zstd"))
    return open(path, "rb")


def _rows(path: str, file: io.BufferedReader) -> Iterator[RawRow | Rejection]:
    head = file.peek(4096)[:4096]
    if b"\0" in head:
        raise InputError(f"{path}: is a binary file; give JSON Lines text")
    if head.removeprefix(BOM).lstrip().startswith(b"["):
        return _array(path, file)
    return _lines(path, file)


def _array(path: str, file: IO[bytes]) -> Iterator[RawRow | Rejection]:
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise InputError(f"{path}: a JSON array over {MAX_ARRAY_BYTES >> 30} GiB; use JSON Lines")
    try:
        values = orjson.loads(data.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not a JSON array: {error.msg}") from error
    for place, value in enumerate(values, 1):
        yield RawRow(value=value, origin=Origin(path, place))


def _lines(path: str, file: IO[bytes]) -> Iterator[RawRow | Rejection]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        origin = Origin(path, number)
        if number == 1:
            line = line.removeprefix(BOM)
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            _skip_line(file)
        elif not line.strip():
            continue
        else:
            try:
                yield RawRow(value=orjson.loads(line), origin=origin)
                continue
            except orjson.JSONDecodeError:
                pass
        yield _rejection(line, origin)


def _skip_line(file: IO[bytes]) -> None:
    """Pass over the rest of a line without holding it."""
    while (part := file.readline(SKIP_BYTES)) and not part.endswith(b"\n"):
        pass


def _rejection(line: bytes, origin: Origin) -> Rejection:
    for check in (line_too_long, invalid_utf8, invalid_json):
        if reason := check(line):
            return Rejection(rule=check.id, reason=reason, origin=origin)
    raise AssertionError(f"{origin}: rejected, yet no rule says why")

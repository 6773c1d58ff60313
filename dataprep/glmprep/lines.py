"""JSON Lines and JSON arrays to rows, in bounded memory where there are lines.

Rules here take one line's bytes and return a reason, or None when the line is sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import orjson

from glmprep.errors import InputError
from glmprep.findings import Severity, rule
from glmprep.records import Origin, RawRow, Rejection

MAX_LINE_BYTES = 32 << 20
MAX_ARRAY_BYTES = 2 << 30
SKIP_BYTES = 1 << 20


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


def array_rows(path: str, file: IO[bytes]) -> Iterator[RawRow | Rejection]:
    """The items of one JSON array; raises InputError where it is none, or too large."""
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise InputError(f"{path}: a JSON array over {MAX_ARRAY_BYTES >> 30} GiB; use JSON Lines")
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not a JSON array: {error.msg}") from error
    for place, value in enumerate(values, 1):
        yield RawRow(value=value, origin=Origin(path, place))


def line_rows(path: str, file: IO[bytes], before: int = 0) -> Iterator[RawRow | Rejection]:
    """A row a line; blank lines are counted and passed over, and so are the lines `before`."""
    number = before
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        origin = Origin(path, number)
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            skip_line(file)
        elif line.isspace():
            continue
        else:
            try:
                yield RawRow(value=orjson.loads(line), origin=origin)
                continue
            except orjson.JSONDecodeError:
                pass
        yield _rejection(line, origin)


def skip_line(file: IO[bytes]) -> None:
    """Pass over the rest of a line without holding it."""
    while (part := file.readline(SKIP_BYTES)) and not part.endswith(b"\n"):
        pass


def _rejection(line: bytes, origin: Origin) -> Rejection:
    for check in (line_too_long, invalid_utf8, invalid_json):
        if reason := check(line):
            return Rejection(rule=check.id, reason=reason, origin=origin)
    raise AssertionError(f"{origin}: rejected, yet no rule says why")

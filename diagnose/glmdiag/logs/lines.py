"""Text lines of a file, whatever is wrong with it: encoding, NUL bytes, lines without an end."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from glmprep.console import file_errors

LONGEST_LINE = 1 << 22  # bytes; a step takes some hundred, one with all its rows some thousand
PROBE = 1 << 16  # bytes from which the encoding is told
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MOST_NULS = 0.3  # of a file: more is no text


def encoding_of(start: bytes) -> str | None:
    """The encoding of a file that begins so; None for what is not text.

    Logs of Windows consoles are UTF-16 or GB18030. What is neither is read as UTF-8, and bytes that
    are none are replaced: a log in the wrong encoding still has its numbers.
    """
    for mark, name in MARKS:
        if start.startswith(mark):
            return name
    if not start:
        return "utf-8"
    nuls = start.count(0)
    if nuls > MOST_NULS * len(start):
        return "utf-16-le" if start[1::2].count(0) > 0.8 * len(start[1::2]) else None
    control = sum(
        start.count(bytes([c])) for c in range(1, 32) if c not in (7, 8, 9, 10, 12, 13, 27)
    )
    return None if control > 0.02 * len(start) else "utf-8"


class Lines:
    """The lines of a file; `cut` says whether the last has no end, `long` how many were too long.

    A carriage return ends a line too: progress bars write over themselves by it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cut = False
        self.long = 0
        self.nuls = False

    def __iter__(self) -> Iterator[str]:
        with file_errors(self._path), self._path.open("rb") as file:
            encoding = encoding_of(file.read(PROBE)) or "utf-8"
            file.seek(0)
            if encoding.startswith("utf-16"):
                yield from codecs.getreader(encoding)(file, "replace")
                return
            yield from self._plain(file)

    def _plain(self, file: BinaryIO) -> Iterator[str]:
        first = True
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                self.long += 1
                self._skip(file)
                continue
            if first:
                line, first = line.removeprefix(codecs.BOM_UTF8), False
            if b"\0" in line:
                self.nuls = True
                line = line.replace(b"\0", b"")
            self.cut = not line.endswith(b"\n")
            yield line.decode("utf-8", errors="replace")

    def _skip(self, file: BinaryIO) -> None:
        """To the end of a line that is too long."""
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass

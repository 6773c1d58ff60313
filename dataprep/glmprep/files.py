"""Files that are either whole or not there, and their digests."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from glmprep.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


def require_other(output: Path, inputs: Sequence[str]) -> None:
    """Raise UsageError for an output that is no file, or that is one of the inputs."""
    if output.exists() and not output.is_file():
        raise UsageError(f"{output}: is a folder or a device; name a file")
    if output.exists() and any(Path(file).exists() and output.samefile(file) for file in inputs):
        raise UsageError(f"{output}: is also an input; name another output")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` only when the block ends without an error.

    Folders above it are made. Raises OSError as opening and renaming do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two that write the same at once, such as a worker that was taken for dead, must not mix.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or not there, also after a loss of power."""
    with replacing(path) as file:
        file.write(data)


class Hashing(io.RawIOBase):
    """Writes to a file, and knows the sha256 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Buffer) -> int:
        """Write all of it."""
        self._digest.update(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        """Hex digest of what was written so far."""
        return self._digest.hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Files that are either whole or not there, and their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from glmprep.errors import UsageError


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
    temporary = path.with_name(path.name + ".tmp")
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


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

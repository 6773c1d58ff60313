"""Named files that are either whole or not there: a folder, or a place that is like one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from glmprep.files import replacing
from glmprep.locking import locked


class Store(Protocol):
    """Files by name. Picklable, so that workers can share one. All methods raise OSError."""

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write, which is there when the block ends without an error, else not.

        One of that name is replaced.
        """

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file whole, or not at all."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""

    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several stretches of one file; shorter where the file ends."""

    def names(self) -> list[str]:
        """The names of all files, sorted."""

    def delete(self, name: str) -> None:
        """Remove a file, or a store below; nothing happens where there is none."""

    def below(self, name: str) -> Store:
        """A store in this one."""

    def locked(self) -> AbstractContextManager[None]:
        """Holds the store for one run; raises UsageError where another run holds it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A store in a folder of this machine, which is made when something is written."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write, which is there when the block ends without an error, else not."""
        return replacing(self.path / name)

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file whole, or not at all."""
        with self.writing(name) as file:
            file.writelines(parts)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return (self.path / name).read_bytes()

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several stretches of one file.

        They are read and not mapped: mapped pages would count as this process's memory.
        """
        file = os.open(self.path / name, os.O_RDONLY)
        try:
            return [os.pread(file, n, at) for at, n in zip(starts, sizes, strict=True)]
        finally:
            os.close(file)

    def names(self) -> list[str]:
        """The names of all files, sorted."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def delete(self, name: str) -> None:
        """Remove a file, or a store below; nothing happens where there is none."""
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def below(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.path / name)

    def locked(self) -> AbstractContextManager[None]:
        """Holds the folder for one run; raises UsageError where another run holds it."""
        return locked(self.path)

"""Vectors on disk, by what was encoded and by what: no text is encoded twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from glmprep.errors import InputError
from glmprep.semantics.embedder import Embedder, Float32

Progress = Callable[[int, int], None]
"""Told how many of how many texts have their vectors."""
FILE = "vectors.sqlite"
CHUNK = 64
"""Texts that are encoded and written at a time: what an interrupted run loses at most."""
ASKED = 500
"""Vectors that are asked for in one query."""
PATIENCE = 60.0
"""Seconds that one process waits for another to finish writing."""
TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"


class Cached(Embedder):
    """An encoder whose vectors are kept in a file of `folder`, exactly (as float32).

    Several processes may share the folder. It may be deleted at any time between runs.

    Raises:
        InputError: the file cannot be read or written, or holds something else.
    """

    def __init__(
        self, embedder: Embedder, folder: Path | None = None, progress: Progress | None = None
    ) -> None:
        self.name, self.dims = embedder.name, embedder.dims
        self._embedder = embedder
        self._progress = progress
        self._path = (folder or cache_folder()) / FILE
        with self._open() as store:
            store.execute(TABLE)

    def embed(self, texts: Sequence[str]) -> Float32:
        """The vectors of the encoder, read where they are known, else made and written."""
        keys = [self._key(text) for text in texts]
        found = self._known(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        todo, total = list(missing.items()), len(found) + len(missing)
        for first in range(0, len(todo), CHUNK):
            found |= self._made(todo[first : first + CHUNK])
            if self._progress is not None:
                self._progress(len(found), total)
        return np.array([found[key] for key in keys], np.float32).reshape(-1, self.dims)

    def _made(self, todo: Sequence[tuple[bytes, str]]) -> dict[bytes, Float32]:
        vectors = self._embedder.embed([text for _, text in todo])
        made = {key: vector for (key, _), vector in zip(todo, vectors, strict=True)}
        with self._open() as store:
            rows = [(key, vector.astype("<f4").tobytes()) for key, vector in made.items()]
            store.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        return made

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, Float32]:
        found: dict[bytes, Float32] = {}
        with self._open() as store:
            for first in range(0, len(keys), ASKED):
                asked = keys[first : first + ASKED]
                marks = ",".join("?" * len(asked))
                rows = store.execute(f"SELECT * FROM vectors WHERE key IN ({marks})", asked)
                found |= {key: self._vector(raw) for key, raw in rows}
        return found

    def _vector(self, raw: bytes) -> Float32:
        if len(raw) != self.dims * 4:
            raise sqlite3.DatabaseError("a vector of the wrong length")
        return np.frombuffer(raw, "<f4")

    def _key(self, text: str) -> bytes:
        said = f"{self.name}\0{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(said, digest_size=16).digest()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The file, for one transaction."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            store = sqlite3.connect(self._path, timeout=PATIENCE)
            with contextlib.closing(store), store:
                yield store
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"{self._path}: the cache of vectors cannot be used ({error}); "
                "delete the file or name another folder for it"
            ) from error


def cache_folder() -> Path:
    """Where the suite keeps what it can make again: $XDG_CACHE_HOME, else ~/.cache."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "glm-finetune-suite"

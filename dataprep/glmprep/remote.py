"""Files by URL: inputs, and stores of finished work, on what fsspec reaches.

s3, gs, oss, hdfs and others, each with a package of its own; where they are and who may see them
they take from their usual files and variables (docs/scale.md). Nothing of a listing is remembered,
since others write too.
"""

from __future__ import annotations

import bisect
import io
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, cast

from glmprep.errors import InputError
from glmprep.store import Folder, Store

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
LOCAL = {"file", "local"}
WHOLE_PUT = {"s3", "s3a", "gs", "gcs", "oss", "abfs", "abfss", "az", "memory"}
"""Where a put shows a file whole or not at all; elsewhere a file is written beside and renamed."""
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "oss": "ossfs"}
PACKAGES |= dict.fromkeys(("abfs", "abfss", "az"), "adlfs") | {"hdfs": "pyarrow"}
PART = ".tmp"
"""How the name of a file ends that is still being written."""
READ_BYTES = 8 << 20
GAP_BYTES = 64 << 10
"""Stretches nearer than this are read as one: a request costs more than so many bytes."""


def is_url(path: str) -> bool:
    """Whether a path is a URL."""
    return URL.match(path) is not None


def local(path: str) -> str:
    """A file:// URL as the path that it stands for; anything else as it is."""
    return _file_system(path)[1] if _scheme(path) in LOCAL else path


def store(place: str) -> Store:
    """The store in a folder, or at a URL; raises InputError where fsspec cannot go there."""
    place = local(place)
    if not is_url(place):
        return Folder(Path(place))
    _file_system(place)
    return UrlStore(place.rstrip("/"))


def find(url: str, wanted: Callable[[str], bool]) -> list[str]:
    """The URLs of the files that one URL names: a file, a glob's, or the `wanted` below a folder.

    Raises InputError where there is none, or what holds them cannot be reached.
    """
    files, path = _file_system(url)
    with _input_errors(url):
        if files.isfile(path):
            return [url]
        if files.isdir(path):
            found = [name for name in files.find(path) if wanted(name)]
        else:
            found = [name for name in files.glob(path) if files.isfile(name)]
        urls = sorted(files.unstrip_protocol(name) for name in found)
    if not urls:
        raise InputError(f"{url}: no such file")
    return urls


def opened(url: str) -> io.BufferedReader:
    """The bytes of a file, which can be sought in; raises InputError."""
    files, path = _file_system(url)
    with _input_errors(url):
        raw = files.open(path, "rb", block_size=READ_BYTES)
        return io.BufferedReader(cast(io.RawIOBase, raw))


@dataclass(frozen=True, slots=True)
class UrlStore:
    """A store at a URL. What is written lies in a temporary file here until it is whole."""

    url: str

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write, which is there when the block ends without an error, else not."""
        with NamedTemporaryFile() as file:
            yield cast(IO[bytes], file)
            file.flush()
            with self._reaching(name) as (files, path):
                if _scheme(self.url) in WHOLE_PUT:
                    files.put_file(file.name, path)
                else:
                    _put_by_renaming(files, file.name, path)

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file whole, or not at all."""
        with self.writing(name) as file:
            file.writelines(parts)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        with suppress(FileNotFoundError), self._reaching(name) as (files, path):
            found = files.info(path)
            return int(found["size"]) if found["type"] == "file" else None
        return None

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        with self._reaching(name) as (files, path):
            return cast(bytes, files.cat_file(path))

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several stretches of one file, in as few requests as their gaps allow."""
        from fsspec.utils import merge_offset_ranges

        with self._reaching(name) as (files, path):
            end = files.info(path)["size"]
            spans = [(min(at, end), min(at + n, end)) for at, n in zip(starts, sizes, strict=True)]
            filled = [span for span in spans if span[0] < span[1]]
            _, begins, stops = merge_offset_ranges(
                [path] * len(filled), [a for a, _ in filled], [b for _, b in filled], GAP_BYTES
            )
            read = files.cat_ranges([path] * len(begins), begins, stops, on_error="raise")
        return [_stretch(begins, read, *span) for span in spans]

    def names(self) -> list[str]:
        """The names of all files, sorted."""
        with suppress(FileNotFoundError), self._reaching() as (files, path):
            found = [e["name"] for e in files.ls(path, detail=True) if e["type"] == "file"]
            return sorted(name.rpartition("/")[2] for name in found if not name.endswith(PART))
        return []

    def delete(self, name: str) -> None:
        """Remove a file, or a store below; nothing happens where there is none."""
        with suppress(FileNotFoundError), self._reaching(name) as (files, path):
            files.rm(path, recursive=True)

    def below(self, name: str) -> UrlStore:
        """A store in this one."""
        return UrlStore(f"{self.url}/{name}")

    def locked(self) -> AbstractContextManager[None]:
        """Nothing: object stores know no locks, so that two runs into one place are not noticed."""
        return nullcontext()

    @contextmanager
    def _reaching(self, name: str = "") -> Iterator[tuple[AbstractFileSystem, str]]:
        """The file system and the path of a file on it; what goes wrong there is an OSError."""
        url = f"{self.url}/{name}".rstrip("/")
        with _os_errors(f"{url}: "):
            yield _file_system(url)


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """What reaches a URL, and the path on it; InputError says which package is missing."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"{url}: to read and write at URLs, pip install fsspec") from error
    try:
        files, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(_scheme(url))
        advice = f"pip install {package}" if package else _line(error)
        raise InputError(f"{url}: to reach {_scheme(url)}://, {advice}") from error
    except Exception as error:  # of whichever package reaches it
        raise InputError(f"{url}: cannot be reached: {_line(error)}") from error
    return files, path


@contextmanager
def _input_errors(url: str) -> Iterator[None]:
    """Errors of what holds a file as InputError."""
    try:
        with _os_errors():
            yield
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file") from error
    except OSError as error:
        raise InputError(f"{url}: cannot be reached: {_line(error)}") from error


@contextmanager
def _os_errors(where: str = "") -> Iterator[None]:
    """Errors of the packages behind fsspec as OSError: each has classes of its own."""
    try:
        yield
    except (OSError, InputError):
        raise
    except Exception as error:
        raise OSError(f"{where}{type(error).__name__}: {_line(error)}") from error


def _put_by_renaming(files: AbstractFileSystem, source: str, path: str) -> None:
    """Write beside `path` and rename; some file systems rename only to a name that is free."""
    files.makedirs(path.rpartition("/")[0], exist_ok=True)
    beside = f"{path}.{uuid.uuid4().hex}{PART}"  # another worker may be writing the same file
    files.put_file(source, beside)
    with suppress(FileNotFoundError):
        files.rm_file(path)
    files.mv(beside, path)


def _stretch(begins: Sequence[int], read: Sequence[bytes], start: int, stop: int) -> bytes:
    """The bytes from `start` to `stop`, out of the longer stretches that were read."""
    if start == stop:
        return b""
    at = bisect.bisect_right(begins, start) - 1
    return read[at][start - begins[at] : stop - begins[at]]


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__

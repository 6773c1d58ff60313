"""The Python files of a model folder, parsed and never run."""

from __future__ import annotations

import ast
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from glmprep.console import file_errors

MOST_FILES, MOST_BYTES = 64, 2 << 20  # GLM's largest file has 60 kB
Reason: TypeAlias = Literal["link", "special", "huge", "binary", "broken", "many", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that could be parsed."""

    name: str
    tree: ast.Module
    lines: Sequence[str]

    def line(self, number: int) -> str:
        """The text of a line, counted from 1."""
        return self.lines[number - 1].strip() if 0 < number <= len(self.lines) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that was not looked into, and why."""

    name: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What was read of a folder."""

    sources: Sequence[Source]
    skipped: Sequence[Skipped]


def read(folder: Path) -> Folder:
    """All Python files that lie directly in a folder, except tests.

    Raises InputError for a folder that cannot be listed.
    """
    with file_errors(folder):
        paths = sorted(path for path in folder.iterdir() if _is_code(path))
    found = [_read(path) for path in paths[:MOST_FILES]]
    found += [Skipped(name=path.name, reason="many") for path in paths[MOST_FILES:]]
    return Folder(
        sources=[each for each in found if isinstance(each, Source)],
        skipped=[each for each in found if isinstance(each, Skipped)],
    )


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" and not path.name.startswith("test_")


def _read(path: Path) -> Source | Skipped:
    reason = _obstacle(path)
    if reason is not None:
        return Skipped(name=path.name, reason=reason)
    try:
        raw = path.read_bytes()
    except OSError:
        return Skipped(name=path.name, reason="unreadable")
    if b"\0" in raw:
        return Skipped(name=path.name, reason="binary")
    try:
        text = raw.decode("utf-8-sig")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of escapes in a text
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Skipped(name=path.name, reason="broken")
    return Source(name=path.name, tree=tree, lines=text.splitlines())


def _obstacle(path: Path) -> Reason | None:
    """Why a file is not opened: a link may lead anywhere, a pipe may never end."""
    try:
        status = path.lstat()
    except OSError:
        return "unreadable"
    if stat.S_ISLNK(status.st_mode):
        return "link"
    if not stat.S_ISREG(status.st_mode):
        return "special"
    return "huge" if status.st_size > MOST_BYTES else None

"""What a folder was built of, so that a run with nothing new does nothing.

Files are told apart by size and time, as make does; what changed in neither is taken as the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from glmprep import __version__
from glmprep.files import write_atomically
from glmprep.read import DataFile, real_path
from glmprep.store import Folder

FILE = "build.json"
Inputs = Mapping[str, tuple[int, int]]
"""Size and time of each file."""


def inputs(files: Sequence[DataFile]) -> Inputs:
    """The files that are read; what has no size, such as a pipe, is left out."""
    found = {}
    for file in files:
        path = real_path(file.path)
        if path.is_file():
            seen = path.stat()
            found[file.path] = (seen.st_size, seen.st_mtime_ns)
    return found


def total(seen: Inputs) -> int:
    """Bytes of all files."""
    return sum(size for size, _ in seen.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a run ended that left a folder as it is: whether it failed, as commands understand it."""

    failed: bool


def current(folder: Path, settings: Mapping[str, Any], seen: Inputs) -> State | None:
    """The run that built the folder of these files by these settings; None where it is not so."""
    try:
        known = orjson.loads((folder / FILE).read_bytes())
        outputs = {name: tuple(one) for name, one in known["outputs"].items()}
        same = known["made_of"] == _made_of(settings, seen)
        state = State(failed=bool(known["failed"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return state if same and outputs == _outputs(folder) else None


def remember(folder: Path, settings: Mapping[str, Any], seen: Inputs, state: State) -> None:
    """Note what the folder was built of."""
    known = {
        "made_of": _made_of(settings, seen),
        "outputs": _outputs(folder),
        "failed": state.failed,
    }
    write_atomically(folder / FILE, orjson.dumps(known, option=orjson.OPT_INDENT_2) + b"\n")


def forget(folder: Path) -> None:
    """Note that the folder is being built."""
    Folder(folder).delete(FILE)


def _made_of(settings: Mapping[str, Any], seen: Inputs) -> str:
    parts = [__version__, settings, sorted(seen.items())]
    return blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def _outputs(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files but this one and units, which the next run looks at itself."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in (FILE, "work"):
            seen = path.stat()
            found[str(name)] = (seen.st_size, seen.st_mtime_ns)
    return found

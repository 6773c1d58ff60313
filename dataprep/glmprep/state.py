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
Seen = tuple[int, int]
Inputs = Mapping[str, tuple[Seen | None, str]]
"""Size and time of each file, and how dataset_info.json describes it."""


def inputs(files: Sequence[DataFile]) -> Inputs:
    """The files that are read; of a pipe or a URL nothing is seen."""
    return {file.path: (_look(real_path(file.path)), repr(file.description)) for file in files}


def total(seen: Inputs) -> int:
    """Bytes of all files, as far as they were seen."""
    return sum(look[0] for look, _ in seen.values() if look)


def _look(path: Path) -> Seen | None:
    """The size and time of a file, or of all files in a folder."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    looks = [each.stat() for each in paths if each.is_file()]
    return (sum(s.st_size for s in looks), max(s.st_mtime_ns for s in looks)) if looks else None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a run ended that left a folder as it is: whether it failed, as commands understand it."""

    failed: bool


def current(folder: Path, settings: Mapping[str, Any], seen: Inputs) -> State | None:
    """The run that built the folder of these files by these settings; None where it is not so.

    Nor is it known of a file that cannot be seen without reading it.
    """
    if not all(look for look, _ in seen.values()):
        return None
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


def _outputs(folder: Path) -> dict[str, Seen]:
    """Size and time of all files but this one and units, which the next run looks at itself."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in (FILE, "work"):
            seen = path.stat()
            found[str(name)] = (seen.st_size, seen.st_mtime_ns)
    return found

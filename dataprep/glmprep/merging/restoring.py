"""The map of a merge, and taking the merge back with it, to the byte.

The map is JSON Lines in the order of the rows: a line for each row that was changed or is gone,
with its changes, and at last one with the digests of both sides. `line` is the row's line in the
output; for one that is gone, the line before which it stood, with the `rule` that it went by, and
what is left of it as `row`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import IO, Any

import orjson

from glmprep.entries import DIGEST_BYTES
from glmprep.errors import InputError
from glmprep.files import replacing, require_other
from glmprep.merging.changes import from_json
from glmprep.repair import Change, undo

MERGES = "merges.jsonl"
FORMAT = "glmprep-merges/2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What became of one row, and what is left of it where it is gone."""

    line: int
    changes: Sequence[Change]
    row: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Any) -> Entry:
        """The entry that `entry` wrote; raises KeyError, TypeError or ValueError for another."""
        if type(value["line"]) is not int or not isinstance(value.get("row"), dict | None):
            raise TypeError("an entry has a line, and a row where it is gone")
        return cls(
            line=value["line"],
            changes=[from_json(change) for change in value["changes"]],
            row=value.get("row"),
        )

    def restored(self, row: dict[str, Any]) -> bytes:
        """The line of the row as it was before its changes."""
        return orjson.dumps(undo(row, self.changes)) + b"\n"


def entry(where: str, line: int, changes: Sequence[Any]) -> dict[str, Any]:
    """The line of the map for a row that was changed; `changes` are JSON values."""
    return {"where": where, "line": line, "changes": changes}


def gone(rule: str, row: Any, kept: str | None) -> dict[str, Any]:
    """What the line of the map says beside that for a row that is gone, in favour of `kept`."""
    return {"rule": rule, "kept": kept, "row": row}


def digest(line: bytes) -> bytes:
    """The digest of one line of what was merged."""
    return blake2b(line, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """`merged` is fed the lines that are left, `source` the digests of those they were made of.

    So what is told of parts of the source, one after the other, tells of all of it.
    """

    source: Any = field(default_factory=sha256)
    merged: Any = field(default_factory=sha256)

    def as_json(self) -> dict[str, str]:
        """The last line of a map."""
        digests = {"source": self.source.hexdigest(), "merged": self.merged.hexdigest()}
        return {"format": FORMAT, **digests}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Rows that were written, those of them that had been changed, and those that were gone."""

    rows: int
    changed: int
    returned: int

    def as_json(self) -> dict[str, int]:
        """The counts as plain JSON values."""
        return asdict(self)


def map_path(output: Path) -> Path:
    """Where the map of an output file is."""
    return output.with_name(f"{output.name}.{MERGES}")


def restore(merged: Path, map_file: Path, output: Path) -> Restored:
    """Write the rows as they were before the merge that made `merged` and its map.

    Raises InputError for a map that is broken or belongs to another file; nothing is written then.
    """
    require_other(output, [str(merged), str(map_file)])
    other = InputError(f"{map_file}: the map belongs to another file than {merged}, or was changed")
    run = _Restoring(map_file)
    try:
        with replacing(output) as file, merged.open("rb") as lines:
            file.writelines(run.lines(lines))
            if run.digests.as_json() != run.last:
                raise other
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise other from error
    return Restored(rows=run.rows, changed=run.changed, returned=run.returned)


class _Restoring:
    """One pass over a merged file and its map side by side."""

    def __init__(self, map_file: Path) -> None:
        self.digests = Digests()
        self.last: Any = None
        self.rows = self.changed = self.returned = 0
        self._map = map_file
        self._entries = self._read()
        self._next = next(self._entries, None)

    def lines(self, merged: IO[bytes]) -> Iterator[bytes]:
        """The lines of the source, in order."""
        number = 0
        for number, line in enumerate(merged, 1):
            self.digests.merged.update(line)
            yield from self._gone(number)
            if self._next is not None and self._next.line == number:
                self.changed += 1
                line = self._next.restored(orjson.loads(line))
                self._next = next(self._entries, None)
            yield self._counted(line)
        yield from self._gone(number + 1)
        if self._next is not None:
            raise ValueError(f"the map speaks of line {self._next.line}, after the last")

    def _gone(self, number: int) -> Iterator[bytes]:
        """The rows that stood before a line."""
        while self._next and self._next.row is not None and self._next.line == number:
            self.returned += 1
            yield self._counted(self._next.restored(self._next.row))
            self._next = next(self._entries, None)

    def _counted(self, line: bytes) -> bytes:
        self.digests.source.update(digest(line))
        self.rows += 1
        return line

    def _read(self) -> Iterator[Entry]:
        """The entries of the map; its last line is kept as `last`."""
        with self._map.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    value = orjson.loads(line)
                    if "merged" in value:
                        self._require_format(value, number)
                        self.last = value
                        continue
                    entry = Entry.from_json(value)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise InputError(f"{self._map}:{number}: not a map of merges") from error
                yield entry

    def _require_format(self, last: Any, number: int) -> None:
        if last.get("format") != FORMAT:
            raise InputError(
                f"{self._map}:{number}: not in the format {FORMAT}; "
                "take the merge back with the version of glmprep that made it"
            )

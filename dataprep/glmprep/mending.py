"""Repairs over a whole pass: which rows were mended, their ledger, and taking them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from glmprep.collect import EXAMPLES, Hit
from glmprep.errors import InputError
from glmprep.findings import RULES, Example
from glmprep.records import Origin
from glmprep.repair import Edit, repair, undo

REPAIRS = "repairs.jsonl"
Row = dict[str, Any]


@dataclass(slots=True)
class Mended:
    """A row's edits; `line` is its line in the output (from 1), None where it is not there."""

    origin: Origin
    edits: Sequence[Edit]
    line: int | None = None

    def as_json(self) -> Row:
        """One line of the ledger of repairs."""
        edits = [edit.as_json() for edit in self.edits]
        return {"where": str(self.origin), "line": self.line, "edits": edits}


@dataclass(slots=True)
class Mending:
    """Mends rows as they are read, and keeps what it changed."""

    rows: dict[Origin, Mended] = field(default_factory=dict)

    def __call__(self, row: Row, origin: Origin) -> Row:
        """The row with all repairs done."""
        mended, edits = repair(row)
        if edits:
            self.rows[origin] = Mended(origin, edits)
        return mended

    def written(self, origin: Origin, line: int) -> None:
        """Note that the row from `origin` is a line of the output."""
        if origin in self.rows:
            self.rows[origin].line = line

    def by_rule(self) -> Mapping[str, int]:
        """How many rows each repair changed, by rule id."""
        found = Counter(rule for row in self.rows.values() for rule in {e.rule for e in row.edits})
        return dict(sorted(found.items()))

    def hits(self) -> Iterator[Hit]:
        """One hit for each repair that was made; counted are the messages that it took."""
        for rule, rows in self.by_rule().items():
            mended = [(row, e) for row in self.rows.values() for e in row.edits if e.rule == rule]
            yield Hit(
                rule=RULES[rule],
                count=sum(max(1, len(e.before) - len(e.after)) for _, e in mended),
                rows=rows,
                examples=[
                    Example(where=f"{row.origin} message {edit.at + 1}")
                    for row, edit in mended[:EXAMPLES]
                ],
            )

    def ledger(self) -> bytes:
        """The ledger of repairs as JSON Lines, in the order of reading."""
        return b"".join(orjson.dumps(row.as_json()) + b"\n" for row in self.rows.values())


def repairs_path(output: Path) -> Path:
    """Where the repairs of an output file are listed."""
    return output.with_name(f"{output.name}.{REPAIRS}")


def read_ledger(path: Path) -> dict[int, Sequence[Edit]]:
    """The edits of each line of the output that a ledger of repairs belongs to.

    Raises InputError for a file that is no such ledger.
    """
    found: dict[int, Sequence[Edit]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = orjson.loads(line)
            edits = [Edit.from_json(edit) for edit in entry["edits"]]
            if entry["line"] is not None:
                found[int(entry["line"])] = edits
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a ledger of repairs") from error
    return found


@dataclass(frozen=True, slots=True)
class Unmending:
    """Takes the repairs of a ledger back, as the rows of the output are read again."""

    edits: Mapping[int, Sequence[Edit]]

    def __call__(self, row: Row, origin: Origin) -> Row:
        """The row as it was before its repairs; raises InputError for those of another row."""
        try:
            return undo(row, self.edits.get(origin.line, ()))
        except ValueError as error:
            raise InputError(f"{origin}: {error}; the ledger belongs to another file") from error

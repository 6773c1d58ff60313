"""What was made of all blocks, as one output, its map, and the sums."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import orjson

from glmprep.errors import InputError
from glmprep.files import replacing
from glmprep.findings import Finding
from glmprep.labels import Int32, Int64
from glmprep.mending import repairs_path
from glmprep.merging import sketches
from glmprep.merging.amounts import NUMBERS, Amount
from glmprep.merging.differences import Difference
from glmprep.merging.groups import Alike, Groups, Member, says_the_same
from glmprep.merging.outcomes import key_lost
from glmprep.merging.restoring import Digests, entry, gone, map_path
from glmprep.merging.tally import Removed, Tally
from glmprep.records import Rejection
from glmprep.seen import Moved, Seen, by_rule, reject_lines
from glmprep.source import Source
from glmprep.store import Store
from glmprep.stream import rejects_path
from glmprep.texts import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was there before and after, what each rule removed, and differences to look at.

    `after` is counted anew from the lines that were written.
    """

    rows: int
    before: Amount
    after: Amount
    removed: Mapping[str, Removed]
    differences: Mapping[str, Sequence[Difference]]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    @property
    def balances(self) -> bool:
        """Whether what was there is what is left and what the rules removed."""
        return self.before == sum((r.amount for r in self.removed.values()), self.after)

    @property
    def reject_share(self) -> float:
        """Share of the rows read that are rejected or set aside."""
        return len(self.rejections) / max(1, self.rows)

    def as_json(self) -> dict[str, Any]:
        """The numbers as plain JSON values, and the differences."""
        return {
            "rows": self.rows,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "rules": {rule: removed.as_json() for rule, removed in self.removed.items()},
            "rejected": by_rule(self.rejections),
            "differences": [one.as_json() for many in self.differences.values() for one in many],
        }


class Collector:
    """Takes in what was made of each block, in order; a context manager.

    The output, its map, the rejected rows and the repairs are there when the block of `with` ends
    without an error; for None nothing is written. `files` are the input files as rows name them.
    Where rows that are alike are looked for, no line is written before the last one was sketched,
    and 28 bytes a row are kept beside the sketches (see `groups`).
    """

    def __init__(
        self,
        source: Source,
        output: Path | None,
        *,
        files: Sequence[str],
        store: Store,
        alike: Alike | None = None,
    ) -> None:
        self.seen = Seen(source.paths)
        self._store, self._files = store, files
        self._output, self._repair = output, source.repair
        self._groups = Groups(alike) if alike else None
        self._waiting: list[_Part] = []
        self._tally, self._after = Tally(), Amount()
        self._digests, self._lines = Digests(), 0
        self._stack = ExitStack()
        self._out: IO[bytes] | None = None
        self._map: IO[bytes] | None = None
        self._rejects: IO[bytes] | None = None
        self._mended: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self._output is not None:
            with ExitStack() as opened:
                # Closed the last one first, so that the output comes after all that goes with it.
                self._out = opened.enter_context(replacing(self._output))
                self._map = opened.enter_context(replacing(map_path(self._output)))
                self._rejects = opened.enter_context(replacing(rejects_path(self._output)))
                if self._repair:
                    self._mended = opened.enter_context(replacing(repairs_path(self._output)))
                self._stack = opened.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, text: Text, before: int = 0) -> None:
        """Take in the next block, whose rows stand behind so many more lines of their file."""
        facts, path = text.facts, self._files[text.place]
        seen = Seen.from_json(self.seen.paths, facts["seen"], path=path, before=before)
        moved = Moved(facts["seen"]["path"], path, before)
        self.seen.add(seen)
        self._tally += Tally.from_json(facts["tally"], moved)
        self._digests.source.update(bytes.fromhex(facts["source"]))
        if self._mended is not None:
            for mended in _values(facts["mended"].encode()):
                mended["where"] = moved(mended["where"])
                self._mended.write(orjson.dumps(mended) + b"\n")
        part = _Part(name=text.name, lines=text.lines, moved=moved, after=Amount(**facts["after"]))
        if self._groups is None:
            self._write(part, {})
            return
        found, more = sketches.read(self._store.read(f"{text.name}.sketches"))
        part.starts, part.amounts = more["starts"], more["amounts"]
        self._groups.add(found, path, before)
        self._waiting.append(part)

    def finish(self) -> Result:
        """Write what waits, and tell what was done; raises InputError where nothing is left."""
        for place, part in enumerate(self._waiting):
            self._write(part, self._going(place, part))
        for hit in (*self._tally.hits(), *(self._groups.hits() if self._groups else ())):
            self.seen.hit(hit)
        if not self._after.rows:
            raise InputError(self.seen.nothing_left("is left"))
        if self._map is not None and self._rejects is not None:
            self._map.write(orjson.dumps(self._digests.as_json()) + b"\n")
            self._rejects.write(reject_lines(self.seen.rejections))
        result = Result(
            rows=self.seen.rows,
            before=self._tally.before,
            after=self._after,
            removed=dict(sorted(self._tally.removed.items())),
            differences=dict(sorted(self._tally.differences.items())),
            rejections=self.seen.rejections,
            findings=self.seen.findings(),
        )
        assert result.balances, f"turns or tokens were lost or doubled: {result.as_json()}"
        return result

    def _going(self, place: int, part: _Part) -> dict[int, _Gone]:
        """Of the lines of a part those (from 0) that go in favour of a row that is like them.

        One that would lose key information stays.
        """
        assert self._groups is not None
        going: dict[int, _Gone] = {}
        for row, (one, kept) in self._groups.dropped(place).items():
            value = self._line(part, row)
            other = self._line(self._waiting[kept.part], kept.row)
            if missing := key_lost(value["messages"], other["messages"]):
                note = f"{', '.join(missing)} is not in {kept.origin}"
                self._tally.hold(key_lost.id, one.origin, note)
                continue
            self._tally.drop(says_the_same.id, one.origin, value["messages"], part.amount([row]))
            going[row] = _Gone(value=value, member=one, kept=kept)
        return going

    def _line(self, part: _Part, row: int) -> Any:
        """A line of a part, read again from its place."""
        assert part.starts is not None
        start, end = part.starts[row : row + 2].tolist()
        return orjson.loads(self._store.ranges(f"{part.name}.jsonl", [start], [end - start])[0])

    def _write(self, part: _Part, going: Mapping[int, _Gone]) -> None:
        """Write the lines of a part that stay, and what became of the others."""
        data = self._store.read(f"{part.name}.jsonl")
        if going:
            lines = data.splitlines(keepends=True)
            staying = [row for row in range(len(lines)) if row not in going]
            data = b"".join([lines[row] for row in staying])
            self._after += part.amount(staying)
        else:
            self._after += part.after
        self._digests.merged.update(data)
        if self._out is not None and self._map is not None:
            self._out.write(data)
            self._map.writelines(self._entries(part, going))
        self._lines += part.lines - len(going)

    def _entries(self, part: _Part, going: Mapping[int, _Gone]) -> Iterator[bytes]:
        """The part's lines of the map, where its lines stand in the output."""
        waiting = deque(sorted(going))
        line = self._lines  # of the output, before the part's first, less those that went
        for told in _values(self._store.read(f"{part.name}.merges")):
            row = told["line"] - 1
            while waiting and waiting[0] < row:
                yield going[waiting[0]].entry(line + 1 + waiting.popleft())
                line -= 1
            told["where"], told["line"] = part.moved(told["where"]), line + 1 + row
            if "rule" not in told and waiting and waiting[0] == row:
                told |= going[waiting.popleft()].told()
                line -= 1
            yield orjson.dumps(told) + b"\n"
        for place, row in enumerate(waiting):
            yield going[row].entry(line + 1 + row - place)


@dataclass(slots=True, kw_only=True)
class _Part:
    """What was made of a block, and how much it holds.

    Where it was sketched: where its lines start (and the last one ends), and what each holds.
    """

    name: str
    lines: int
    moved: Moved
    after: Amount
    starts: Int64 | None = None
    amounts: Int32 | None = None

    def amount(self, rows: Sequence[int]) -> Amount:
        """What some lines (from 0) hold."""
        assert self.amounts is not None
        sums = self.amounts[list(rows)].sum(axis=0, dtype=np.int64).tolist()
        return Amount(**dict(zip(NUMBERS, sums, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gone:
    """A row that goes in favour of another."""

    value: Any
    member: Member
    kept: Member

    def told(self) -> dict[str, Any]:
        """What the map says of it."""
        return gone(says_the_same.id, self.value, str(self.kept.origin))

    def entry(self, line: int) -> bytes:
        """Its line of the map, where no rule had changed it; it stood before so many lines."""
        return orjson.dumps(entry(str(self.member.origin), line, []) | self.told()) + b"\n"


def _values(lines: bytes) -> Iterator[Any]:
    """The values of JSON Lines."""
    return map(orjson.loads, lines.splitlines())

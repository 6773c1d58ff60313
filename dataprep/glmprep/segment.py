"""Over-long conversations to segments that each fit, with every target trained exactly once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from glmprep import entries, read, texts
from glmprep.blocks import blocks
from glmprep.collect import Hit
from glmprep.coverage import SCHEMA, Counts
from glmprep.cutting import Cutting, cutting_path, lines
from glmprep.engines import Engine
from glmprep.engines.local import Serial
from glmprep.errors import InputError
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding
from glmprep.leftout import shortened_path
from glmprep.mending import repairs_path
from glmprep.records import Rejection
from glmprep.rules.lengths import prompt_shortened
from glmprep.seams import MOST, Seam
from glmprep.seen import Moved, Seen, by_rule, reject_lines
from glmprep.segmenting import SETTING_ASIDE, SegmentBlocks, stamp
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.store import Folder, Store
from glmprep.stream import rejects_path
from glmprep.texts import Text
from glmprep.tokenizing import Tokenizing

PASSING = ".units.tmp"
"""How the folder is called, behind the output's name, in which blocks lie during a run."""
ORIGIN_LINE = re.compile(rb'"line":(\d+)(,"turns":\[\d+,\d+\]\}\}\n)')
"""The line of its conversation in a segment's row, which its origin ends."""

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The counts, what was rejected or set aside, and what was found.

    `lengths` are the tokens of each segment, `seams` some places where conversations were cut.
    """

    counts: Counts
    lengths: Int32
    seams: Sequence[Seam]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    def as_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {**asdict(self.counts), "rejected": by_rule(self.rejections)}

    @property
    def rejected(self) -> dict[str, int]:
        """Rows that went no further, by rule; what was set aside is not among them."""
        return by_rule([one for one in self.rejections if one.rule not in SETTING_ASIDE])

    @property
    def reject_share(self) -> float:
        """Share of the rows read of which a part or all is not in the output."""
        lost = {str(rejection.origin) for rejection in self.rejections}
        return len(lost) / max(1, self.counts.rows)


def segment(
    source: Source,
    output: Path,
    *,
    tokenizing: Tokenizing,
    cutting: Cutting,
    engine: Engine | None = None,
    units: Store | None = None,
) -> Result:
    """Write the conversations of `source` as canonical JSON Lines in which each row fits.

    Conversations that fit are written as they are. `engine` runs the work, in this process for
    None. What is made of each block is kept in `units` and found there again; for None it lies
    beside the output until the end. Raises UsageError for a limit that nothing fits in or an
    output that is an input, InputError when no conversation is left.
    """
    _, family = tokenizing.load()
    require_room(cutting.max_length, family)
    files = read.files(source.paths)
    names = [file.path for file in files]
    require_other(output, names)
    beside, passing = Folder(output.parent), output.name + PASSING
    beside.delete(passing)  # of a run that was killed
    store = beside.below(passing) if units is None else units
    try:
        work = SegmentBlocks(
            source=source,
            tokenizing=tokenizing,
            cutting=cutting,
            store=store,
            stamp=stamp(source, tokenizing, cutting),
            output=str(output),
        )
        made = Segmented(output, store=store, files=names, source=source, cutting=cutting)
        for text in (engine or Serial()).map(work.text, blocks(files)):
            made.add(text)
        return made.finish()
    finally:
        beside.delete(passing)


class Segmented:
    """Takes in what a run made of its blocks, in order, and writes the output and its side files.

    Beside the output are written: what was rejected; the ledger, with a line for each row (see
    `coverage.SCHEMA`); what was left out of prompts that are too long, if any are; repairs, if they
    were asked for; and the settings (see `cutting`). `files` are the input files as findings name
    them, `store` where the texts are.
    """

    def __init__(
        self, output: Path, *, store: Store, files: Sequence[str], source: Source, cutting: Cutting
    ) -> None:
        self._output = output
        self._store = store
        self._files = files
        self._source = source
        self._cutting = cutting
        self._parts: list[_Part] = []
        self._seen = Seen(source.paths)
        self._counts = Counts()
        self._lengths: list[Int32] = []
        self._seams: list[Seam] = []
        self._left_out = Hit(rule=prompt_shortened, count=0, rows=0)

    def add(self, text: Text, before: int = 0) -> None:
        """Take in the next text; its rows stand behind so many more lines of their file."""
        facts, path = text.facts, self._files[text.place]
        moved = Moved(facts["seen"]["path"], path, before)
        self._parts.append(_Part(name=text.name, place=text.place, moved=moved))
        self._seen.add(Seen.from_json([], facts["seen"], path=path, before=before))
        self._counts.add(Counts(**facts["counts"]))
        self._lengths.append(np.array(facts["lengths"], np.int32))
        found = facts["seams"][: MOST - len(self._seams)]
        self._seams += [Seam(**{**seam, "where": moved(seam["where"])}) for seam in found]
        self._left_out += Hit.from_json(prompt_shortened, facts["left_out"], moved)

    def finish(self) -> Result:
        """Write all files; raises InputError when no conversation is left."""
        counts, limit = self._counts, self._cutting.max_length
        assert counts.balances, f"targets were lost or doubled: {counts}"
        if not counts.whole + counts.segments:
            raise InputError(self._seen.nothing_left(max_length=limit))
        if self._left_out.count:
            tokens = {"dropped_tokens": counts.tokens_shortened}
            self._seen.hit(replace(self._left_out, data=tokens))
        self._write()
        return Result(
            counts=counts,
            lengths=np.concatenate([np.zeros(0, np.int32), *self._lengths]),
            seams=self._seams,
            rejections=self._seen.rejections,
            findings=self._seen.findings(max_length=limit),
        )

    def _write(self) -> None:
        output = self._output
        with replacing(output) as file:
            file.writelines(self._rows(part) for part in self._parts)
        if self._left_out.count:
            with replacing(shortened_path(output)) as file:
                file.writelines(self._told("shortened"))
        else:
            shortened_path(output).unlink(missing_ok=True)  # of a run before
        write_atomically(rejects_path(output), reject_lines(self._seen.rejections))
        if self._source.repair:
            with replacing(repairs_path(output)) as file:
                file.writelines(self._told("mended"))
        write_atomically(cutting_path(output), lines(self._cutting))
        with replacing(ledger_path(output)) as file:
            entries.write(map(self._lines, self._parts), file)

    def _rows(self, part: _Part) -> bytes:
        """The rows that were made of a block; those of segments tell where their whole is now."""
        data = self._store.read(f"{part.name}.jsonl")
        if not part.moved.before:
            return data
        return ORIGIN_LINE.sub(
            lambda found: b'"line":%d%b' % (int(found[1]) + part.moved.before, found[2]), data
        )

    def _told(self, name: str) -> Iterator[bytes]:
        """The lines of one of the facts that tell where a row is, a block at a time."""
        for part in self._parts:
            data = self._facts(part)[name].encode()
            yield part.moved.lines(data)

    def _lines(self, part: _Part) -> pa.Table:
        """The ledger's lines of a block."""
        columns = dict(self._facts(part)["ledger"])
        count = len(columns["line"])
        columns["line"] = [line + part.moved.before for line in columns["line"]]
        columns["file_index"] = [part.place] * count
        columns["file"] = entries.names([part.moved.new]) * count
        return pa.Table.from_pydict(columns, SCHEMA)

    def _facts(self, part: _Part) -> Mapping[str, Any]:
        """The facts, read again: those of all blocks are too much to be kept."""
        return texts.facts(self._store, part.name)


def ledger_path(output: Path) -> Path:
    """Where the ledger of an output file is."""
    return output.with_name(f"{output.name}.ledger.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A text: its name, which input file it was made of, and where its rows are now."""

    name: str
    place: int
    moved: Moved

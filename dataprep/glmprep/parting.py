"""Conversations parted into those that are trained on and those that are held out to validate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glmprep import cutting, read, split, texts
from glmprep.blocks import blocks
from glmprep.engines import Engine
from glmprep.engines.local import Serial
from glmprep.errors import InputError, UsageError
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding
from glmprep.mending import repairs_path
from glmprep.records import Rejection
from glmprep.seen import Moved, Seen, by_rule, reject_lines
from glmprep.source import Source
from glmprep.split import Bool
from glmprep.splitting import SplitBlocks, keys
from glmprep.store import Folder, Store
from glmprep.stream import rejects_path
from glmprep.text.hashing import UInt64
from glmprep.texts import Text

PASSING = ".units.tmp"
"""How the folder is called, behind the output's name, in which blocks lie during a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """The two files, the share of the rows that `validation` gets, and what chooses them.

    Raises UsageError for a share that is none, and for one file under two names.
    """

    training: Path
    validation: Path
    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        split.require_share(self.share)
        if self.training.resolve() == self.validation.resolve():
            raise UsageError(f"{self.validation}: is the output already; name another file")

    @property
    def outputs(self) -> tuple[Path, Path]:
        """Both files."""
        return self.training, self.validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How much a file got."""

    rows: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was read, what each side got, and the rows of the largest group of all.

    `wanted` is the share that was asked for; `segmented` says that rows were known as segments.
    """

    rows: int
    training: Side
    validation: Side
    wanted: float
    seed: int
    largest: int
    segmented: bool
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    @property
    def conversations(self) -> int:
        """Rows that were written, to either side."""
        return self.training.rows + self.validation.rows

    @property
    def share(self) -> float:
        """The share of the rows written that are for validation."""
        return self.validation.rows / self.conversations

    @property
    def reject_share(self) -> float:
        """Share of the rows read that are no conversations."""
        return len(self.rejections) / max(1, self.rows)

    def as_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "rows": self.rows,
            "training": asdict(self.training),
            "validation": asdict(self.validation),
            "share": self.share,
            "wanted": self.wanted,
            "seed": self.seed,
            "largest_group": self.largest,
            "segmented": self.segmented,
            "rejected": by_rule(self.rejections),
        }


def part(source: Source, parting: Parting, *, engine: Engine | None = None) -> Result:
    """Write the conversations of `source` as two files of canonical JSON Lines, in their order.

    Rows that share an opening, and segments of one conversation, are on one side. `engine` runs
    the work, in this process for None. Raises UsageError for an output that is an input or a share
    that no group fits in, InputError where no row holds a conversation.
    """
    files = read.files(source.paths)
    names = [file.path for file in files]
    for output in parting.outputs:
        require_other(output, names)
    beside, passing = Folder(parting.training.parent), parting.training.name + PASSING
    beside.delete(passing)  # of a run that was killed
    store = beside.below(passing)
    work = SplitBlocks(source=source, store=store, output=str(parting.training))
    try:
        made = Parted(parting, store=store, files=names, source=source)
        for text in (engine or Serial()).map(work.text, blocks(files)):
            made.add(text)
        return made.finish()
    finally:
        beside.delete(passing)


class Parted:
    """Takes in what was made of each block, in order, and writes both files at the end.

    Beside the training file are listed what was rejected and, if they were asked for, repairs;
    beside each of the two how its rows were cut, where all were cut in one way. 16 bytes a row are
    kept. `files` are the input files as findings name them, `store` where the texts are.
    """

    def __init__(
        self, parting: Parting, *, store: Store, files: Sequence[str], source: Source
    ) -> None:
        self._parting, self._store = parting, store
        self._files, self._source = files, source
        self._seen = Seen(source.paths)
        self._parts: list[_Part] = []
        self._openings: list[UInt64] = []
        self._originals: list[UInt64] = []

    def add(self, text: Text, before: int = 0) -> None:
        """Take in the next text; its rows stand behind so many more lines of their file."""
        facts, path = text.facts, self._files[text.place]
        self._seen.add(Seen.from_json([], facts["seen"], path=path, before=before))
        moved = Moved(facts["seen"]["path"], path, before)
        self._parts.append(_Part(name=text.name, lines=text.lines, moved=moved))
        self._openings.append(keys(facts["openings"]))
        self._originals.append(keys(facts["originals"]))

    def finish(self) -> Result:
        """Choose, and write all files; errors as in `part`."""
        segmented = any(cutting.cutting_path(Path(file)).is_file() for file in self._files)
        shared = [self._openings, self._originals] if segmented else [self._openings]
        if not sum(part.lines for part in self._parts):
            raise InputError(self._seen.nothing_left("holds a conversation"))
        groups = split.groups(*map(np.concatenate, shared))
        chosen = split.split(groups, self._parting.share, self._parting.seed)
        if chosen.all():
            raise UsageError(
                "nothing would be left to train on: all conversations, which are "
                f"{len(chosen)}, would be for validation; lower the share, or name more data"
            )
        self._write(chosen)
        return Result(
            rows=self._seen.rows,
            training=_side(groups[~chosen]),
            validation=_side(groups[chosen]),
            wanted=self._parting.share,
            seed=self._parting.seed,
            largest=int(np.unique(groups, return_counts=True)[1].max()),
            segmented=segmented,
            rejections=self._seen.rejections,
            findings=self._seen.findings(),
        )

    def _write(self, chosen: Bool) -> None:
        training, validation = self._parting.outputs
        with ExitStack() as stack:
            kept, held_out = (stack.enter_context(replacing(out)) for out in (training, validation))
            first = 0
            for part in self._parts:
                lines = self._store.read(f"{part.name}.jsonl").splitlines(keepends=True)
                for line, out in zip(lines, chosen[first : first + part.lines], strict=True):
                    (held_out if out else kept).write(line)
                first += part.lines
        write_atomically(rejects_path(training), reject_lines(self._seen.rejections))
        if self._source.repair:
            with replacing(repairs_path(training)) as file:
                file.writelines(self._mended())
        cut = cutting.common(self._files)
        for output in self._parting.outputs:
            if cut is None:
                cutting.cutting_path(output).unlink(missing_ok=True)  # of a run before
            else:
                write_atomically(cutting.cutting_path(output), cutting.lines(cut))

    def _mended(self) -> Iterator[bytes]:
        """The repairs, a block at a time."""
        for part in self._parts:
            yield part.moved.lines(texts.facts(self._store, part.name)["mended"].encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A text: its name, how many lines it has, and where their rows are now."""

    name: str
    lines: int
    moved: Moved


def _side(groups: UInt64) -> Side:
    return Side(rows=len(groups), groups=len(np.unique(groups)))

"""Data in any known form to canonical JSON Lines. No tokenizer is needed for this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep import canonical
from glmprep.errors import InputError, UsageError
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding
from glmprep.mending import Unmending, read_ledger, repairs_path
from glmprep.records import Conversation, Rejection
from glmprep.seen import by_rule, reject_lines
from glmprep.source import Source
from glmprep.stream import Stream, rejects_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was read and written; `schemas` and `repaired` count conversations, by form and rule."""

    rows: int
    messages: int
    schemas: Mapping[str, int]
    repaired: Mapping[str, int]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    @property
    def conversations(self) -> int:
        """Rows that were written: every row ends as one of these or is rejected."""
        return self.rows - len(self.rejections)

    @property
    def reject_share(self) -> float:
        """Share of the rows read that are not in the output."""
        return len(self.rejections) / max(1, self.rows)

    def as_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "rows": self.rows,
            "conversations": self.conversations,
            "messages": self.messages,
            "schemas": dict(self.schemas),
            "repaired": dict(self.repaired),
            "rejected": by_rule(self.rejections),
        }


def convert(source: Source, output: Path, undo: Path | None = None) -> Result:
    """Write the conversations of `source` as canonical JSON Lines.

    What was rejected is listed in a file beside the output, and so are repairs where they were
    asked for. With `undo`, the ledger of repairs of an earlier output, that output is the source,
    and its repairs are taken back. Raises UsageError for an output that is an input, InputError
    where no row is left or the ledger is that of another file.
    """
    unmending = None if undo is None else Unmending(read_ledger(undo))
    stream = Stream(source, mend=unmending)
    require_other(output, stream.files)
    if unmending and (source.repair or len(stream.files) > 1):
        raise UsageError("--undo takes one file that --repair wrote, and goes without --repair")
    run = _Run(stream)
    with replacing(output) as file:
        file.writelines(run.lines())
        if len(stream.rejections) == stream.rows:
            raise InputError(stream.nothing_left("holds a conversation"))
    write_atomically(rejects_path(output), reject_lines(stream.rejections))
    if source.repair:
        write_atomically(repairs_path(output), stream.mending.ledger())
    return Result(
        rows=stream.rows,
        messages=run.messages,
        schemas=dict(stream.tally.schemas.most_common()),
        repaired=stream.mending.by_rule(),
        rejections=stream.rejections,
        findings=stream.findings(),
    )


@dataclass(slots=True)
class _Run:
    """One pass over the data, and the messages that it writes."""

    stream: Stream
    messages: int = 0

    def lines(self) -> Iterator[bytes]:
        """The lines of the output."""
        written = 0
        for item in self.stream.items():
            if isinstance(item, Conversation):
                written += 1
                self.messages += len(item.messages)
                self.stream.mending.written(item.origin, written)
                yield canonical.line(item)

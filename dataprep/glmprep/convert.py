"""Data in any known form to canonical JSON Lines. No tokenizer is needed for this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep import canonical, policy
from glmprep.collect import Hit
from glmprep.errors import InputError, UsageError
from glmprep.files import replacing, write_atomically
from glmprep.findings import RULES, Example, Finding
from glmprep.intake import EXAMPLES, by_rule, reject_lines
from glmprep.mending import Mending, Unmending, read_ledger, repairs_path
from glmprep.parse import parse
from glmprep.read import find, read
from glmprep.records import Conversation, Rejection
from glmprep.schemas.tally import Tally
from glmprep.segment import rejects_path
from glmprep.source import Source


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
    _require_own(output, find(source.paths))
    if undo is not None and (source.repair or len(find(source.paths)) > 1):
        raise UsageError("--undo takes one file that --repair wrote, and goes without --repair")
    run = _Run(source, None if undo is None else Unmending(read_ledger(undo)))
    with replacing(output) as file:
        file.writelines(run.lines())
        if len(run.rejections) == run.rows:
            raise InputError(_nothing_left(source, run.rejections))
    write_atomically(rejects_path(output), reject_lines(run.rejections))
    if source.repair:
        write_atomically(repairs_path(output), run.mending.ledger())
    return Result(
        rows=run.rows,
        messages=run.messages,
        schemas=dict(run.tally.schemas.most_common()),
        repaired=run.mending.by_rule(),
        rejections=run.rejections,
        findings=run.findings(),
    )


class _Run:
    """One pass over the data, and what it counts."""

    def __init__(self, source: Source, unmending: Unmending | None) -> None:
        self.rows = 0
        self.messages = 0
        self.rejections: list[Rejection] = []
        self.mending = Mending()
        self.tally = Tally()
        self._mend = self.mending if source.repair else unmending
        self._source = source

    def lines(self) -> Iterator[bytes]:
        """The lines of the output."""
        source = self._source
        items = parse(
            read(source.paths),
            source.roles,
            take=source.take,
            mend=self._mend,
            tally=self.tally,
        )
        for item in items:
            self.rows += 1
            if isinstance(item, Conversation):
                self.messages += len(item.messages)
                self.mending.written(item.origin, self.rows - len(self.rejections))
                yield canonical.line(policy.apply(item, source.train_on))
            else:
                self.rejections.append(item)

    def findings(self) -> list[Finding]:
        """What rejected, mended or noted rows; one finding for each rule."""
        where = ", ".join(self._source.paths)
        hits = [*_rejected(self.rejections), *self.mending.hits(), *self.tally.hits()]
        return [_finding(hit, where) for hit in sorted(hits, key=lambda hit: hit.rule.id)]


def _require_own(output: Path, files: Sequence[str]) -> None:
    if output.exists() and not output.is_file():
        raise UsageError(f"{output}: is a folder or a device; name a file")
    if output.exists() and any(Path(f).exists() and output.samefile(f) for f in files):
        raise UsageError(f"{output}: is also an input; name another output")


def _rejected(rejections: Sequence[Rejection]) -> Iterator[Hit]:
    for rule, count in by_rule(rejections).items():
        shown = [one for one in rejections if one.rule == rule][:EXAMPLES]
        examples = [Example(where=str(one.origin), excerpt=one.reason) for one in shown]
        yield Hit(rule=RULES[rule], count=count, rows=count, examples=examples)


def _finding(hit: Hit, where: str) -> Finding:
    data: dict[str, Any] = {**hit.data, "count": hit.count, "rows": hit.rows}
    return hit.rule.finding(where, examples=tuple(hit.examples), **data)


def _nothing_left(source: Source, rejections: Sequence[Rejection]) -> str:
    names = ", ".join(source.paths)
    if not rejections:
        return f"{names}: no rows"
    first = rejections[0]
    fix = RULES[first.rule].finding(str(first.origin), count=1, rows=1).fix
    return (
        f"{names}: no row holds a conversation, of {len(rejections)}; "
        f"the first: {first.origin}: {first.reason}; {fix}"
    )

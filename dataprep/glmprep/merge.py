"""Data with less in it that says nothing new, and a map that gives back every byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import orjson

from glmprep import canonical
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.mending import repairs_path
from glmprep.merging.amounts import Amount, amounts, conversations
from glmprep.merging.differences import Difference
from glmprep.merging.groups import Groups, says_the_same
from glmprep.merging.merger import Merged, Merger
from glmprep.merging.outcomes import kept_in_order, key_lost
from glmprep.merging.restoring import Digests, entry, gone, map_path
from glmprep.merging.tally import Removed, Tally
from glmprep.records import Conversation, Origin, Rejection
from glmprep.source import Source
from glmprep.stream import by_rule, reject_lines, rejects_path
from glmprep.tokenizer import Tokenizer

CHUNK = 64
"""Conversations that are measured at once."""


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


def merge(
    source: Source,
    output: Path | None,
    *,
    merger: Merger,
    groups: Groups | None = None,
    family: Family,
    tokenizer: Tokenizer,
) -> Result:
    """Merge the conversations of `source`, and write what is left as canonical JSON Lines.

    Beside `output` stand the map (see `merging.restoring`) and the list of rows that are left out;
    for None nothing is written. Raises UsageError for an output that is an input, InputError where
    no conversation is left.
    """
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    if output is not None:
        require_other(output, intake.files)
    with TemporaryFile() as spool:
        run = _Run(
            intake=intake,
            merger=merger,
            groups=groups,
            family=family,
            tokenizer=tokenizer,
            spool=spool,
        )
        run.read()
        run.write(output)
    if output is not None:
        write_atomically(rejects_path(output), reject_lines(intake.rejections))
        if source.repair:
            write_atomically(repairs_path(output), intake.mending.ledger())
    result = Result(
        rows=intake.rows,
        before=run.tally.before,
        after=run.after,
        removed=dict(sorted(run.tally.removed.items())),
        differences=dict(sorted(run.tally.differences.items())),
        rejections=intake.rejections,
        findings=run.findings(),
    )
    assert result.balances, f"turns or tokens were lost or doubled: {result.as_json()}"
    return result


@dataclass(slots=True, kw_only=True)
class _Run:
    """One merge: rows wait in `spool` between the pass over the data and the writing.

    `places` tells where in it a row is, kept only where groups are looked for.
    """

    intake: Intake
    merger: Merger
    groups: Groups | None
    family: Family
    tokenizer: Tokenizer
    spool: IO[bytes]
    tally: Tally = field(default_factory=Tally)
    after: Amount = field(default_factory=Amount)
    digests: Digests = field(default_factory=Digests.new)
    places: dict[Origin, int] = field(default_factory=dict)

    def read(self) -> None:
        """The pass over the data: each row is merged, measured, and put in the spool."""
        for batch in self.intake.batches():
            chats = iter(batch.conversations)
            while chunk := list(islice(chats, CHUNK)):
                self._merge(chunk)

    def write(self, output: Path | None) -> None:
        """Write what is left and the map, where there is an output, and count it anew."""
        with ExitStack() as files:
            out = files.enter_context(replacing(output)) if output else None
            entries = files.enter_context(replacing(map_path(output))) if output else None
            lines = self._lines(entries)
            while chunk := list(islice(lines, CHUNK)):
                if out is not None:
                    out.writelines(chunk)
                self.after = sum(self._sizes(map(orjson.loads, chunk)), self.after)
            if entries is not None:
                entries.write(orjson.dumps(self.digests.as_json()) + b"\n")
            if not self.after.rows:
                raise InputError(self.intake.nothing_left("is left"))

    def findings(self) -> list[Finding]:
        """One finding for each rule that removed something, or kept something from going."""
        for hit in (*self.tally.hits(), *(self.groups.hits() if self.groups else ())):
            self.intake.hit(hit)
        return self.intake.findings()

    def _merge(self, chats: Sequence[Conversation]) -> None:
        rows = [self.merger(canonical.row(chat), chat.origin) for chat in chats]
        for place, (row, sizes) in enumerate(zip(rows, self._measured(rows), strict=True)):
            if None in sizes:
                rows[place] = row.untouched(kept_in_order.id, "the template cannot render it")
            known = [size for size in sizes[: len(rows[place].states) + 1] if size is not None]
            self._settle(rows[place], known)
        if self.groups is not None:
            left = [row for row in rows if row.gone is None]
            made = [_conversation(row.left, row.origin) for row in left]
            self.groups.add(made, tokenize(made, self.family, self.tokenizer))

    def _settle(self, row: Merged, sizes: Sequence[Amount]) -> None:
        """Count a row, and put it in the spool."""
        self.tally.add(row, sizes)
        if row.gone is not None:
            self.tally.drop(row.gone, row.origin, row.messages, sizes[-1])
            self.intake.reject(
                Rejection(
                    rule=row.gone,
                    reason="nothing to train is left of it",
                    origin=row.origin,
                    conversation=row.row["id"],
                )
            )
        self.digests.source.update(orjson.dumps(row.row) + b"\n")
        if self.groups is not None:
            self.places[row.origin] = self.spool.tell()
        value = {
            "origin": [row.origin.path, row.origin.line],
            "gone": row.gone,
            "row": row.left,
            "changes": [change.as_json() for change in row.changes],
        }
        self.spool.write(orjson.dumps(value) + b"\n")

    def _measured(self, rows: Sequence[Merged]) -> list[list[Amount | None]]:
        """What each row holds as it came and in each of its states."""
        states = [[row.row["messages"], *(state for _, state in row.states)] for row in rows]
        told = [
            _conversation({**row.row, "messages": messages}, row.origin)
            for row, many in zip(rows, states, strict=True)
            for messages in many
            if messages
        ]
        found = iter(amounts(told, self.family, self.tokenizer))
        return [
            [next(found) if messages else Amount(rows=1) for messages in many] for many in states
        ]

    def _sizes(self, rows: Iterator[Any]) -> list[Amount]:
        """What finished rows hold."""
        told = [_conversation(row, NOWHERE) for row in rows]
        return [size for size in amounts(told, self.family, self.tokenizer) if size is not None]

    def _lines(self, entries: IO[bytes] | None) -> Iterator[bytes]:
        """The lines of the output; what became of their rows goes to the map."""
        dropped = self.groups.dropped() if self.groups else {}
        line, place = 1, 0
        while spooled := self._spooled(place):
            place += len(spooled)
            value = orjson.loads(spooled)
            origin, row = Origin(*value["origin"]), value["row"]
            rule, kept = value["gone"], self._kept_for(origin, row, dropped)
            if kept is not None:
                rule = says_the_same.id
                self.tally.drop(rule, origin, row["messages"], self._sizes(iter([row]))[0])
            if entries is not None and (rule or value["changes"]):
                told = entry(str(origin), line, value["changes"])
                if rule:
                    told |= gone(rule, row, None if kept is None else str(kept))
                entries.write(orjson.dumps(told) + b"\n")
            if not rule:
                left = orjson.dumps(row) + b"\n"
                self.digests.merged.update(left)
                line += 1
                yield left

    def _kept_for(
        self, origin: Origin, row: Any, dropped: Mapping[Origin, Origin]
    ) -> Origin | None:
        """The row in favour of which one goes, if it does and loses no key information."""
        kept = dropped.get(origin)
        if kept is None:
            return None
        other = orjson.loads(self._spooled(self.places[kept]))["row"]
        if missing := key_lost(row["messages"], other["messages"]):
            note = f"{', '.join(missing)} is not in {kept}"
            self.tally.hold(key_lost.id, origin, note)
            return None
        return kept

    def _spooled(self, place: int) -> bytes:
        """The line of the spool that begins at a place."""
        self.spool.seek(place)
        return self.spool.readline()


NOWHERE = Origin("", 1)


def _conversation(row: Any, origin: Origin) -> Conversation:
    made = next(conversations([row], origin))
    assert isinstance(made, Conversation), f"{origin}: a merged row is no conversation: {made}"
    return made

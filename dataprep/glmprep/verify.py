"""Prove that a shard folder is whole, that its ledger holds, and that it is what the data says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import orjson
import polars as pl

from glmprep import entries
from glmprep.accounts import SCHEMA, added_up
from glmprep.errors import InputError
from glmprep.findings import Example, Finding, Rule
from glmprep.labels import open_ends
from glmprep.read import REJECTS
from glmprep.reread import Again, Inputs, read_again
from glmprep.rules.inputs import ROW_RULES, beside_data, other_files
from glmprep.rules.ledger import (
    REJECT_KEY,
    SEGMENTS,
    beside_rejects,
    beside_shards,
    rejects_differ,
    segment_table,
    unmatched,
    wrong_line,
)
from glmprep.rules.shards import (
    broken_layout,
    file_changed,
    sums_differ,
    wrong_labels,
)
from glmprep.shards import LEDGER, Manifest, Rows, read_files, read_manifest

EXAMPLES = 5
WITHOUT_DATA = (
    file_changed,
    sums_differ,
    broken_layout,
    wrong_labels,
    wrong_line,
    unmatched,
    rejects_differ,
)
WITH_DATA = (other_files, *ROW_RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was proven: the sums found in the shards, which rules were checked, what differs.

    `lines` are those of the ledger, `rows_again` the rows of the data where it was read again.
    """

    manifest: Manifest
    rows: int
    segments: int
    tokens: int
    supervised: int
    lines: int
    rows_again: int | None
    checked: frozenset[str]
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The sums as plain JSON values."""
        return {
            "rows": self.rows,
            "segments": self.segments,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "files": len(self.manifest.files),
            "ledger_lines": self.lines,
            "rows_of_data": self.rows_again,
            "checked": sorted(self.checked),
            "verified": not self.findings,
        }


def verify(folder: Path, inputs: Inputs | None = None) -> Result:
    """Check a shard folder, and where `inputs` are given that it is what they say.

    What differs comes back as findings. Raises IncompleteShards or InputError where there is
    nothing that could be checked.
    """
    manifest = read_manifest(folder)
    proof = _Proof(folder=folder, manifest=manifest)
    proof.check(file_changed, file_changed(folder, manifest))
    try:
        segments = proof.shards()
        lines = entries.read(folder / LEDGER, SCHEMA)
    except InputError:
        if not proof.findings:
            raise
        # The file that cannot be read is among the findings already.
        return proof.result()
    proof.ledger(lines, segments)
    again = None if inputs is None else read_again(manifest, inputs)
    if again is not None:
        proof.data(lines, again)
    proof.sums(lines, again)
    return proof.result()


@dataclass(slots=True, kw_only=True)
class _Proof:
    """What was checked so far, and what was found."""

    folder: Path
    manifest: Manifest
    findings: list[Finding] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)
    lines: int = 0
    rows_again: int | None = None
    found: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("rows", "segments", "tokens", "supervised", "open_ends"), 0
        )
    )

    def check(self, rule: Rule[Any], places: Sequence[str]) -> None:
        """Note that a rule was checked, and where it is broken."""
        self._note(rule, len(places), [Example(where=place) for place in places[:EXAMPLES]])

    def shards(self) -> pl.DataFrame:
        """Check all rows; returns a table of their segments for `rules.ledger`."""
        found, parts = self.found, []
        bad: dict[str, list[str]] = {broken_layout.id: [], wrong_labels.id: []}
        for rows in read_files(self.folder, self.manifest):
            for rule in (broken_layout, wrong_labels):
                at = rule(rows, self.manifest) + found["rows"]
                bad[rule.id] += [f"row {row}" for row in at.tolist()]
            parts.append(segment_table(rows, found["rows"]))
            _count(found, rows, self.manifest)
        for rule in (broken_layout, wrong_labels):
            self.check(rule, bad[rule.id])
        return pl.concat([pl.DataFrame(schema=SEGMENTS), *parts])

    def ledger(self, lines: pl.DataFrame, segments: pl.DataFrame) -> None:
        """Check the ledger's lines beside the shards and the list of rejected rows."""
        self.lines = lines.height
        table = beside_shards(lines, segments)
        for rule in (wrong_line, unmatched):
            self._check_rows(rule, table)
        self._check_rows(rejects_differ, beside_rejects(lines, _rejects(self.folder / REJECTS)))

    def data(self, lines: pl.DataFrame, again: Again) -> None:
        """Check the ledger's lines beside those that the data makes."""
        self.rows_again = again.ledger.read
        self.check(other_files, other_files(self.manifest.inputs, again.names))
        table = beside_data(lines, again.lines, again.files)
        for rule in ROW_RULES:
            self._check_rows(rule, table)

    def sums(self, lines: pl.DataFrame, again: Again | None) -> None:
        """Check all sums against each other."""
        counted = None if again is None else again.ledger
        listed = added_up(lines)
        self.check(sums_differ, sums_differ(self.found, self.manifest, listed, counted))

    def result(self) -> Result:
        """All of it."""
        sums = {name: count for name, count in self.found.items() if name != "open_ends"}
        return Result(
            manifest=self.manifest,
            **sums,
            lines=self.lines,
            rows_again=self.rows_again,
            checked=frozenset(self.checked),
            findings=sorted(self.findings, key=lambda finding: finding.rule),
        )

    def _check_rows(self, rule: Rule[Any], table: pl.DataFrame) -> None:
        broken = table.filter(rule()).select("where", "excerpt")
        shown = [Example(where=w or "?", excerpt=e or "") for w, e in broken.head(EXAMPLES).rows()]
        self._note(rule, broken.height, shown)

    def _note(self, rule: Rule[Any], count: int, examples: Sequence[Example]) -> None:
        self.checked.add(rule.id)
        if count:
            where = str(self.folder)
            self.findings.append(rule.finding(where, count=count, examples=tuple(examples)))


def _count(found: dict[str, int], rows: Rows, manifest: Manifest) -> None:
    found["rows"] += len(rows)
    found["segments"] += sum(map(len, rows.conversation_ids))
    found["tokens"] += len(rows.input_ids)
    found["supervised"] += int(rows.supervised.sum())
    ends = open_ends(rows.input_ids, rows.loss_mask, rows.offsets, manifest.stop_ids)
    found["open_ends"] += int(ends.sum())


def _rejects(path: Path) -> pl.DataFrame:
    """The rows that a list of rejections names; none where there is no list.

    A line that is none of ours stands among them as it is, so that it is missed by the ledger.
    """
    columns: dict[str, list[Any]] = {name: [] for name in REJECT_KEY}
    if path.is_file():
        with path.open("rb") as file:
            for text in file:
                for name, value in zip(REJECT_KEY, _rejected(text), strict=True):
                    columns[name].append(value)
    return pl.DataFrame(columns, schema=dict.fromkeys(REJECT_KEY, pl.String) | {"line": pl.Int64})


def _rejected(text: bytes) -> tuple[str | None, int | None, str | None, str | None]:
    """File, line, rule and conversation of one line of the list."""
    try:
        value = orjson.loads(text)
        path, _, line = value["where"].rpartition(":")
        name = value["conversation"]
        return (
            PurePath(path).name,
            int(line),
            str(value["rule"]),
            None if name is None else str(name),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, None, text.decode(errors="replace")[:80], None

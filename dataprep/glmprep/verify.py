"""Prove that a shard folder is whole and that its sums and labels hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glmprep.errors import InputError
from glmprep.files import sha256
from glmprep.findings import Example, Finding, Severity, rule
from glmprep.labels import open_ends, ranges
from glmprep.ledger import Ledger
from glmprep.shards import Manifest, Rows, read_files, read_manifest

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was proven: the sums found in the shards, and what differs."""

    manifest: Manifest
    rows: int
    segments: int
    tokens: int
    supervised: int
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The sums as plain JSON values."""
        return {
            "rows": self.rows,
            "segments": self.segments,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "files": len(self.manifest.files),
            "verified": not self.findings,
        }


@rule("DV001", Severity.ERROR)
def file_changed(folder: Path, manifest: Manifest) -> list[str]:
    """A shard file is not the one that was written.

    Evidence: files that are missing, or whose sha256 differs from the manifest: {count}.
    Why: the file was damaged or edited after it was written, so its labels cannot be trusted.
    Fix: run glmprep bucket again, or copy the folder again.
    """
    return [
        str(entry["name"])
        for entry in manifest.files
        if not (folder / str(entry["name"])).is_file()
        or sha256(folder / str(entry["name"])) != entry["sha256"]
    ]


@rule("DV002", Severity.ERROR)
def sums_differ(found: dict[str, int], manifest: Manifest) -> list[str]:
    """Sums do not balance.

    Evidence: sums of the manifest, its ledger and the shards that differ: {count}.
    Why: tokens were lost or doubled somewhere between the data and the shards.
    Fix: run glmprep bucket again; if it happens again, report it as a defect.
    """
    ledger = Ledger.from_json(manifest.ledger)
    files = [
        (name, sum(int(entry[name]) for entry in manifest.files), "list of files")
        for name in ("rows", "tokens", "supervised")
    ]
    listed = [
        *files,
        ("segments", ledger.written.rows, "ledger"),
        ("tokens", ledger.written.tokens, "ledger"),
        ("supervised", ledger.written.supervised, "ledger"),
        ("open_ends", ledger.open_ends, "ledger"),
    ]
    differ = [
        f"{name}: {found[name]} in the shards, {value} in the {place}"
        for name, value, place in listed
        if found[name] != value
    ]
    return differ + ledger.differences()


@rule("DV003", Severity.ERROR)
def broken_layout(rows: Rows, manifest: Manifest) -> Int64:
    """Position or segment ids are broken.

    Evidence: rows whose position ids do not restart with each segment, whose segment ids are
    out of order, or with more tokens than their bucket: {count}.
    Why: packed conversations would look into each other, or a batch would not fit.
    Fix: run glmprep bucket again; do not edit shards.
    """
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    starts = _segment_starts(rows)
    bounds = np.append(starts, len(row))
    lengths = np.diff(bounds)
    expected = ranges(np.zeros(len(starts), np.int64), lengths)
    wrong = rows.position_ids != expected
    first = np.zeros(len(row), bool)
    first[rows.offsets[:-1]] = True
    step = np.diff(rows.segment_ids, prepend=0)
    wrong |= np.where(first, rows.segment_ids != 0, (step != 0) & (step != 1))
    broken = np.bincount(row, wrong, len(rows)) > 0
    broken |= rows.lengths > rows.bucket
    per_row = np.bincount(row[starts], minlength=len(rows))
    broken |= per_row != np.fromiter(map(len, rows.conversation_ids), np.int64, len(rows))
    return np.flatnonzero(broken)


@rule("DV004", Severity.ERROR)
def wrong_labels(rows: Rows, manifest: Manifest) -> Int64:
    """A label stands where none may be.

    Evidence: rows without any training target, or with one on the padding token or at a
    segment's first token: {count}.
    Why: the first token has nothing before it to be predicted from, and a row without targets
    trains nothing.
    Fix: run glmprep bucket again; do not edit shards.
    """
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    trained = rows.loss_mask == 1
    wrong = (rows.loss_mask > 1) | (trained & (rows.input_ids == manifest.pad_id))
    wrong[_segment_starts(rows)] |= trained[_segment_starts(rows)]
    return np.flatnonzero((np.bincount(row, wrong, len(rows)) > 0) | (rows.supervised == 0))


def verify(folder: Path) -> Result:
    """Check a shard folder; what differs comes back as findings.

    Raises IncompleteShards or InputError where there is nothing that could be checked.
    """
    manifest = read_manifest(folder)
    findings = list(_file_findings(folder, manifest))
    found = dict.fromkeys(("rows", "segments", "tokens", "supervised", "open_ends"), 0)
    bad: dict[str, list[int]] = {broken_layout.id: [], wrong_labels.id: []}
    try:
        for rows in read_files(folder, manifest):
            for check in (broken_layout, wrong_labels):
                bad[check.id] += (check(rows, manifest) + found["rows"]).tolist()
            _count(found, rows, manifest)
    except InputError:
        if not findings:
            raise
        # The file that cannot be read is among the findings already.
        return Result(manifest=manifest, findings=findings, **_shown(found))
    if differ := sums_differ(found, manifest):
        findings.append(_finding(sums_differ, folder, differ))
    for check in (broken_layout, wrong_labels):
        if bad[check.id]:
            findings.append(_finding(check, folder, [f"row {row}" for row in bad[check.id]]))
    return Result(manifest=manifest, findings=findings, **_shown(found))


def _segment_starts(rows: Rows) -> Int64:
    new = np.diff(rows.segment_ids, prepend=-1) != 0
    new[rows.offsets[:-1]] = True
    return np.flatnonzero(new)


def _count(found: dict[str, int], rows: Rows, manifest: Manifest) -> None:
    found["rows"] += len(rows)
    found["segments"] += sum(map(len, rows.conversation_ids))
    found["tokens"] += len(rows.input_ids)
    found["supervised"] += int(rows.supervised.sum())
    ends = open_ends(rows.input_ids, rows.loss_mask, rows.offsets, manifest.stop_ids)
    found["open_ends"] += int(ends.sum())


def _shown(found: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in found.items() if name != "open_ends"}


def _file_findings(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    if changed := file_changed(folder, manifest):
        yield _finding(file_changed, folder, changed)


def _finding(check: Any, folder: Path, places: list[str]) -> Finding:
    finding: Finding = check.finding(
        str(folder), count=len(places), examples=tuple(Example(where=p) for p in places[:5])
    )
    return finding

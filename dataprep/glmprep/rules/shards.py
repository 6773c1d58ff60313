"""Rules on a shard folder: its files, its sums, and the rows of one file at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glmprep.files import sha256
from glmprep.findings import Severity, rule
from glmprep.labels import ranges
from glmprep.ledger import Ledger
from glmprep.shards import LEDGER, Manifest, Rows

Int64 = npt.NDArray[np.int64]
UNTOLD = ("rejected_turns", "repaired.", "sound.turns", "open_ends")
"""Sums that no line of a ledger has a part in."""


@rule("DV001", Severity.ERROR)
def file_changed(folder: Path, manifest: Manifest) -> list[str]:
    """A shard file is not the one that was written.

    Evidence: files that are missing, or whose sha256 differs from the manifest: {count}.
    Why: the file was damaged or edited after it was written, so its labels cannot be trusted.
    Fix: run glmprep bucket again, or copy the folder again.
    """
    changed = [
        str(entry["name"])
        for entry in manifest.files_listed
        if not (folder / str(entry["name"])).is_file()
        or sha256(folder / str(entry["name"])) != entry["sha256"]
    ]
    return changed + ([LEDGER] if manifest.ledger_file is None else [])


@rule("DV002", Severity.ERROR)
def sums_differ(
    found: Mapping[str, int], manifest: Manifest, lines: Ledger | None, again: Ledger | None
) -> list[str]:
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
    differ += ledger.differences()
    if lines is not None:
        differ += _unlike(ledger, lines, "lines of the ledger", UNTOLD)
    return differ + (_unlike(ledger, again, "data", ()) if again is not None else [])


@rule("DV003", Severity.ERROR)
def broken_layout(rows: Rows, manifest: Manifest) -> Int64:
    """Position or segment ids are broken.

    Evidence: rows whose position ids do not restart with each segment, whose segment ids are
    out of order, or with more tokens than their bucket: {count}.
    Why: packed conversations would look into each other, or a batch would not fit.
    Fix: run glmprep bucket again; do not edit shards.
    """
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    starts = segment_starts(rows)
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
    starts = segment_starts(rows)
    wrong[starts] |= trained[starts]
    return np.flatnonzero((np.bincount(row, wrong, len(rows)) > 0) | (rows.supervised == 0))


def segment_starts(rows: Rows) -> Int64:
    """Positions, over the tokens of all rows, at which a segment begins."""
    new = np.diff(rows.segment_ids, prepend=-1) != 0
    new[rows.offsets[:-1]] = True
    return np.flatnonzero(new)


def _unlike(ledger: Ledger, other: Ledger, place: str, left_out: tuple[str, ...]) -> list[str]:
    """The sums in which a ledger differs from another account of the same."""
    here, there = ledger.flat(), other.flat()
    return [
        f"{name}: {here.get(name, 0)} in the ledger, {there.get(name, 0)} in the {place}"
        for name in sorted({*here, *there})
        if here.get(name, 0) != there.get(name, 0) and not name.startswith(left_out)
    ]

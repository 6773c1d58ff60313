"""A row of a shard as text, with what is trained told apart from what is read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glmprep.errors import InputError, UsageError
from glmprep.shards import Rows, made_with, read_files, read_manifest
from glmprep.tokenizer import Tokenizer
from glmprep.transcript import Span, kinds_of, spans_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """One row: its conversations, its sums, and its text in spans."""

    row: int
    conversations: Sequence[str]
    bucket: int
    tokens: int
    supervised: int
    spans: Sequence[Span]

    def as_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return {
            "row": self.row,
            "conversations": list(self.conversations),
            "bucket": self.bucket,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "spans": [{"kind": span.kind, "text": span.text} for span in self.spans],
        }


def show(folder: Path, wanted: Sequence[int], tokenizer: str | None = None) -> list[ShownRow]:
    """Rows of a shard folder by number (from 0).

    Raises UsageError for a number past the end and for another tokenizer than the one that made the
    shards, InputError for a folder that is damaged.
    """
    manifest = read_manifest(folder)
    reader = made_with(manifest, tokenizer)
    total = sum(int(entry["rows"]) for entry in manifest.files)
    for row in wanted:
        if not 0 <= row < total:
            raise UsageError(f"{folder}: there is no row {row}; rows are 0 to {total - 1}")
    shown: dict[int, ShownRow] = {}
    first = 0
    for rows in read_files(folder, manifest):
        for row in wanted:
            if first <= row < first + len(rows):
                shown[row] = _shown(rows, row - first, row, reader)
        first += len(rows)
    if len(shown) < len(set(wanted)):
        raise InputError(f"{folder}: has fewer rows than its manifest says; run glmprep verify")
    return [shown[row] for row in wanted]


def _shown(rows: Rows, place: int, row: int, tokenizer: Tokenizer) -> ShownRow:
    at = slice(int(rows.offsets[place]), int(rows.offsets[place + 1]))
    ids, mask = rows.input_ids[at], rows.loss_mask[at]
    tokens = ids.tolist()
    return ShownRow(
        row=row,
        conversations=rows.conversation_ids[place],
        bucket=int(rows.bucket[place]),
        tokens=len(ids),
        supervised=int(np.count_nonzero(mask)),
        spans=spans_of(tokens, kinds_of(tokens, mask.tolist(), tokenizer), tokenizer),
    )

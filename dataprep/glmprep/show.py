"""A row of a shard as text, with what is trained told apart from what is read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from glmprep.errors import InputError, UsageError
from glmprep.shards import Manifest, Rows, read_files, read_manifest
from glmprep.tokenizer import EMBEDDED, Tokenizer, load

if TYPE_CHECKING:
    from rich.text import Text

Kind = Literal["trained", "stop", "context", "special"]
STYLES: dict[Kind, str] = {
    "trained": "bold black on green",
    "stop": "bold white on magenta",
    "context": "",
    "special": "cyan",
}
MARKS: dict[Kind, tuple[str, str]] = {"trained": ("⟦", "⟧"), "stop": ("⟪", "⟫")}
"""Where colours cannot be seen, these stand around what is trained."""


@dataclass(frozen=True, slots=True)
class Span:
    """Text whose tokens are all treated alike; `stop` is a control token that is trained."""

    text: str
    kind: Kind


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

    Raises UsageError for a number past the end, InputError for another tokenizer than the one that
    made the shards.
    """
    manifest = read_manifest(folder)
    reader = _tokenizer(manifest, tokenizer)
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


def spans_of(ids: Sequence[int], mask: Sequence[int], tokenizer: Tokenizer) -> list[Span]:
    """Tokens as text, in runs that are treated alike."""
    kinds = [_kind(token, trained, tokenizer) for token, trained in zip(ids, mask, strict=True)]
    spans: list[Span] = []
    begin = 0
    for end in range(1, len(kinds) + 1):
        if end == len(kinds) or kinds[end] != kinds[begin]:
            spans.append(Span(tokenizer.decode(ids[begin:end]), kinds[begin]))
            begin = end
    return spans


def as_text(row: ShownRow, *, colour: bool) -> Text:
    """The row for a terminal: colours, or marks around what is trained."""
    from rich.text import Text

    from glmprep.console import printable

    text = Text()
    for span in row.spans:
        shown = "\n".join(printable(line) for line in span.text.split("\n"))
        before, after = ("", "") if colour else MARKS.get(span.kind, ("", ""))
        text.append(f"{before}{shown}{after}", style=STYLES[span.kind] if colour else "")
    return text


def _kind(token: int, trained: int, tokenizer: Tokenizer) -> Kind:
    if tokenizer.is_added(token):
        return "stop" if trained else "special"
    return "trained" if trained else "context"


def _shown(rows: Rows, place: int, row: int, tokenizer: Tokenizer) -> ShownRow:
    at = slice(int(rows.offsets[place]), int(rows.offsets[place + 1]))
    ids, mask = rows.input_ids[at], rows.loss_mask[at]
    return ShownRow(
        row=row,
        conversations=rows.conversation_ids[place],
        bucket=int(rows.bucket[place]),
        tokens=len(ids),
        supervised=int(np.count_nonzero(mask)),
        spans=spans_of(ids.tolist(), mask.tolist(), tokenizer),
    )


def _tokenizer(manifest: Manifest, spec: str | None) -> Tokenizer:
    tokenizer = load(spec or EMBEDDED)
    if tokenizer.fingerprint != manifest.tokenizer["sha256"]:
        name = manifest.tokenizer["name"]
        raise InputError(f"the shards were made with the tokenizer {name!r}; pass --tokenizer PATH")
    return tokenizer

"""A small set that stands for all: whole conversations by length, language and use of tools.

Length is counted in bytes of a conversation's line as it is written, which in Chinese and in
English alike are three to six a token, so that nothing has to be tokenized.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from glmprep import canonical
from glmprep.draw import Drawing, Extreme
from glmprep.errors import InputError
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding
from glmprep.languages import LANGUAGES, languages
from glmprep.mending import repairs_path
from glmprep.records import Conversation, Origin, Rejection
from glmprep.seen import by_rule, reject_lines
from glmprep.source import Source
from glmprep.stream import Stream, rejects_path

BATCH = 1024
IN_MEMORY = 64 << 20
SHORT = 1 << 10
"""Bytes of the conversations in the first class of lengths; those of the next are double."""


class Stratum(NamedTuple):
    """What conversations have in common: class of length, place in LANGUAGES, use of tools."""

    length: int
    language: int
    tools: bool

    @property
    def bounds(self) -> tuple[int, int]:
        """Bytes: more than the first, at most the second."""
        return (SHORT << self.length - 1 if self.length else 0), SHORT << self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was read and drawn; `strata` holds how many conversations there are and were drawn."""

    rows: int
    wanted: int
    seed: int
    strata: Mapping[Stratum, tuple[int, int]]
    shortest: Extreme[Stratum]
    longest: Extreme[Stratum]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]
    repaired: bool

    @property
    def conversations(self) -> int:
        """Rows that are conversations, drawn or not."""
        return sum(there for there, _ in self.strata.values())

    @property
    def drawn(self) -> int:
        """Conversations in the output."""
        return sum(taken for _, taken in self.strata.values())

    @property
    def missing(self) -> int:
        """Strata of which none was drawn, since there are more of them than rows wanted."""
        return sum(not taken for _, taken in self.strata.values())

    @property
    def reject_share(self) -> float:
        """Share of the rows read that are no conversations."""
        return len(self.rejections) / max(1, self.rows)

    def as_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "rows": self.rows,
            "conversations": self.conversations,
            "wanted": self.wanted,
            "drawn": self.drawn,
            "seed": self.seed,
            "strata": [
                {
                    "bytes_over": stratum.bounds[0],
                    "bytes_to": stratum.bounds[1],
                    "language": LANGUAGES[stratum.language],
                    "tools": stratum.tools,
                    "conversations": there,
                    "drawn": taken,
                }
                for stratum, (there, taken) in self.strata.items()
            ],
            "shortest": {"where": self.shortest.where, "bytes": self.shortest.row.size},
            "longest": {"where": self.longest.where, "bytes": self.longest.row.size},
            "rejected": by_rule(self.rejections),
        }


def sample(source: Source, output: Path, *, rows: int, seed: int) -> Result:
    """Write `rows` conversations of `source` as canonical JSON Lines, in the order of reading.

    Each stratum gives its share and at least one, and the longest and the shortest of all are
    there. One pass, in bounded memory. Raises UsageError for an output that is an input,
    InputError where no row holds a conversation.
    """
    stream = Stream(source)
    require_other(output, stream.files)
    with SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        drawing: Drawing[Stratum] = Drawing(rows, seed, spool)
        origins = _read(stream, drawing)
        if drawing.shortest is None or drawing.longest is None:
            raise InputError(stream.nothing_left("holds a conversation"))
        with replacing(output) as file:
            for place, (order, line) in enumerate(drawing.drawn(), 1):
                file.write(line)
                if order in origins:
                    stream.mending.written(origins[order], place)
    write_atomically(rejects_path(output), reject_lines(stream.rejections))
    if source.repair:
        write_atomically(repairs_path(output), stream.mending.ledger())
    shares = drawing.shares()
    return Result(
        rows=stream.rows,
        wanted=rows,
        seed=seed,
        strata={s: (drawing.counts[s], shares[s]) for s in sorted(drawing.counts)},
        shortest=drawing.shortest,
        longest=drawing.longest,
        rejections=stream.rejections,
        findings=stream.findings(),
        repaired=bool(stream.repaired),
    )


def _read(stream: Stream, drawing: Drawing[Stratum]) -> dict[int, Origin]:
    """Takes in all conversations; returns where those that were mended came from, by order."""
    mended = {}
    for order, (conversation, line, stratum) in enumerate(_lines(stream)):
        drawing.add(line, stratum, str(conversation.origin))
        if conversation.origin in stream.mending.rows:
            mended[order] = conversation.origin
    return mended


def _lines(stream: Stream) -> Iterator[tuple[Conversation, bytes, Stratum]]:
    items = stream.items()
    while chunk := list(islice(items, BATCH)):
        conversations = [item for item in chunk if isinstance(item, Conversation)]
        if not conversations:
            continue
        for conversation, language in zip(
            conversations, languages(conversations).tolist(), strict=True
        ):
            line = canonical.line(conversation)
            yield (
                conversation,
                line,
                Stratum(_length_class(len(line)), language, _tools(conversation)),
            )


def _length_class(size: int) -> int:
    """0 up to SHORT bytes, and one more for each doubling."""
    return max(0, (size - 1).bit_length() - (SHORT - 1).bit_length())


def _tools(conversation: Conversation) -> bool:
    return bool(conversation.tools) or any(m.tool_calls for m in conversation.messages)

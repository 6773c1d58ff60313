"""Real meetings with annotated topics: QMSum (English) and VCSum (Chinese)."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from glmprep import tokenizer
from glmprep.segmenters.stretch import Int64, Stretch

GAP = 20
"""Of a meeting's turns one in so many, outside all topics in a row, are a topic of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """The turns of a meeting, their tokens, and the first turn of each annotated topic."""

    texts: Sequence[str]
    tokens: Int64
    topics: Sequence[int]

    def __len__(self) -> int:
        return len(self.texts)

    def stretch(self, limit: int, before: int = 0) -> Stretch:
        """The meeting as segmenters see it."""
        repeated = np.full(len(self), before, np.int64)
        return Stretch(tokens=self.tokens, before=repeated, limit=limit, texts=self.texts)


def assets() -> Path:
    """The folder that GLM_ASSETS names, or the one beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    return Path(os.environ.get("GLM_ASSETS", beside))


def qmsum(name: str) -> list[Meeting]:
    """The meetings of one file of QMSum, such as `Academic_val`."""
    vocabulary = tokenizer.load()
    meetings = []
    for row in rows_of(assets() / "data" / "qmsum" / f"{name}.jsonl.gz"):
        texts = [turn["content"] for turn in row["meeting_transcripts"]]
        spans = [span for topic in row["topic_list"] for span in topic["relevant_text_span"]]
        topics = topic_starts([(int(first), int(last)) for first, last in spans], len(texts))
        meetings.append(Meeting(texts=texts, tokens=_tokens(texts, vocabulary), topics=topics))
    return meetings


def topic_starts(spans: Sequence[tuple[int, int]], turns: int) -> list[int]:
    """Where the topics begin whose spans (first and last turn) may overlap and leave gaps.

    A topic begins where one of its spans does, so it ends where the next one begins, even if their
    spans overlap. Turns outside all spans belong to the topic before them, those at the start to
    the first one; but a gap of more than a GAP-th of the meeting is a topic of its own.
    """
    starts, covered = {0}, 0
    for first, last in sorted(spans):
        if first - covered > turns / GAP:
            starts.add(covered)
            starts.add(first)
        elif covered:
            starts.add(first)
        covered = max(covered, last + 1)
    if turns - covered > turns / GAP:
        starts.add(covered)
    return sorted(starts)


def vcsum() -> list[Meeting]:
    """The meetings of VCSum: the rows of one recording, each a topic, in their order.

    Some rows of a recording are in other parts of VCSum and missing here: what stands before and
    behind them is then side by side.
    """
    vocabulary = tokenizer.load()
    recordings: dict[int, list[dict[str, Any]]] = {}
    for row in rows_of(assets() / "data" / "vcsum" / "short_dev.jsonl.gz"):
        recordings.setdefault(row["av_num"], []).append(row)
    meetings = []
    for rows in recordings.values():
        rows.sort(key=lambda row: int(row["id"].split("_")[1]))
        parts = [["".join(turn) for turn in row["context"]] for row in rows]
        topics = [sum(len(part) for part in parts[:place]) for place in range(len(parts))]
        texts = [text for part in parts for text in part]
        meetings.append(Meeting(texts=texts, tokens=_tokens(texts, vocabulary), topics=topics))
    return meetings


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of either set."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _tokens(texts: Sequence[str], vocabulary: tokenizer.Tokenizer) -> Int64:
    return np.array([len(vocabulary.encode(text)) for text in texts], np.int64)

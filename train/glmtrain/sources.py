"""Shard folders as they are named on the command line, and how many rows of each an epoch takes.

Without weights an epoch takes every row once. With weights (`DIR:0.3`) an epoch holds as many
trained tokens as all folders together, and each folder its share of them: rows of a small folder
come again, those of a large one in a later epoch. What is replayed comes on top, as that share of
all trained tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmprep.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A shard folder; `weight` is its weight among those to learn, `share` that of a replayed one.

    Both are None for a folder of which every row is to be seen once.
    """

    folder: Path
    weight: float | None = None
    share: float | None = None


def parse(shards: Sequence[str], replay: Sequence[str] = ()) -> list[Source]:
    """The folders of both lists, as `DIR` or `DIR:NUMBER`.

    Raises UsageError for no folder, for weights that only some have, and for shares of 1 and more.
    """
    if not shards:
        raise UsageError("no shards; pass --shards DIR, made by glmprep bucket")
    learned = [Source(folder=folder, weight=number) for folder, number in map(_split, shards)]
    weighted = [source.weight for source in learned if source.weight is not None]
    if weighted and len(weighted) < len(learned):
        raise UsageError("--shards: give all folders a weight (DIR:0.3), or none")
    if any(not weight > 0 for weight in weighted):
        raise UsageError("--shards DIR:WEIGHT: a weight is above 0")
    replayed = [Source(folder=folder, share=share) for folder, share in map(_split, replay)]
    shares = [source.share for source in replayed if source.share is not None]
    if len(shares) < len(replayed):
        raise UsageError("--replay DIR:SHARE: say what share of the trained tokens it is to be")
    if any(not share > 0 for share in shares) or sum(shares) >= 1:
        raise UsageError("--replay DIR:SHARE: shares are above 0, and below 1 together")
    return [*learned, *replayed]


def quotas(sources: Sequence[Source], rows: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """How many rows of each source an epoch takes, at least one.

    rows, tokens: the rows that train something, and their trained tokens, of each source.
    """
    learned = [place for place, source in enumerate(sources) if source.share is None]
    total = sum(tokens[place] for place in learned)
    weights = sum(sources[place].weight or 0.0 for place in learned)
    replayed = sum(source.share or 0.0 for source in sources)
    found = []
    for place, source in enumerate(sources):
        if source.share is not None:
            wanted = total * source.share / (1 - replayed)
        elif source.weight is not None:
            wanted = total * source.weight / weights
        else:
            wanted = tokens[place]
        found.append(max(1, round(wanted * rows[place] / tokens[place])))
    return found


def _split(text: str) -> tuple[Path, float | None]:
    """A folder, and the number behind its last colon if there is one."""
    name, colon, number = text.rpartition(":")
    try:
        return (Path(name), float(number)) if colon and name else (Path(text), None)
    except ValueError:
        return Path(text), None

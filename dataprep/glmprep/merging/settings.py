"""What merging was asked for, and what does it: made once in each process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from glmprep.merging.groups import Alike
from glmprep.merging.merger import Merger
from glmprep.merging.phrases import Phrases, shipped
from glmprep.merging.trimming import Trimmer
from glmprep.merging.turns import Near
from glmprep.semantics import loading
from glmprep.semantics.embedder import Embedder


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """What goes within conversations, and which conversations go. Picklable.

    `trim` names rules (see `trims.TRIMS`); with `answers` they trim what is trained, too; `phrases`
    are those that they know (see `Phrases.as_text`), empty for those that ship. `turns`: close
    turns are joined, from `threshold` on, where one is given. `groups`: of rows that are so alike
    some go. `encoder` tells what is close.
    """

    trim: tuple[str, ...] = ()
    answers: bool = False
    phrases: str = ""
    turns: bool = False
    threshold: float | None = None
    encoder: str = "none"
    groups: Alike | None = None

    def merger(self) -> Merger:
        """What merges a conversation; errors as in `loading.load`."""
        return _merger(
            self.trim, self.answers, self.phrases, self.turns, self.threshold, self.encoder
        )

    def embedder(self) -> Embedder | None:
        """By which conversations are compared; None for their words alone."""
        return None if self.encoder == "none" else _embedder(self.encoder)

    def settings(self) -> dict[str, Any]:
        """What decides what is made of some rows, as plain JSON values.

        How alike rows must be to go is not part of it: that is decided over all of them.
        """
        merger = self.merger()
        near, trimmer = merger.near, merger.trimmer
        embedder = self.embedder() if self.groups else None
        return {
            "trim": sorted(self.trim),
            "answers": self.answers,
            "phrases": trimmer and trimmer.phrases.lists,
            "turns": near and [near.embedder.name, near.threshold],
            "groups": self.groups and (embedder.name if embedder else "words"),
        }


@lru_cache(maxsize=2)
def _merger(
    trim: tuple[str, ...],
    answers: bool,
    phrases: str,
    turns: bool,
    threshold: float | None,
    encoder: str,
) -> Merger:
    trimmer = near = None
    if trim:
        known = Phrases.from_text(phrases) if phrases else shipped()
        trimmer = Trimmer(names=frozenset(trim), phrases=known, answers=answers)
    if turns:
        embedder = _embedder(encoder)
        near = Near.usual(embedder) if threshold is None else Near(embedder, threshold)
    return Merger(trimmer=trimmer, near=near)


@lru_cache(maxsize=2)
def _embedder(encoder: str) -> Embedder:
    return loading.load(encoder)

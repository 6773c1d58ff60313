"""Checks over all conversations together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glmprep.collect import Collector, Hit
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.intake import Intake
from glmprep.labels import TokenBatch, tokenize
from glmprep.records import Conversation
from glmprep.sets.copies import exact_copies, leaked, near_copies
from glmprep.sets.fingerprints import Fingerprints
from glmprep.sets.identity import Identities
from glmprep.sets.pairs import Pairs
from glmprep.sets.shared import shared_parts
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer


def set_collectors(evaluation: Fingerprints | None = None) -> list[Collector]:
    """One collector for each thing that is kept; `evaluation` is the set that is held out."""
    return [Likeness(evaluation), Identities(), Pairs()]


def held_out(source: Source, *, family: Family, tokenizer: Tokenizer) -> Fingerprints:
    """The fingerprints of all sound conversations of `source`.

    Raises InputError when there is none.
    """
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    made = Fingerprints()
    for batch in intake.batches():
        if batch.rows:
            made.add(batch.rows, tokenize(batch.rows, family, tokenizer))
    if intake.rows == len(intake.rejections):
        raise InputError(intake.nothing_left())
    return made


class Likeness:
    """What conversations have in common, with one another and with those that are held out."""

    def __init__(self, evaluation: Fingerprints | None = None) -> None:
        self._known = Fingerprints()
        self._evaluation = evaluation

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take fingerprints of a batch."""
        self._known.add(conversations, tokens)

    def hits(self) -> Iterator[Hit]:
        """Copies, shared parts and leaks."""
        yield from exact_copies(self._known)
        yield from near_copies(self._known)
        yield from shared_parts(self._known)
        if self._evaluation is not None:
            yield from leaked(self._known, self._evaluation)

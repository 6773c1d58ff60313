"""What a check over all conversations looks like: it is shown each batch, and tells at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from glmprep.findings import Example, Number, Rule
from glmprep.labels import TokenBatch
from glmprep.records import Conversation

EXAMPLES = 5
"""So many places are shown for each rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A rule fired `count` times in `rows` conversations; `data` fills the rest of its texts."""

    rule: Rule[Any]
    count: int
    rows: int
    examples: Sequence[Example] = ()
    data: Mapping[str, str | Number] = field(default_factory=dict)


class Collector(Protocol):
    """Keeps of each conversation only what its check needs: numbers and hashes, no text."""

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch of rows and their tokens (see `labels.tokenize`)."""

    def hits(self) -> Iterator[Hit]:
        """What was found, after all batches."""

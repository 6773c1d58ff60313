"""What a check over all conversations looks like: it is shown each batch, and tells at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def __add__(self, later: Hit) -> Hit:
        """Both, with the examples that came first."""
        return Hit(
            rule=self.rule,
            count=self.count + later.count,
            rows=self.rows + later.rows,
            examples=(*self.examples, *later.examples)[:EXAMPLES],
            data={**self.data, **later.data},
        )

    def as_json(self) -> list[Any]:
        """All but the rule as plain JSON values."""
        examples = [(example.where, example.excerpt) for example in self.examples]
        return [self.count, self.rows, examples, dict(self.data)]

    @classmethod
    def from_json(cls, rule: Rule[Any], data: Sequence[Any], moved: Callable[[str], str]) -> Hit:
        """What `as_json` wrote of a hit of this rule; `moved` tells where its places are now."""
        count, rows, examples, more = data
        made = [Example(where=moved(where), excerpt=excerpt) for where, excerpt in examples]
        return cls(rule=rule, count=count, rows=rows, examples=made, data=more)


class Collector(Protocol):
    """Keeps of each conversation only what its check needs: numbers and hashes, no text."""

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch of rows and their tokens (see `labels.tokenize`)."""

    def hits(self) -> Iterator[Hit]:
        """What was found, after all batches."""

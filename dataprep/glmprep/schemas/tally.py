"""What is counted while rows are read: how many came in which form, and fields nobody reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import RULES, Example
from glmprep.records import Origin
from glmprep.schemas.context import Note
from glmprep.schemas.rules import listed

NAMES = 1000
"""So many names of fields are told apart for each rule; a hostile file has millions."""


@dataclass(slots=True)
class _Noted:
    rows: int = 0
    count: int = 0
    names: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


class Tally:
    """Counts of one pass. `schemas` holds conversations by the name of their form."""

    def __init__(self) -> None:
        self.schemas: Counter[str] = Counter()
        self._noted: dict[str, _Noted] = {}

    def note(self, notes: Sequence[Note], origin: Origin) -> None:
        """Count what was noted on one row."""
        for rule, names in notes:
            noted = self._noted.setdefault(rule.id, _Noted())
            noted.rows += 1
            noted.count += len(names)
            for name in names:
                if name in noted.names or len(noted.names) < NAMES:
                    noted.names[name] += 1
            if len(noted.examples) < EXAMPLES:
                noted.examples.append(Example(where=str(origin), excerpt=listed(names)))

    def hits(self) -> Iterator[Hit]:
        """One hit for each rule that something was noted by."""
        for rule_id, noted in sorted(self._noted.items()):
            fields = listed([name for name, _ in noted.names.most_common()])
            yield Hit(
                rule=RULES[rule_id],
                count=noted.count,
                rows=noted.rows,
                examples=noted.examples,
                data={"fields": fields},
            )

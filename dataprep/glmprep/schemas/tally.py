"""What is counted while rows are read: how many came in which form, and fields nobody reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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

    def name(self, name: str, count: int) -> None:
        """Count a field's name."""
        if name in self.names or len(self.names) < NAMES:
            self.names[name] += count


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
                noted.name(name, 1)
            if len(noted.examples) < EXAMPLES:
                noted.examples.append(Example(where=str(origin), excerpt=listed(names)))

    def add(self, later: Tally) -> None:
        """Take in the counts of the rows that follow."""
        self.schemas.update(later.schemas)
        for rule_id, more in later._noted.items():
            noted = self._noted.setdefault(rule_id, _Noted())
            noted.rows += more.rows
            noted.count += more.count
            for name, count in more.names.items():
                noted.name(name, count)
            noted.examples += more.examples[: EXAMPLES - len(noted.examples)]

    def as_json(self) -> dict[str, Any]:
        """All counts as plain JSON values."""
        noted = {r: asdict(n) | {"names": dict(n.names)} for r, n in self._noted.items()}
        return {"schemas": dict(self.schemas), "noted": noted}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], moved: Callable[[str], str]) -> Tally:
        """What `as_json` wrote; `moved` tells where its places are now."""
        made = cls()
        made.schemas = Counter(data["schemas"])
        for rule_id, noted in data["noted"].items():
            examples = [
                Example(where=moved(example["where"]), excerpt=example["excerpt"])
                for example in noted["examples"]
            ]
            names = Counter(noted["names"])
            made._noted[rule_id] = _Noted(noted["rows"], noted["count"], names, examples)
        return made

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

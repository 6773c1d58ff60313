"""What a pass over rows saw: counts, rejections and where rules fired; parts of a pass add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import RULES, Example, Finding
from glmprep.records import Origin, Rejection
from glmprep.schemas.tally import Tally


class Seen:
    """Counts what comes in, what is rejected and which rules fire.

    `rows` counts rows read, each of which ends as a conversation or as one rejection; `messages`
    those of the conversations; `repaired` rows that were mended, by rule; `tally` counts forms and
    fields that nobody reads. `paths` are named in findings.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.rows = 0
        self.messages = 0
        self.rejections: list[Rejection] = []
        self.repaired: Counter[str] = Counter()
        self.tally = Tally()
        self._hits: dict[str, Hit] = {}

    def reject(self, rejection: Rejection) -> None:
        """Take a row out, here or in a later stage, with its rule and reason."""
        self.rejections.append(rejection)
        example = Example(where=str(rejection.origin), excerpt=rejection.reason)
        self.hit(Hit(rule=RULES[rejection.rule], count=1, rows=1, examples=[example]))

    def hit(self, hit: Hit) -> None:
        """Note that a rule fired."""
        before = self._hits.get(hit.rule.id)
        self._hits[hit.rule.id] = hit if before is None else before + hit

    def lacking(self, rule: str) -> int:
        """How many more examples a rule can have."""
        found = self._hits.get(rule)
        return EXAMPLES - (len(found.examples) if found else 0)

    def add(self, later: Seen) -> None:
        """Take in what was seen of the rows that follow."""
        self.rows += later.rows
        self.messages += later.messages
        self.rejections += later.rejections
        self.repaired.update(later.repaired)
        self.tally.add(later.tally)
        for hit in later._hits.values():
            self.hit(hit)

    def findings(self, **data: Any) -> list[Finding]:
        """One finding per rule that fired; `data` is what the texts name beside the counts."""
        where = ", ".join(self.paths)
        hits = self._hits | {hit.rule.id: hit for hit in self.tally.hits()}
        return [
            hit.rule.finding(
                where,
                examples=tuple(hit.examples[:EXAMPLES]),
                count=hit.count,
                rows=hit.rows,
                **{**data, **hit.data},
            )
            for _, hit in sorted(hits.items())
        ]

    def nothing_left(self, lack: str = "can be trained on", **data: Any) -> str:
        """Why no row is left, from the first that was rejected; for an error of one line.

        `lack` says what no row does.
        """
        names = ", ".join(self.paths)
        if not self.rejections:
            return f"{names}: no rows"
        first = min(self.rejections, key=lambda one: (one.origin.path, one.origin.line))
        fix = RULES[first.rule].finding(str(first.origin), count=1, rows=1, **data).fix
        return (
            f"{names}: no row {lack}, of {self.rows}; "
            f"the first: {first.origin}: {first.reason}; {fix}"
        )

    def as_json(self, path: str) -> dict[str, Any]:
        """All of it, of rows of the one file `path`, as plain JSON values without that name."""
        return {
            "rows": self.rows,
            "messages": self.messages,
            "rejections": [
                (r.rule, r.reason, r.origin.line, r.conversation) for r in self.rejections
            ],
            "repaired": dict(self.repaired),
            "tally": self.tally.as_json(),
            "hits": {rule: hit.as_json() for rule, hit in self._hits.items()},
            "path": path,
        }

    @classmethod
    def from_json(
        cls, paths: Sequence[str], data: Mapping[str, Any], *, path: str, before: int = 0
    ) -> Seen:
        """What `as_json` wrote, of rows that are in `path` now, behind so many lines more."""
        made = cls(paths)
        made.rows, made.messages = data["rows"], data["messages"]
        made.rejections = [
            Rejection(
                rule=rule, reason=reason, origin=Origin(path, line + before), conversation=name
            )
            for rule, reason, line, name in data["rejections"]
        ]
        made.repaired = Counter(data["repaired"])
        moved = Moved(data["path"], path, before)
        made.tally = Tally.from_json(data["tally"], moved)
        made._hits = {
            rule: Hit.from_json(RULES[rule], hit, moved) for rule, hit in data["hits"].items()
        }
        return made


@dataclass(frozen=True, slots=True)
class Moved:
    """Tells of a place such as `old.jsonl:3 message 2` where it is now: in `new`, lines later."""

    old: str
    new: str
    before: int

    def __call__(self, where: str) -> str:
        """The same place in the new file; one in another file stays."""
        line, space, rest = where.removeprefix(f"{self.old}:").partition(" ")
        if not where.startswith(f"{self.old}:") or not line.isdecimal():
            return where
        return f"{self.new}:{int(line) + self.before}{space}{rest}"

    def lines(self, data: bytes) -> bytes:
        """JSON Lines that tell `where` a row is, with the place where it is now."""
        if self.old == self.new and not self.before:
            return data
        rows = map(orjson.loads, data.splitlines())
        return b"".join(orjson.dumps({**row, "where": self(row["where"])}) + b"\n" for row in rows)


def by_rule(rejections: Sequence[Rejection]) -> dict[str, int]:
    """How many rejections each rule made, by rule id."""
    return dict(sorted(Counter(rejection.rule for rejection in rejections).items()))


def reject_lines(rejections: Sequence[Rejection]) -> bytes:
    """Rejections as JSON Lines, in the order of the files' names and their lines."""
    ordered = sorted(
        rejections, key=lambda rejection: (rejection.origin.path, rejection.origin.line)
    )
    return b"".join(orjson.dumps(rejection.as_json()) + b"\n" for rejection in ordered)

"""One pass over the rows of a source: read, parsed, mended where asked for, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from glmprep import policy
from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import RULES, Example, Finding, Number
from glmprep.mending import Mending
from glmprep.parse import Mend, parse
from glmprep.read import find, read
from glmprep.records import Conversation, Rejection
from glmprep.schemas.tally import Tally
from glmprep.source import Source


class Stream:
    """Counts what comes in, what is rejected and which rules fire.

    `rows` counts rows read; each ends as a conversation or as one rejection. `files` are what the
    paths name; InputError is raised at once where one of them names nothing. `tally` counts forms
    and fields that nobody reads, `mending` keeps repairs; another `mend` takes its place.
    """

    def __init__(self, source: Source, *, mend: Mend | None = None) -> None:
        self.paths = source.paths
        self.files = find(source.paths)
        self.rows = 0
        self.rejections: list[Rejection] = []
        self.tally = Tally()
        self.mending = Mending()
        self._source = source
        self._mend = self.mending if source.repair else mend
        self._messages_hit: Counter[str] = Counter()
        self._rows_hit: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}
        self._data: dict[str, dict[str, str | Number]] = {}

    def items(self) -> Iterator[Conversation | Rejection]:
        """All rows in the order in which they are read; those that are rejected are noted."""
        source = self._source
        for item in parse(
            read(source.paths), source.roles, take=source.take, mend=self._mend, tally=self.tally
        ):
            self.rows += 1
            if isinstance(item, Rejection):
                self.reject(item)
                yield item
            else:
                yield policy.apply(item, source.train_on)
        for hit in (*self.tally.hits(), *self.mending.hits()):
            self.hit(hit)

    def reject(self, rejection: Rejection) -> None:
        """Take a row out, here or in a later stage, with its rule and reason."""
        self.rejections.append(rejection)
        example = Example(where=str(rejection.origin), excerpt=rejection.reason)
        self.hit(Hit(rule=RULES[rejection.rule], count=1, rows=1, examples=[example]))

    def hit(self, hit: Hit) -> None:
        """Note that a rule fired."""
        rule = hit.rule.id
        self._messages_hit[rule] += hit.count
        self._rows_hit[rule] += hit.rows
        self._data.setdefault(rule, {}).update(hit.data)
        kept = self._examples.setdefault(rule, [])
        kept += hit.examples[: EXAMPLES - len(kept)]

    def findings(self, **data: Any) -> list[Finding]:
        """One finding per rule that fired; `data` is what the texts name beside the counts."""
        where = ", ".join(self.paths)
        return [
            RULES[rule_id].finding(
                where,
                examples=tuple(self._examples[rule_id]),
                count=self._messages_hit[rule_id],
                rows=self._rows_hit[rule_id],
                **{**data, **self._data[rule_id]},
            )
            for rule_id in sorted(self._messages_hit)
        ]

    def nothing_left(self, lack: str = "can be trained on", **data: Any) -> str:
        """Why no row is left, from the first that was rejected; for an error of one line.

        `lack` says what no row does.
        """
        names = ", ".join(self.paths)
        if not self.rejections:
            return f"{names}: no rows"
        first = self.rejections[0]
        fix = RULES[first.rule].finding(str(first.origin), count=1, rows=1, **data).fix
        return (
            f"{names}: no row {lack}, of {self.rows}; "
            f"the first: {first.origin}: {first.reason}; {fix}"
        )


def by_rule(rejections: Sequence[Rejection]) -> dict[str, int]:
    """How many rejections each rule made, by rule id."""
    return dict(sorted(Counter(rejection.rule for rejection in rejections).items()))


def reject_lines(rejections: Sequence[Rejection]) -> bytes:
    """Rejections as JSON Lines, in the order of the files' names and their lines."""
    ordered = sorted(
        rejections, key=lambda rejection: (rejection.origin.path, rejection.origin.line)
    )
    return b"".join(orjson.dumps(rejection.as_json()) + b"\n" for rejection in ordered)


def rejects_path(output: Path) -> Path:
    """Where the rejected rows of an output file are listed."""
    return output.with_name(f"{output.name}.rejects.jsonl")

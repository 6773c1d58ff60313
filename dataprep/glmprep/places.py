"""Where each rule fires: what it takes to choose a few conversations out of many."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TypeAlias

import polars as pl

from glmprep.checks import checking, collectors
from glmprep.families import Family
from glmprep.findings import RULES, Example, Finding
from glmprep.labels import tokenize
from glmprep.rowchecks import RowChecks
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

MESSAGE = re.compile(r" message (\d+)$")
"""What rules put after path:line where one message is meant."""
Marks: TypeAlias = dict[str, dict[int, list[str]]]
"""By row (path:line) and number of the message (from 1), the rules that fired there."""


class Survey:
    """One pass over the data that keeps where rules fire: numbers and flags, no text.

    Without `measure`, the rules that need tokens or look at all rows together are left out, which
    makes the pass several times quicker.
    """

    def __init__(
        self,
        source: Source,
        family: Family,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        measure: bool = True,
    ) -> None:
        self.intake = checking(source, family, tokenizer, keep_flags=True)
        self._family, self._tokenizer = family, tokenizer
        self._max_length = max_length
        self._collectors = collectors(RowChecks(max_length), family) if measure else []
        self._examples: dict[str, Sequence[Example]] = {}
        self._flags = pl.DataFrame()

    def run(self, rows: int | None = None) -> None:
        """Look at all the data, or at no more than it takes to have seen so many rows."""
        measured = False
        for batch in self.intake.batches():
            if batch.rows and self._collectors:
                measured = True
                tokens = tokenize(batch.rows, self._family, self._tokenizer)
                for collector in self._collectors:
                    collector.add(batch.rows, tokens)
            if rows is not None and self.intake.rows >= rows:
                break
        for collector in self._collectors if measured else ():
            for hit in collector.hits():
                self.intake.hit(hit)
                self._examples[hit.rule.id] = hit.examples
        if self.intake.flags:
            self._flags = pl.concat(self.intake.flags)

    def findings(self) -> list[Finding]:
        """What fired, worst severity first."""
        found = self.intake.findings(max_length=self._max_length or 0)
        return sorted(found, key=lambda finding: (finding.severity.rank, finding.rule))

    def worst(self, rule: str, most: int) -> list[str]:
        """The rows (path:line) in which a rule fired in most messages, in order where it is a tie.

        For rules that look at more than messages it is what they show as their examples, and for
        rows that were rejected as they were read, the first ones.
        """
        if rule in self._flags.columns:
            hits = self._flags.filter(pl.col(rule)).group_by("where", maintain_order=True).len()
            ranked = hits.sort("len", descending=True, maintain_order=True)
            return ranked["where"].head(most).to_list()
        if rule in self._examples:
            places = [MESSAGE.sub("", example.where) for example in self._examples[rule]]
        else:
            places = [str(one.origin) for one in self.intake.rejections if one.rule == rule]
        return list(dict.fromkeys(places))[:most]

    def marks(self, rows: Collection[str]) -> Marks:
        """In which messages of these rows (path:line) which rules fired."""
        marks: Marks = defaultdict(lambda: defaultdict(list))
        if self._flags.is_empty():
            return marks
        flags = self._flags.filter(pl.col("where").is_in(list(rows)))
        for rule in sorted(RULES.keys() & set(flags.columns)):
            for where, message in flags.filter(pl.col(rule))["where", "message"].rows():
                marks[where][message].append(rule)
        for rule, examples in sorted(self._examples.items()):
            for example in examples:
                if found := MESSAGE.search(example.where):
                    marks[MESSAGE.sub("", example.where)][int(found[1])].append(rule)
        return marks

    def rejected(self) -> dict[str, str]:
        """For each row (path:line) that was rejected, the rule and its reason."""
        return {str(one.origin): f"{one.rule}: {one.reason}" for one in self.intake.rejections}

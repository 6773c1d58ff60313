"""Who system messages and answers say that the model is, over the whole set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example, Rule
from glmprep.labels import TokenBatch
from glmprep.records import Conversation
from glmprep.rules.identity import (
    another_model,
    answers_disagree,
    contradicts_system,
    systems_disagree,
)
from glmprep.sets.wholes import goes_on, runs
from glmprep.text.personas import HINTS, Claim, Person, claims

MOST = 10_000
"""Claims that are told apart; further ones are not counted, so that memory stays bounded."""


@dataclass(slots=True)
class Tally:
    """How often each claim was made, and where first."""

    counts: dict[Claim, int] = field(default_factory=dict)
    first: dict[Claim, str] = field(default_factory=dict)

    def add(self, claim: Claim, where: str) -> None:
        """Count a claim."""
        if claim in self.counts or len(self.counts) < MOST:
            self.counts[claim] = self.counts.get(claim, 0) + 1
            self.first.setdefault(claim, where)


class Identities:
    """Counts the names and makers that trained answers, and system messages, give the model.

    What an answer claims as its own system message does is left out: a persona for each
    conversation is no conflict.
    """

    def __init__(self) -> None:
        self._systems = Tally()
        self._answers = Tally()
        self._contradictions: list[Example] = []
        self._contradicting = 0

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Read a batch."""
        told = _claims(conversations, "system", "you")
        for run in runs(conversations):
            if not goes_on(conversations[run.start]):
                where = str(conversations[run.start].origin)
                for claim in told.get(run.start, ()):
                    self._systems.add(claim, where)
        for row, claimed in _claims(conversations, "assistant", "I").items():
            self._compare(str(conversations[row].origin), told.get(row, frozenset()), claimed)

    def hits(self) -> Iterator[Hit]:
        """What disagrees."""
        yield from _disagreement(systems_disagree, self._systems)
        yield from _disagreement(answers_disagree, self._answers)
        if self._contradicting:
            yield Hit(
                rule=contradicts_system,
                count=self._contradicting,
                rows=self._contradicting,
                examples=self._contradictions,
            )
        others = another_model(self._answers.counts)
        if others:
            yield _hit(another_model, self._answers, others)

    def _compare(self, where: str, told: frozenset[Claim], claimed: frozenset[Claim]) -> None:
        for claim in sorted(claimed - told):
            self._answers.add(claim, where)
        against = contradicts_system(told, claimed)
        if against:
            self._contradicting += 1
            if len(self._contradictions) < EXAMPLES:
                excerpt = f"{_labels(told)} ≠ {_labels(against)}"
                self._contradictions.append(Example(where=where, excerpt=excerpt))


def _claims(
    conversations: Sequence[Conversation], role: str, person: Person
) -> Mapping[int, frozenset[Claim]]:
    """The claims of each row that makes any, in its trained messages of a role."""
    spoken = [
        (row, message.content)
        for row, conversation in enumerate(conversations)
        for message in conversation.messages
        if message.role == role and (message.trained or role == "system")
    ]
    table = pl.DataFrame(spoken, schema={"row": pl.Int64, "text": pl.String}, orient="row")
    hinted = pl.col("text").str.contains_any(list(HINTS), ascii_case_insensitive=True)
    found: dict[int, frozenset[Claim]] = {}
    for row, text in table.filter(hinted).rows():
        made = claims(text, person)
        if made:
            found[row] = found.get(row, frozenset()) | made
    return found


def _disagreement(rule: Rule[Any], tally: Tally) -> Iterator[Hit]:
    differing = rule(tally.counts)
    if differing:
        yield _hit(rule, tally, differing)


def _hit(rule: Rule[Any], tally: Tally, chosen: Sequence[Claim]) -> Hit:
    """A hit that names the chosen claims, the commonest first."""
    ordered = sorted(chosen, key=lambda claim: (-tally.counts[claim], claim))
    count = sum(tally.counts[claim] for claim in ordered)
    shown = [f"{claim.label} ({tally.counts[claim]:,})" for claim in ordered[:EXAMPLES]]
    more = ", …" if len(ordered) > EXAMPLES else ""
    return Hit(
        rule=rule,
        count=count,
        rows=count,
        examples=[
            Example(where=tally.first[claim], excerpt=claim.label) for claim in ordered[:EXAMPLES]
        ],
        data={"labels": ", ".join(shown) + more},
    )


def _labels(found: frozenset[Claim]) -> str:
    return ", ".join(claim.label for claim in sorted(found))

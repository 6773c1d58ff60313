"""What is worth looking at in a set of conversations: those in which rules fire worst, or a few by
number.

The data is read twice: once to find the places, and once for the text of the few that are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glmprep import lookup
from glmprep.errors import UsageError
from glmprep.families import Family
from glmprep.findings import RULES, Finding
from glmprep.lookup import Item
from glmprep.places import Survey
from glmprep.records import Conversation
from glmprep.rules.format import FORMAT_RULES
from glmprep.rules.text import TEXT_RULES
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer
from glmprep.transcript import Transcript, raw, transcript

PER_RULE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A rule that fired, and the conversations in which it is worst, the worst first."""

    finding: Finding
    worst: Sequence[Transcript]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What there is to look at: by rule, worst severity first, and rows by number.

    `rows` counts the rows that were read for it; `silent` are the rules that were asked for and did
    not fire.
    """

    rows: int
    max_length: int | None
    fired: Sequence[Fired] = ()
    silent: Sequence[str] = ()
    picked: Sequence[Transcript] = ()

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values, no text shortened."""
        return {
            "rows_read": self.rows,
            "max_length": self.max_length,
            "rules": [
                {**one.finding.as_json(), "worst": [shown.as_json() for shown in one.worst]}
                for one in self.fired
            ],
            "did_not_fire": list(self.silent),
            "rows": [shown.as_json() for shown in self.picked],
        }


def worst(
    source: Source,
    *,
    family: Family,
    tokenizer: Tokenizer,
    rules: Collection[str] = (),
    per_rule: int = PER_RULE,
    max_length: int | None = None,
) -> Result:
    """For each rule that fires, or those of `rules` that do, its worst conversations.

    Where nothing fires and nothing was asked for, the first row is shown. Raises UsageError for an
    unknown rule, for input that can be read only once, and for a limit that nothing fits in.
    """
    _require_known(rules)
    view = _View(source, family, tokenizer, max_length)
    survey = view.survey(measure=not rules or not _are_told_at_once(rules))
    survey.run()
    findings = [one for one in survey.findings() if not rules or one.rule in rules]
    places = {one.rule: survey.worst(one.rule, per_rule) for one in findings}
    wanted = list(dict.fromkeys(where for found in places.values() for where in found))
    items = lookup.by_place(source, family, wanted)
    shown = view.transcripts(items, survey)
    fired = [
        Fired(finding=one, worst=[shown[where] for where in places[one.rule] if where in shown])
        for one in findings
    ]
    result = Result(
        rows=survey.intake.rows,
        max_length=max_length,
        fired=fired,
        silent=sorted(set(rules) - places.keys()),
    )
    if fired or rules or not result.rows:
        return result
    first = pick(source, [0], family=family, tokenizer=tokenizer, max_length=max_length)
    return replace(result, picked=first.picked)


def pick(
    source: Source,
    numbers: Sequence[int],
    *,
    family: Family,
    tokenizer: Tokenizer,
    max_length: int | None = None,
) -> Result:
    """The rows of these numbers (from 0), with all rules on messages.

    Raises UsageError as `worst` does, and for a number past the end.
    """
    view = _View(source, family, tokenizer, max_length)
    survey = view.survey(measure=False)
    items = {str(one.origin): one for one in lookup.by_number(source, family, numbers)}
    survey.run(rows=max(numbers) + 1)
    shown = view.transcripts(items, survey)
    return Result(rows=survey.intake.rows, max_length=max_length, picked=list(shown.values()))


@dataclass(frozen=True, slots=True)
class _View:
    """The data, and by what it is seen as tokens."""

    source: Source
    family: Family
    tokenizer: Tokenizer
    max_length: int | None

    def __post_init__(self) -> None:
        lookup.require_rereadable(self.source.paths)
        if self.max_length is not None:
            require_room(self.max_length, self.family)

    def survey(self, *, measure: bool) -> Survey:
        return Survey(
            self.source, self.family, self.tokenizer, max_length=self.max_length, measure=measure
        )

    def transcripts(self, items: dict[str, Item], survey: Survey) -> dict[str, Transcript]:
        marks, rejected = survey.marks(items), survey.rejected()
        broken = [where for where, item in items.items() if not isinstance(item, Conversation)]
        texts = lookup.raw_texts(self.source, broken)
        shown = {}
        for where, item in items.items():
            if isinstance(item, Conversation):
                shown[where] = transcript(
                    item,
                    self.family,
                    self.tokenizer,
                    max_length=self.max_length,
                    marks=marks.get(where),
                    rejected=rejected.get(where),
                )
            else:
                shown[where] = raw(where, texts.get(where, ""), f"{item.rule}: {item.reason}")
        return shown


def _require_known(rules: Collection[str]) -> None:
    for rule in rules:
        if rule not in RULES:
            raise UsageError(f"--rule {rule}: there is none; see glmdiag explain --list")


def _are_told_at_once(rules: Collection[str]) -> bool:
    """Whether these rules look at a message or a row alone, so that no tokens are needed."""
    alone = {rule.id for rule in (*FORMAT_RULES, *TEXT_RULES)}
    return all(rule in alone or rule.startswith("DF0") for rule in rules)

"""Ranked causes: what single findings, taken together, say is wrong with a run.

A finding is a symptom (the loss is zero), or a circumstance (bf16 on a card without it). A *cause*
knows which findings it would leave behind and which would be odd beside it, each with points in the
manner of log-odds: points of findings that were made add up, those of findings that were expected,
and looked for, but not made are taken off, as are those that speak for something else. Sums of
evidence in place of a decision tree keep a run judgeable where half of its files are missing.

Points were set by what is certain (a damaged tensor) or merely usual (a spike), then checked on
recorded runs with planted faults, see docs/gallery.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from glmprep.findings import RULES, Example, Finding, Rule, Severity, rule

Points: TypeAlias = "float | Callable[[Finding], float]"
Confidence: TypeAlias = Literal["certain", "likely", "possible"]

NAMED = 3.0  # points from which a cause is worth a person's time
MANY = 0.05
"""Share of the rows from which a fault of the data is one of the whole run."""
LIKELY = 4.0
CERTAIN = 6.0
AREAS: Mapping[str, str] = {
    "HW": "machine",
    "EN": "environment",
    "CF2": "config",
    "CF3": "memory",
    "DL": "labels",
    "LG": "log",
    "CK": "checkpoint",
}
"""Which examination makes the findings of a rule, by how its id begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What a cause is known by, as points by rule id.

    `found` speaks for it where it was found. `expected` speaks against it where its examination was
    made and did not find it. `odd` speaks against it where it was found.
    """

    found: Mapping[str, Points]
    expected: Mapping[str, float] = field(default_factory=dict)
    odd: Mapping[str, Points] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A piece of evidence, its points negative against a cause; no finding: one is missing."""

    rule: str
    points: float
    finding: Finding | None

    def as_json(self) -> dict[str, Any]:
        """The sign as plain JSON values."""
        return {
            "rule": self.rule,
            "points": self.points,
            "finding": None if self.finding is None else self.finding.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A cause with all that speaks for and against it, strongest first."""

    cause: Rule[Any]
    pro: Sequence[Sign]
    contra: Sequence[Sign]

    @property
    def score(self) -> float:
        """The sum of all points."""
        return sum(sign.points for sign in (*self.pro, *self.contra))

    @property
    def confidence(self) -> Confidence:
        """The score in words."""
        if self.score >= CERTAIN:
            return "certain"
        return "likely" if self.score >= LIKELY else "possible"

    @property
    def severity(self) -> Severity:
        """That of its worst sign; a cause that is merely possible is no error."""
        worst = min((s.finding.severity for s in self.pro if s.finding), key=lambda s: s.rank)
        possible = self.confidence == "possible"
        return Severity.WARNING if possible and worst is Severity.ERROR else worst

    def finding(self, where: str) -> Finding:
        """The cause as a finding of its own."""
        return self.cause.finding(
            where,
            examples=tuple(map(_as_example, (*self.pro, *self.contra))),
            severity=self.severity,
            pro=", ".join(sign.rule for sign in self.pro),
            contra=", ".join(sign.rule for sign in self.contra) or "-",
        )

    def as_json(self) -> dict[str, Any]:
        """The suspect as plain JSON values."""
        return {
            "id": self.cause.id,
            "title": self.cause.title,
            "severity": self.severity.value,
            "confidence": self.confidence,
            "score": round(self.score, 2),
            "fix": self.cause.fix,
            "for": [sign.as_json() for sign in self.pro],
            "against": [sign.as_json() for sign in self.contra],
        }


def by_share(points: float) -> Points:
    """Points for a fault of many rows; a third of them where it is in one of twenty or fewer."""

    def of(finding: Finding) -> float:
        share = float(finding.data.get("share", 1.0))
        return points if share >= MANY else points / 3

    return of


def if_error(points: float) -> Points:
    """Points for an error; a third of them where the same rule only warns."""
    return lambda finding: points if finding.severity is Severity.ERROR else points / 3


def told(points: float, *words: str) -> Points:
    """Points for a run that ended in an error whose message has one of these words."""
    return lambda finding: points * any(w in str(finding.data.get("message")) for w in words)


def gradient(*, zero: bool) -> Points:
    """Points for a gradient that is zero, or for one that is not finite: one rule tells both."""

    def of(finding: Finding) -> float:
        return 3.0 if (finding.data.get("grad_norm") == "0") == zero else 0.0

    return of


CAUSES: list[Rule[Callable[[], Signs]]] = []


def cause(
    cause_id: str, signs: Signs, severity: Severity = Severity.ERROR
) -> Callable[[Callable[[], None]], Rule[Any]]:
    """Register a cause; the docstring of the function is all that it has to say in words."""

    def register(described: Callable[[], None]) -> Rule[Any]:
        def known_by() -> Signs:
            return signs

        known_by.__doc__ = described.__doc__
        made = rule(cause_id, severity)(known_by)
        CAUSES.append(made)
        return made

    return register


def rank(findings: Iterable[Finding], examined: Collection[str]) -> list[Suspect]:
    """The causes that the evidence names, best first; `examined` are areas, see AREAS."""
    by_rule: dict[str, Finding] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, finding)
    made = (_suspect(each, by_rule, examined) for each in CAUSES)
    named = [suspect for suspect in made if suspect.pro and suspect.score >= NAMED]
    return sorted(named, key=lambda suspect: -suspect.score)


def area(rule_id: str) -> str:
    """The examination that a rule belongs to; raises KeyError for an id of none."""
    return next(area for prefix, area in AREAS.items() if rule_id.startswith(prefix))


def _suspect(
    each: Rule[Callable[[], Signs]], found: Mapping[str, Finding], examined: Collection[str]
) -> Suspect:
    signs = each()
    pro = [_sign(found[r], points) for r, points in signs.found.items() if r in found]
    contra = [_sign(found[r], points, -1) for r, points in signs.odd.items() if r in found]
    contra += [
        Sign(rule=rule_id, points=-points, finding=None)
        for rule_id, points in signs.expected.items()
        if rule_id not in found and area(rule_id) in examined
    ]
    return Suspect(cause=each, pro=_strongest(pro), contra=_strongest(contra))


def _sign(finding: Finding, points: Points, factor: float = 1.0) -> Sign:
    value = points(finding) if callable(points) else points
    return Sign(rule=finding.rule, points=factor * value, finding=finding)


def _as_example(sign: Sign) -> Example:
    found = sign.finding
    where = f"{sign.points:+g} {sign.rule}"
    if found is None:
        return Example(where=where, excerpt=f"not found: {RULES[sign.rule].title}")
    return Example(where=f"{where} {found.where}".rstrip(), excerpt=found.evidence)


def _strongest(signs: Iterable[Sign]) -> list[Sign]:
    """Those with any weight, the heaviest first."""
    return sorted((sign for sign in signs if sign.points), key=lambda sign: -abs(sign.points))


def unknown_rules() -> set[str]:
    """Rules that causes speak of and nobody registered: a spelling mistake."""
    told = {r for each in CAUSES for r in (*each().found, *each().expected, *each().odd)}
    return told - set(RULES)

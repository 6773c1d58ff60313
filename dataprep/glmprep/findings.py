"""Findings, and the rules that make them.

A rule is one function. Its docstring is all that is known of the rule in English; the decorator
reads it into a `Rule`, which feeds messages, `glmdiag explain`, the docs and the reports:

    @rule("DF103", Severity.ERROR)
    def empty_content(messages: pl.DataFrame) -> pl.Expr:
        '''A message has no text.

        Evidence: messages without text: {count}, in {rows} of the conversations.
        Why: an empty answer teaches the model to say nothing.
        Fix: remove these messages, or fill them in.
        '''

What the function takes and returns differs from one family of rules to the next (a table of
messages, a training log, a shard); the module that holds the family says so.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from glmreport.numbers import show_number
from glmreport.text import fill

Check = TypeVar("Check", bound=Callable[..., Any])
Number = int | float
SECTION = re.compile(r"^(Evidence|Why|Fix):\s*", re.MULTILINE)


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One place where a finding shows (path:line or the like), and a piece of what is there."""

    where: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule found: the place, the evidence with its numbers in `data`, and the fix."""

    rule: str
    severity: Severity
    where: str
    evidence: str
    fix: str
    data: Mapping[str, str | Number] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Generic[Check]):
    """A rule's id, its texts, and the function that decides.

    `evidence` and `fix` are templates as in the catalogues of `glmreport.text`.
    """

    id: str
    severity: Severity
    title: str
    evidence: str
    why: str
    fix: str
    check: Check

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the rule's function."""
        return self.check(*args, **kwargs)

    def finding(
        self,
        where: str,
        *,
        examples: tuple[Example, ...] = (),
        severity: Severity | None = None,
        **data: str | Number,
    ) -> Finding:
        """A finding of this rule; `data` fills the evidence and the fix.

        Raises CatalogueError when a number that the texts need is missing.
        """
        return Finding(
            rule=self.id,
            severity=severity or self.severity,
            where=where,
            evidence=fill(self.evidence, data, _show),
            fix=fill(self.fix, data, _show),
            data=data,
            examples=examples,
        )


def readable(template: str) -> str:
    """A template for who reads about the rule: `{count} {count:|row|rows}` as `{count} rows`."""
    return "".join(_readable_pieces(template))


def _show(value: Any, spec: str) -> str:
    return value if isinstance(value, str) else show_number(value, spec)


def _readable_pieces(template: str) -> Iterator[str]:
    for text, name, spec, _ in string.Formatter().parse(template):
        yield text
        if name is not None:
            yield (spec or "").split("|")[2] if (spec or "").startswith("|") else f"{{{name}}}"


RULES: dict[str, Rule[Any]] = {}


def rule(rule_id: str, severity: Severity) -> Callable[[Check], Rule[Check]]:
    """Register a function as a rule; raises ValueError for a docstring that lacks a section."""

    def register(check: Check) -> Rule[Check]:
        if rule_id in RULES:
            raise ValueError(f"rule {rule_id} exists already")
        made = Rule(id=rule_id, severity=severity, check=check, **_texts(rule_id, check))
        RULES[rule_id] = made
        return made

    return register


def worst(findings: list[Finding]) -> Severity | None:
    """The worst severity among the findings, None for no findings."""
    return min((f.severity for f in findings), key=lambda s: s.rank, default=None)


def _texts(rule_id: str, check: Callable[..., Any]) -> dict[str, str]:
    """Title, evidence, why and fix from a rule's docstring, each as one line."""
    title, *sections = SECTION.split(inspect.cleandoc(check.__doc__ or ""))
    texts = {name.lower(): body for name, body in zip(sections[::2], sections[1::2], strict=True)}
    texts["title"] = title
    missing = {"title", "evidence", "why", "fix"} - {name for name, text in texts.items() if text}
    if missing:
        raise ValueError(f"rule {rule_id}: its docstring lacks {sorted(missing)}")
    return {name: " ".join(text.split()) for name, text in texts.items()}

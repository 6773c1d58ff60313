"""What the reports of all commands share: findings, provenance and verdicts as page records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmprep import __version__
from glmprep.findings import RULES, Finding, Severity, worst

if TYPE_CHECKING:
    from glmreport.page import FindingView, Level, Provenance


def finding_views(findings: Sequence[Finding]) -> list[FindingView]:
    """Findings with the texts of their rules, worst first."""
    from glmreport.page import Example, FindingView

    ordered = sorted(findings, key=lambda finding: (finding.severity.rank, finding.rule))
    return [
        FindingView(
            rule=finding.rule,
            severity=finding.severity.value,
            title=RULES[finding.rule].title.rstrip("."),
            evidence=_sentence(finding.evidence),
            why=_sentence(RULES[finding.rule].why),
            fix=_sentence(finding.fix),
            data=finding.data,
            examples=[Example(where=e.where, excerpt=e.excerpt) for e in finding.examples],
            count=int(finding.data.get("count", max(1, len(finding.examples)))),
        )
        for finding in ordered
    ]


def _sentence(text: str) -> str:
    """Rules continue "Why:" and "Fix:" in lower case; on a page they stand alone."""
    return text if text.startswith("glm") else text[:1].upper() + text[1:]


def provenance(command: str, inputs: Sequence[str]) -> Provenance:
    """What made a page, and when."""
    from datetime import UTC, datetime

    from glmreport.page import Provenance

    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Provenance(
        version=f"{command.split()[0]} {__version__}", command=command, inputs=inputs, created=now
    )


def verdict_level(findings: Sequence[Finding]) -> Level:
    """`bad` for an error, `warn` for a warning, else `good`."""
    levels: dict[Severity | None, Level] = {Severity.ERROR: "bad", Severity.WARNING: "warn"}
    return levels.get(worst(list(findings)), "good")

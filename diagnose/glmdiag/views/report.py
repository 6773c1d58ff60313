"""Ranked causes as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import RULES, Finding, Severity
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.page import Column, Fact, Page, Paragraph, Section, Step, Table, Value, Verdict
from glmreport.text import Catalogue, Literal, RuleTitle, Text

from glmdiag.report.case import Case
from glmdiag.report.found import RESOLVED
from glmdiag.report.suspects import AREAS, Sign, Suspect
from glmdiag.views import verify_fix
from glmdiag.views.log import loss_section

if TYPE_CHECKING:
    from rich.console import Console

    from glmdiag.report.remedies import Tried

OUTCOMES = {"CK025", "CK026", "CK027"}
"""What came of a run: any cause explains it."""
SHOWN = 5
"""Causes whose evidence is spelled out."""


def page(case: Case, tried: Tried | None, command: str) -> Page:
    """The whole report on a run."""
    named = case.suspects
    findings = told(case)
    return Page(
        kind="glmdiag report",
        title=Text("report.title"),
        subject=str(case.given.run),
        verdict=_verdict(case, named, findings),
        steps=_steps(case, named),
        facts=_facts(case, named),
        sections=[*_ranking(named), *_fix(tried), *_loss(case), *_evidence(named), *_unseen(case)],
        findings=finding_views([*findings, *_others(case, findings)]),
        provenance=provenance(command, [str(case.given.run)]),
    )


def summary(case: Case, tried: Tried | None, console: Console) -> None:
    """What was examined, the causes in one line each, and what became of a fix."""
    for area, found in case.findings.items():
        rules = ", ".join(sorted({finding.rule for finding in found})) or "nothing found"
        console.print(f"{area:<12} {rules}", soft_wrap=True)
    for area, reason in case.unseen.items():
        console.print(f"{area:<12} not examined: {printable(reason)}", soft_wrap=True)
    named = case.suspects
    if not named:
        console.print("no cause stands out", soft_wrap=True)
    for place, suspect in enumerate(named, 1):
        title = suspect.cause.title.rstrip(".")
        console.print(
            f"{place}. {suspect.cause.id} {title} ({suspect.confidence}, {suspect.score:g} points)",
            soft_wrap=True,
        )
    if tried is not None:
        english = Catalogue.load("en")
        changes = ", ".join(f"{name} = {value}" for name, value in tried.attempt.changes.items())
        said = [verify_fix.verdict(tried.attempt), *verify_fix.notes(tried.attempt)]
        console.print(f"with {changes}: {' '.join(map(english.say, said))}", soft_wrap=True)


def told(case: Case) -> list[Finding]:
    """The causes as findings; without one, the errors that no cause explains."""
    run = str(case.given.run)
    causes = [suspect.finding(run) for suspect in case.suspects]
    explained = {sign.rule for suspect in case.suspects for sign in suspect.pro}
    explained |= OUTCOMES if causes else set()
    return causes + [
        finding
        for finding in case.all_findings
        if finding.rule not in explained and finding.severity is Severity.ERROR
    ]


def _others(case: Case, shown: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in case.all_findings if finding not in shown]


def _verdict(case: Case, named: Sequence[Suspect], findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    detail = Text("report.detail", areas=len(case.findings), count=len(case.all_findings))
    if named:
        best = named[0]
        headline = Text(f"report.headline.{best.confidence}", cause=_title(best.cause.id))
    else:
        headline = Text("report.headline.none" if level == "good" else "report.headline.unnamed")
    return Verdict(level=level, headline=headline, detail=detail)


def _steps(case: Case, named: Sequence[Suspect]) -> list[Step]:
    """What to do about each cause, best first."""
    run = quote(str(case.given.run))
    if not named:
        return [Step(text=Text("report.step.none"), command=f"glmdiag report {run}")]
    mend = [
        Step(
            text=Text(
                "report.step.mend", cause=_title(id_), fix=RuleTitle(id_, _fix_of(id_), "fix")
            ),
            command=f"glmdiag explain {id_}",
        )
        for id_ in (suspect.cause.id for suspect in named[:SHOWN])
    ]
    if not (case.given.run / RESOLVED).is_file():
        return mend
    verify = Step(text=Text("report.step.verify"), command=f"glmdiag report {run} --verify-fix")
    return [*mend, verify]


def _facts(case: Case, named: Sequence[Suspect]) -> list[Fact]:
    values: dict[str, Value] = {
        "causes": len(named),
        "examined": f"{len(case.findings)} / {len(set(AREAS.values()))}",
        "findings": len(case.all_findings),
    }
    return [Fact(label=Text(f"report.fact.{name}"), value=v) for name, v in values.items()]


def _ranking(named: Sequence[Suspect]) -> list[Section]:
    """All causes in one table."""
    if not named:
        return []
    columns = [
        Column(label=Text("report.column.cause")),
        Column(label=Text("report.column.title")),
        Column(label=Text("report.column.confidence")),
        Column(label=Text("report.column.points"), numeric=True, bar=True, spec=".3g"),
    ]
    rows: list[list[Value | None]] = [
        [
            suspect.cause.id,
            _title(suspect.cause.id),
            Text(f"report.confidence.{suspect.confidence}"),
            suspect.score,
        ]
        for suspect in named
    ]
    table = Table(columns=columns, rows=rows, highlight=0)
    return [Section(title=Text("report.ranking"), intro=Text("report.how"), blocks=[table])]


def _fix(tried: Tried | None) -> list[Section]:
    return [] if tried is None else [verify_fix.section(tried.attempt)]


def _loss(case: Case) -> list[Section]:
    if "log" not in case.records or not case.records["log"].losses:
        return []
    return [loss_section(case.records["log"], case.findings["log"])]


def _evidence(named: Sequence[Suspect]) -> list[Section]:
    """What speaks for and against each of the first causes."""
    columns = [
        Column(label=Text("report.column.points"), numeric=True, spec="+.3g"),
        Column(label=Text("report.column.rule")),
        Column(label=Text("report.column.sign")),
        Column(label=Text("report.column.where")),
    ]
    return [
        Section(
            title=Text("report.evidence", cause=suspect.cause.id, title=_title(suspect.cause.id)),
            blocks=[
                Table(columns=columns, rows=[_row(s) for s in (*suspect.pro, *suspect.contra)])
            ],
        )
        for suspect in named[:SHOWN]
    ]


def _row(sign: Sign) -> list[Value | None]:
    title = _title(sign.rule)
    if sign.finding is None:
        return [sign.points, sign.rule, Text("report.missing", title=title), None]
    return [sign.points, sign.rule, title, sign.finding.where]


def _unseen(case: Case) -> list[Section]:
    """What was not examined, and why."""
    if not case.unseen:
        return []
    blocks = [
        Paragraph(Text("report.not_examined", area=Text(f"report.area.{area}"), why=Literal(why)))
        for area, why in case.unseen.items()
    ]
    return [Section(title=Text("report.unseen"), blocks=blocks)]


def _fix_of(rule_id: str) -> str:
    fix = RULES[rule_id].fix
    return fix if fix.startswith("glm") else fix[:1].upper() + fix[1:]


def _title(rule_id: str) -> RuleTitle:
    return RuleTitle(rule_id, RULES[rule_id].title.rstrip("."))

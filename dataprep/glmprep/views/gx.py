"""What a Great Expectations project found, on our own page: its Data Docs are plain offline."""

from __future__ import annotations

from glmreport.page import Column, Section, Table, Value
from glmreport.text import Literal, Message, RuleTitle, Text

from glmprep.findings import RULES
from glmprep.gxresult import Check, Result

OWN = frozenset({"where", "role", "characters", "rows", "turns"})
"""Expectations of ours that stand for no rule; each has its words."""


def gx_section(result: Result) -> Section:
    """The expectations of a project, those that fail first, and where its files are."""
    failed = sum(not check.holds for check in result.checks)
    checks = sorted(result.checks, key=lambda check: (check.holds, check.severity.rank))
    names = ("check", "state", "unexpected", "share", "places", "severity", "table")
    return Section(
        title=Text("gx.title"),
        intro=Text(
            "gx.kept" if result.kept else "gx.intro",
            checks=len(checks),
            state=Text("gx.failed", failed=failed) if failed else Text("gx.all_hold"),
            folder=str(result.folder),
        ),
        blocks=[
            Table(
                columns=[
                    Column(
                        label=Text(f"gx.column.{name}"),
                        numeric=name in ("unexpected", "share"),
                        spec="percent" if name == "share" else "",
                    )
                    for name in names
                ],
                rows=[_row(check) for check in checks],
            )
        ],
    )


def _row(check: Check) -> list[Value | None]:
    share = None
    if check.unexpected is not None and check.total:
        share = check.unexpected / check.total
    return [
        _name(check),
        Text("gx.holds" if check.holds else "gx.fails"),
        check.unexpected,
        share,
        _found(check),
        Text(f"page.severity.{check.severity}"),
        Text(f"gx.table.{check.table}"),
    ]


def _name(check: Check) -> Message:
    if check.rule in RULES:
        title = RuleTitle(check.rule, RULES[check.rule].title.rstrip("."))
        return Text("gx.rule", rule=check.rule, title=title)
    return Text(f"gx.check.{check.name}") if check.name in OWN else Literal(check.name)


def _found(check: Check) -> Value | None:
    """What was seen: why nothing could be, a value of the whole table, or some places."""
    if check.error is not None:
        return Text("gx.error", reason=check.error)
    if check.observed is not None:
        return Text("gx.observed", value=check.observed)
    more = ["…"] if (check.unexpected or 0) > len(check.places) else []
    return ", ".join([*check.places, *more]) or None

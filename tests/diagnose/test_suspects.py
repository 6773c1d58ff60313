"""Findings add up to causes: for, against, expected but missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from glmdiag.report import suspects
from glmdiag.report.suspects import Signs, cause, rank
from glmprep.findings import RULES, Finding, Severity
from glmtrain.detectors.zero_rules import nan_logged_as_zero


def found(rule: str, severity: Severity = Severity.ERROR, share: float = 1.0) -> Finding:
    return Finding(
        rule=rule, severity=severity, where="", evidence="", fix="", data={"share": share}
    )


@pytest.fixture(autouse=True)
def two_causes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(suspects, "CAUSES", [])
    before = dict(RULES)

    @cause(
        "RC901",
        Signs(
            found={"DL101": lambda finding: 5.0 * float(finding.data["share"]), "LG001": 1.0},
            expected={"LG003": 1.0},
            odd={"LG006": 2.0},
        ),
    )
    def first() -> None:
        """First.

        Evidence: for it {pro}; against it {contra}.
        Why: because.
        Fix: mend.
        """

    @cause("RC902", Signs(found={"LG006": 3.5, "LG001": 1.0}))
    def second() -> None:
        """Second.

        Evidence: for it {pro}; against it {contra}.
        Why: because.
        Fix: mend.
        """

    yield
    for added in set(RULES) - set(before):
        del RULES[added]


def ids(*findings: Finding, examined: tuple[str, ...] = ()) -> list[str]:
    return [suspect.cause.id for suspect in rank(findings, examined)]


def test_the_cause_with_more_evidence_comes_first() -> None:
    assert ids(found("LG006"), found("LG001"), found("DL101")) == ["RC902", "RC901"]


def test_nothing_found_names_no_cause() -> None:
    assert ids(examined=("log", "labels")) == []


def test_too_little_evidence_names_no_cause() -> None:
    assert ids(found("LG001")) == []


def test_points_may_depend_on_how_much_was_found() -> None:
    assert ids(found("DL101", share=0.3)) == []
    assert ids(found("DL101", share=0.9)) == ["RC901"]


def test_what_was_expected_counts_against_only_where_it_was_looked_for() -> None:
    (unseen,) = rank([found("DL101")], ())
    (looked,) = rank([found("DL101")], ("log",))
    assert (unseen.score, looked.score) == (5.0, 4.0)
    assert [sign.rule for sign in looked.contra] == ["LG003"]
    assert looked.contra[0].finding is None


def test_a_possible_cause_is_no_error() -> None:
    (suspect,) = rank([found("DL101", share=0.7)], ())
    assert (suspect.confidence, suspect.severity) == ("possible", Severity.WARNING)


def test_a_cause_is_as_severe_as_its_worst_sign() -> None:
    (suspect,) = rank([found("DL101", Severity.WARNING)], ())
    assert (suspect.confidence, suspect.severity) == ("likely", Severity.WARNING)


def test_the_finding_of_a_cause_names_its_evidence() -> None:
    (suspect,) = rank([found("DL101")], ("log",))
    told = suspect.finding("run")
    assert told.rule == suspect.cause.id
    assert told.data["pro"] == ", ".join(sign.rule for sign in suspect.pro)
    assert [example.where for example in told.examples] == ["+5 DL101", "-1 LG003"]
    assert told.examples[1].excerpt == f"not found: {nan_logged_as_zero.title}"


def test_every_rule_that_a_cause_speaks_of_exists() -> None:
    code = (
        "from glmdiag.explain import all_rules; from glmdiag.report.suspects import unknown_rules;"
        "all_rules(); assert not unknown_rules(), unknown_rules()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

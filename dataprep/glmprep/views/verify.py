"""What `glmprep verify` says: is the shard folder proven whole, and what was checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from glmreport.numbers import show_number
from glmreport.page import Column, Fact, Page, Section, Step, Table, Verdict
from glmreport.text import Text

from glmprep.ledger import Ledger
from glmprep.pages import finding_views, provenance, verdict_level
from glmprep.verify import Result, broken_layout, file_changed, sums_differ, wrong_labels
from glmprep.views import followup
from glmprep.views.head import fact, tokens_fact
from glmprep.views.terminal import Summary, aligned, counted, number, printing

CHECKS = (file_changed, sums_differ, broken_layout, wrong_labels)
State = Literal["passed", "failed", "skipped"]


def summary(result: Result, shards: Path) -> Summary:
    """Whether it is proven, and for how many rows and tokens."""
    return printing(aligned(_lines(result, shards)), result.findings)


def page(result: Result, shards: Path, command: str) -> Page:
    """The report of a check of the folder `shards`."""
    complete = _complete(result)
    return Page(
        kind="glmprep verify",
        title=Text("prep.verify.title"),
        subject=str(shards),
        verdict=_verdict(result),
        steps=_steps(result, shards),
        facts=_facts(result) if complete else (),
        sections=[
            Section(
                title=Text("prep.verify.section.checks"),
                intro=Text(f"prep.verify.intro.{'complete' if complete else 'ended'}"),
                blocks=[_checks(result), *([_sums(result)] if complete else [])],
            )
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, [str(shards)]),
    )


def _verdict(result: Result) -> Verdict:
    proven = "broken" if result.findings else "proven"
    return Verdict(
        level=verdict_level(result.findings),
        headline=Text(f"prep.verify.verdict.{proven}"),
        detail=Text(
            f"prep.verify.detail.{proven}",
            rows=result.rows,
            tokens=result.tokens,
            trained=result.supervised,
        ),
    )


def _steps(result: Result, shards: Path) -> list[Step]:
    if result.findings:
        return [Step(text=Text("prep.verify.next.again"))]
    return followup.after_shards(shards)


def _facts(result: Result) -> list[Fact]:
    files = Text("prep.verify.note.files", files=len(result.manifest.files))
    share = Text("prep.note.trained", share=result.supervised / max(1, result.tokens))
    return [
        fact("rows", result.rows, files),
        fact("conversations", result.segments, Text("prep.verify.note.segments")),
        tokens_fact(result.tokens),
        fact("trained", show_number(result.supervised, "compact"), share),
    ]


def _checks(result: Result) -> Table:
    return Table(
        columns=[
            Column(label=Text(f"prep.verify.column.{name}")) for name in ("check", "state", "what")
        ],
        rows=[
            [
                Text(f"prep.verify.check.{check.id}"),
                Text(f"prep.verify.state.{_state(result, check.id)}"),
                Text(f"prep.verify.what.{check.id}"),
            ]
            for check in CHECKS
        ],
        caption=Text("prep.verify.caption.checks"),
    )


def _state(result: Result, rule: str) -> State:
    """A file that cannot be read ends the examination, so that what follows is not reached."""
    if any(finding.rule == rule for finding in result.findings):
        return "failed"
    return "passed" if rule == file_changed.id or _complete(result) else "skipped"


def _complete(result: Result) -> bool:
    """Whether all files could be read; rows that are missing otherwise are a finding."""
    rules = {finding.rule for finding in result.findings}
    return sums_differ.id in rules or result.rows == _listed(result)["rows"]


def _listed(result: Result) -> dict[str, int]:
    """What the manifest says that there is."""
    written = Ledger.from_json(result.manifest.ledger).written
    return {
        "rows": sum(int(entry["rows"]) for entry in result.manifest.files),
        "conversations": written.rows,
        "tokens": written.tokens,
        "trained": written.supervised,
    }


def _sums(result: Result) -> Table:
    found = {
        "rows": result.rows,
        "conversations": result.segments,
        "tokens": result.tokens,
        "trained": result.supervised,
    }
    listed = _listed(result)
    names = ("sum", "manifest", "shards", "equal")
    return Table(
        columns=[
            Column(label=Text(f"prep.verify.column.{name}"), numeric=name != "sum")
            for name in names
        ],
        rows=[
            [Text(f"prep.fact.{k}"), listed[k], n, "✓" if n == listed[k] else "✗"]
            for k, n in found.items()
        ],
        caption=Text("prep.verify.caption.sums"),
    )


def _lines(result: Result, shards: Path) -> list[tuple[str, str]]:
    files = counted(len(result.manifest.files), "file", "files")
    rows = counted(result.rows, "row", "rows")
    tokens = f"{number(result.tokens)} tokens, {number(result.supervised)} of them trained"
    if result.findings:
        return [("not proven", str(shards)), ("read", f"{rows} of {files}, {tokens}")]
    return [
        ("proven", str(shards)),
        ("read", f"{rows} in {files}, {tokens}"),
        ("checked", "sha256 of each file, sums against the ledger, layout and labels of each row"),
    ]

"""What `glmprep verify` says: is the shard folder proven, from what, and what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from glmreport.numbers import show_number
from glmreport.page import Column, Fact, Page, Section, Step, Table, Value, Verdict
from glmreport.text import Text

from glmprep.ledger import Ledger
from glmprep.pages import finding_views, provenance, verdict_level
from glmprep.rules.shards import sums_differ
from glmprep.verify import WITH_DATA, WITHOUT_DATA, Result
from glmprep.views import followup
from glmprep.views.head import fact, tokens_fact
from glmprep.views.terminal import Summary, aligned, counted, number, printing

State = Literal["passed", "failed", "skipped", "no_data"]


def summary(result: Result, shards: Path) -> Summary:
    """Whether it is proven, and for how many rows and tokens."""
    return printing(aligned(_lines(result, shards)), result.findings)


def page(result: Result, shards: Path, command: str, data: Sequence[str] = ()) -> Page:
    """The report of a check of the folder `shards`, beside `data` where that is given."""
    complete = _complete(result)
    return Page(
        kind="glmprep verify",
        title=Text("prep.verify.title"),
        subject=str(shards),
        verdict=_verdict(result),
        steps=_steps(result, shards, data),
        facts=_facts(result) if complete else (),
        sections=[
            Section(
                title=Text("prep.verify.section.checks"),
                intro=Text(f"prep.verify.intro.{'complete' if complete else 'ended'}"),
                blocks=[_checks(result), *([_sums(result)] if complete else [])],
            )
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, [str(shards), *data]),
    )


def _verdict(result: Result) -> Verdict:
    from_data = result.rows_again is not None
    proven = "broken" if result.findings else "from_data" if from_data else "proven"
    return Verdict(
        level=verdict_level(result.findings),
        headline=Text(f"prep.verify.verdict.{proven}"),
        detail=Text(
            f"prep.verify.detail.{proven}",
            rows=result.rows,
            tokens=result.tokens,
            trained=result.supervised,
            data=result.rows_again or 0,
        ),
    )


def _steps(result: Result, shards: Path, data: Sequence[str]) -> list[Step]:
    if result.findings:
        return [Step(text=Text("prep.verify.next.again"))]
    from_data = Step(
        text=Text("prep.verify.next.from_data"),
        command=followup.line("glmprep", "verify", shards, *result.manifest.inputs),
    )
    return [*([] if data else [from_data]), *followup.after_shards(shards)]


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
            for check in (*WITHOUT_DATA, *WITH_DATA)
        ],
        caption=Text("prep.verify.caption.checks"),
    )


def _state(result: Result, rule: str) -> State:
    """A file that cannot be read ends the examination, so that what follows is not reached."""
    if any(finding.rule == rule for finding in result.findings):
        return "failed"
    if rule in result.checked:
        return "passed"
    needs_data = rule in {check.id for check in WITH_DATA}
    return "no_data" if needs_data and _complete(result) else "skipped"


def _complete(result: Result) -> bool:
    """Whether all files could be read; the sums are what is checked last."""
    return sums_differ.id in result.checked


def _sums(result: Result) -> Table:
    """What the manifest says that there is, beside what there is."""
    manifest = result.manifest
    ledger = Ledger.from_json(manifest.ledger)
    lines = 0 if manifest.ledger_file is None else manifest.ledger_file["rows"]
    sums = [
        ("rows", sum(int(entry["rows"]) for entry in manifest.files), result.rows),
        ("conversations", ledger.written.rows, result.segments),
        ("tokens", ledger.written.tokens, result.tokens),
        ("trained", ledger.written.supervised, result.supervised),
        ("lines", lines, result.lines),
    ]
    if result.rows_again is not None:
        sums.append(("data", ledger.read, result.rows_again))
    rows: list[list[Value]] = [
        [Text(f"prep.fact.{name}"), listed, found, "✓" if found == listed else "✗"]
        for name, listed, found in sums
    ]
    return Table(
        columns=[
            Column(label=Text(f"prep.verify.column.{name}"), numeric=name != "sum")
            for name in ("sum", "manifest", "found", "equal")
        ],
        rows=rows,
        caption=Text("prep.verify.caption.compared"),
    )


def _lines(result: Result, shards: Path) -> list[tuple[str, str]]:
    files = counted(len(result.manifest.files), "file", "files")
    rows = counted(result.rows, "row", "rows")
    tokens = f"{number(result.tokens)} tokens, {number(result.supervised)} of them trained"
    if result.findings:
        return [("not proven", str(shards)), ("read", f"{rows} of {files}, {tokens}")]
    lines = counted(result.lines, "line", "lines")
    checked = f"sha256 of each file, sums, layout and labels, and {lines} of the ledger"
    if result.rows_again is None:
        from_data = "not read again; to prove the shards from it: glmprep verify SHARDS DATA..."
    else:
        again = counted(result.rows_again, "row", "rows")
        from_data = f"{again} read and tokenized again, each is as the ledger says"
    return [
        ("proven", str(shards)),
        ("read", f"{rows} in {files}, {tokens}"),
        ("checked", checked),
        ("data", from_data),
    ]

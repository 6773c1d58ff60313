"""What `glmprep build` says: what each stage took in and gave, and how much was done before."""

from __future__ import annotations

from glmreport.numbers import show_number
from glmreport.page import Column, Fact, Page, Section, Step, Table, Value, Verdict
from glmreport.text import Text

from glmprep.build import Plan
from glmprep.built import Made, Result
from glmprep.estimate import Estimate
from glmprep.pages import finding_views, provenance
from glmprep.views import efficiency, followup
from glmprep.views.head import fact, level_of_output, subject, tokens_fact
from glmprep.views.terminal import PERCENT, Summary, aligned, counted, number, printing

MEGA = 1e6


def estimated(found: Estimate) -> Summary:
    """What a run will take."""
    stages = [*found.stages, "tokenize", "arrange"]
    needed = found.work_bytes + found.shard_bytes
    lines = [
        ("plan", f"{' → '.join(stages)}, {found.workers} workers"),
        ("data", f"{counted(found.files, 'file', 'files')}, {_megabytes(found.input_bytes)}"),
        ("tried", f"{_megabytes(found.sampled)} of it; what follows is for all"),
        ("rows", f"about {number(found.rows)}"),
        ("tokens", f"about {number(found.tokens)}, {number(found.supervised)} of them trained"),
        ("time", f"about {_duration(found.seconds)}"),
        (
            "disk",
            f"about {_megabytes(found.shard_bytes)} of shards and {_megabytes(found.work_bytes)} "
            f"kept for the next run; {_megabytes(found.free_bytes)} are free",
        ),
    ]
    if needed > found.free_bytes:
        lines.append(("warning", "the disk is too small; name another output.folder"))
    return printing(aligned(lines))


def summary(result: Result, plan: Plan) -> Summary:
    """What was made, of what, and how long it took."""
    shards = result.shards
    written = shards.ledger.written
    lines = [
        ("stages", " → ".join([*result.stages, "shards"])),
        (
            "read",
            f"{_megabytes(result.input_bytes)} in {counted(result.blocks, 'part', 'parts')}, "
            f"{number(result.kept)} of them done before",
        ),
        ("wrote", _wrote(plan, result.training)),
        (
            "tokens",
            f"{number(written.tokens)}, {number(written.supervised)} of them trained "
            f"({number(written.supervised / max(1, written.tokens), PERCENT)})",
        ),
        ("took", _duration(result.seconds)),
    ]
    if plan.validation and result.validation:
        lines.insert(3, ("held out", _wrote(plan.validation, result.validation)))
    if shards.left_out:
        lines.append(("left out", counted(shards.left_out, "row", "rows")))
    lines += [("note", note) for note in shards.notes]
    lines += [("next", command) for command in _verify(plan)]
    return printing(aligned(lines), shards.findings)


def page(result: Result, plan: Plan, command: str) -> Page:
    """The report of a whole run."""
    return Page(
        kind="glmprep build",
        title=Text("prep.build.title"),
        subject=f"{subject([str(path) for path in plan.source.paths])} → {plan.shards}",
        verdict=_verdict(result),
        steps=[
            *followup.mend(result.shards.rejections),
            *(Step(text=Text("prep.next.verify"), command=verify) for verify in _verify(plan)),
            *followup.after_shards(plan.shards),
        ],
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.build.section.stages"),
                intro=Text("prep.build.intro.stages"),
                blocks=[_stages(result)],
            ),
            efficiency.section(result.shards.efficiency),
        ],
        findings=finding_views(result.shards.findings),
        provenance=provenance(command, [str(path) for path in plan.source.paths]),
    )


def _verdict(result: Result) -> Verdict:
    written = result.shards.ledger.written
    return Verdict(
        level=level_of_output(result.reject_share, result.shards.findings),
        headline=Text(
            f"prep.build.verdict.{'partly' if result.reject_share else 'all'}",
            rows=written.rows,
            tokens=written.tokens,
        ),
        detail=Text(
            "prep.build.detail",
            blocks=result.blocks,
            kept=result.kept,
            seconds=f"{result.seconds:.1f}",
        ),
    )


def _facts(result: Result) -> list[Fact]:
    written = result.shards.ledger.written
    return [
        fact("conversations", written.rows),
        tokens_fact(written.tokens),
        fact("trained", show_number(written.supervised / max(1, written.tokens), PERCENT)),
        fact("padding", show_number(result.shards.efficiency.padding, PERCENT)),
    ]


def _verify(plan: Plan) -> list[str]:
    """The commands that prove the shards, also those of what is held out."""
    plans = [plan, plan.validation] if plan.validation else [plan]
    return [
        followup.line("glmprep", "verify", each.shards, *each.tokenized.paths) for each in plans
    ]


def _wrote(plan: Plan, made: Made) -> str:
    rows = counted(made.shards.ledger.written.rows, "conversation", "conversations")
    return f"{plan.shards}: {rows}, {counted(len(made.shards.manifest.files), 'file', 'files')}"


def _stages(result: Result) -> Table:
    """For each stage what came in and what it left out."""
    rows = _went(result.training, "stage")
    if result.validation:
        rows += _went(result.validation, "held_out")
    return Table(
        columns=[
            Column(label=Text("prep.build.column.stage")),
            Column(label=Text("prep.build.column.came"), numeric=True),
            Column(label=Text("prep.build.column.went"), numeric=True),
            Column(label=Text("prep.build.column.share"), numeric=True, spec="percent"),
        ],
        rows=rows,
        caption=Text("prep.build.caption.stages"),
    )


def _went(made: Made, names: str) -> list[list[Value | None]]:
    """A line for each stage, whose names are those texts."""
    shards = made.shards
    rows: list[list[Value | None]] = [
        [Text(f"prep.build.{names}.{name}"), done.came, done.went, done.result.reject_share]
        for name, done in made.stages.items()
    ]
    return [
        *rows,
        [
            Text(f"prep.build.{names}.shards"),
            shards.ledger.read,
            shards.ledger.written.rows,
            shards.reject_share,
        ],
    ]


def _megabytes(size: int) -> str:
    return f"{size / MEGA:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

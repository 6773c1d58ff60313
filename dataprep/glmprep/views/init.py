"""What `glmprep init` says: what was seen, what was chosen and why, and what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmreport.numbers import show_number
from glmreport.page import Column, Fact, Page, Paragraph, Section, Step, Table, Value, Verdict
from glmreport.text import Catalogue, Text

from glmprep.init import Result, commands, machine_text
from glmprep.lengths import percentiles
from glmprep.pages import provenance
from glmprep.proposal import MAX_REJECTS
from glmprep.views import followup
from glmprep.views.head import fact, subject
from glmprep.views.lengths import group_table
from glmprep.views.terminal import Summary, aligned, counted, number, printing
from glmprep.written import toml

STEPS = ("dry", "build", "train")
SHOWN = (
    ("shards", "max_length"),
    ("shards", "layout"),
    ("train", "method"),
    ("train", "precision"),
)
"""The settings whose reasons the terminal shows; all are in the recipe."""


def summary(result: Result, target: Path) -> Summary:
    """What was looked at, the choices that matter most, and the next commands."""
    return printing(aligned(_lines(result, target)))


def page(result: Result, target: Path, command: str, data: Sequence[str]) -> Page:
    """The report of proposing `target` for `data`."""
    lines = [followup.line(*words) for words in commands(result, target)]
    return Page(
        kind="glmprep init",
        title=Text("prep.init.title"),
        subject=f"{subject(data)} → {target}",
        verdict=_verdict(result),
        steps=[
            Step(text=Text(f"prep.init.next.{name}"), command=line)
            for name, line in zip(STEPS, lines, strict=True)
        ],
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.init.section.data"),
                intro=result.proposal.of("data")[0].why,
                blocks=[_lengths(result), group_table(result.survey.groups)],
            ),
            Section(
                title=Text("prep.init.section.choices"),
                intro=Text("prep.init.intro.choices", file=str(target)),
                blocks=[Paragraph(machine_text(result.machine)), _choices(result)],
            ),
        ],
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    survey, limit = result.survey, result.proposal.limit
    share = survey.conversations / max(1, survey.conversations + sum(survey.rejected.values()))
    kind = "partly" if 1 - share > MAX_REJECTS else "ready"
    if survey.unknown or survey.guessed:
        kind = "unknown" if survey.unknown else "guessed"
    return Verdict(
        level="good" if kind == "ready" else "warn",
        headline=Text(
            f"prep.init.verdict.{kind}",
            names=", ".join(survey.unknown or sorted(survey.guessed)),
            share=1 - share,
        ),
        detail=Text(
            "prep.init.detail",
            share=share,
            tokens=limit.tokens,
            whole=1 - survey.longer(limit.tokens),
        ),
    )


def _facts(result: Result) -> list[Fact]:
    survey = result.survey
    total = survey.seen.total
    about = Text("prep.init.note.about", rows=total) if total and not survey.seen.whole else None
    lengths = percentiles(survey.lengths)
    return [
        fact("looked_at", len(survey.seen.rows), about),
        fact("median", lengths["p50"]),
        fact("p95", lengths["p95"]),
        fact("limit", result.proposal.limit.tokens),
        fact("precision", result.proposal.precision),
    ]


def _lengths(result: Result) -> Table:
    lengths = percentiles(result.survey.lengths)
    return Table(
        columns=[
            Column(label=Text("prep.init.column.share")),
            Column(label=Text("prep.init.column.tokens"), bar=True),
        ],
        rows=[[f"{name.removeprefix('p')}%", tokens] for name, tokens in lengths.items()],
        caption=Text("prep.init.caption.lengths"),
    )


def _choices(result: Result) -> Table:
    rows: list[list[Value | None]] = [
        [
            choice.table,
            choice.key,
            Text("prep.init.off") if choice.off else toml(choice.value),
            choice.why,
        ]
        for choice in result.proposal.choices
        if choice.why is not None
    ]
    return Table(
        columns=[
            Column(label=Text(f"prep.init.column.{n}"))
            for n in ("table", "setting", "value", "why")
        ],
        rows=rows,
        caption=Text("prep.init.caption.choices"),
    )


def _lines(result: Result, target: Path) -> list[tuple[str, str]]:
    survey, say = result.survey, Catalogue.load("en").say
    looked = result.proposal.of("data")[0].why
    kinds = ", ".join(
        f"{say(Text(f'prep.lengths.{group.name}'))} "
        f"{show_number(len(group.conversations) / survey.conversations, 'percent')}"
        for group in survey.groups
    )
    lines = [("wrote", str(target)), ("data", say(looked) if looked else ""), ("of these", kinds)]
    if survey.source.roles:
        roles = ", ".join(f"{old} = {new}" for old, new in survey.source.roles.items())
        guessed = "; guessed from who speaks first: check it" if survey.guessed else ""
        lines.append(("roles", roles + guessed))
    if survey.unknown:
        lines.append(("unknown", f"roles {', '.join(survey.unknown)}: say what they stand for"))
    if rejected := sum(survey.rejected.values()):
        rules = ", ".join(f"{rule} {number(count)}" for rule, count in survey.rejected.items())
        lines.append(("left out", f"{counted(rejected, 'row', 'rows')}: {rules}"))
    lines.append(("machine", say(machine_text(result.machine))))
    for choice in result.proposal.choices:
        if (choice.table, choice.key) in SHOWN:
            why = f"  {say(choice.why)}" if choice.why else ""
            lines.append((choice.key.replace("_", " "), f"{toml(choice.value)}{why}"))
    return [*lines, *(("next", followup.line(*words)) for words in commands(result, target))]

"""What `glmprep audit` says: can this data be trained on, and what would each limit cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmreport.numbers import show_number
from glmreport.page import Fact, Page, Section, Step, Verdict
from glmreport.text import Text
from rich.text import Text as Line

from glmprep.audit import COVERED, Result
from glmprep.gxresult import Result as Project
from glmprep.lengths import PERCENTILES, percentiles
from glmprep.pages import finding_views, provenance, verdict_level
from glmprep.schemas.rules import unknown_role
from glmprep.views import followup
from glmprep.views.gx import gx_section
from glmprep.views.head import fact, subject, tokens_fact
from glmprep.views.lengths import cost_table, length_blocks, limit_blocks, official_block
from glmprep.views.terminal import PERCENT, Summary, aligned, columns, counted, number, printing

UNKNOWN_ROLE = re.compile(r"unknown role '([\w.-]+)'$")


def summary(result: Result) -> Summary:
    """Sums, percentiles, and what the limit would cut."""
    table = columns(["tokens", *_percentile_names()], _percentile_rows(result))
    return printing([*aligned(_lines(result)), Line(), *table], result.findings)


def page(result: Result, command: str, data: Sequence[str], project: Project | None = None) -> Page:
    """The report of an audit of `data` by `command`, with what Great Expectations found."""
    limit = result.max_length
    return Page(
        kind="glmprep audit",
        title=Text("prep.audit.title"),
        subject=subject(data),
        verdict=_verdict(result),
        steps=_steps(result, command, data),
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.audit.section.lengths"),
                intro=Text("prep.audit.intro.lengths"),
                blocks=length_blocks(result.lengths, limit),
            ),
            Section(
                title=Text("prep.audit.section.limits"),
                intro=Text("prep.audit.intro.limits"),
                blocks=[
                    *limit_blocks(result.lengths, result.cuts, limit),
                    official_block(result.lengths, result.official, result.official_cut),
                ],
            ),
            Section(
                title=Text("prep.audit.section.costs"),
                intro=Text("prep.audit.intro.costs", tokens=result.recommended, share=COVERED),
                blocks=[cost_table(result.costs, result.recommended)],
            ),
            *([gx_section(project)] if project else []),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    return Verdict(
        level=verdict_level(result.findings),
        headline=_headline(result),
        detail=Text(
            "prep.audit.detail",
            share=result.conversations / result.rows,
            conversations=result.conversations,
            tokens=_tokens(result),
            trainable=result.lengths.supervised,
        ),
    )


def _headline(result: Result) -> Text:
    level, cut = verdict_level(result.findings), result.at_limit
    if result.rejections:
        rejected = len(result.rejections)
        return Text("prep.audit.verdict.bad", rejected=rejected, rows=result.rows)
    if cut is not None and cut.rows:
        return Text("prep.audit.verdict.long", rows=cut.rows, tokens=cut.max_length)
    return Text("prep.audit.verdict.good" if level == "good" else "prep.audit.verdict.warn")


def _steps(result: Result, command: str, data: Sequence[str]) -> list[Step]:
    limit = result.max_length or result.recommended
    longest = int(result.lengths.conversations.max())
    steps = [
        *_role_steps(result, command, data),
        *_look_step(result, command, data),
        *followup.mend(result.rejections),
    ]
    if longest <= limit:
        shards = followup.bucket(data, followup.repeated(command), longest)
        return [*steps, Step(text=Text("prep.next.bucket"), command=shards)]
    if result.max_length is None:
        steps.append(_limit_step(limit, command, data))
    long = int((result.lengths.conversations > limit).sum())
    split = Text("prep.next.segment", rows=long, tokens=limit)
    shards = followup.bucket_segments(followup.SEGMENTS, command, limit)
    return [
        *steps,
        Step(text=split, command=followup.segment(data, command, limit)),
        Step(text=Text("prep.next.bucket"), command=shards),
    ]


def _role_steps(result: Result, command: str, data: Sequence[str]) -> list[Step]:
    """To name what unknown roles stand for; a guess stands in the command for the person's word."""
    reasons = [r.reason for r in result.rejections if r.rule == unknown_role.id]
    names = sorted({found[1] for reason in reasons if (found := UNKNOWN_ROLE.search(reason))})
    if not names:
        return []
    words = [word for name in names for word in ("--role", f"{name}=user")]
    again = followup.line("glmprep", "audit", *data, *followup.repeated(command), *words)
    return [Step(text=Text("prep.audit.next.role"), command=again)]


def _look_step(result: Result, command: str, data: Sequence[str]) -> list[Step]:
    """To leaf through the worst conversations, which reads the data again, so not from a pipe."""
    if not result.findings or "-" in data:
        return []
    limit = ["--max-length", result.max_length] if result.max_length else []
    wanted = [*limit, "--report", "show.html"]
    look = followup.line("glmprep", "show", *data, *followup.repeated(command), *wanted)
    return [Step(text=Text("show.next.look"), command=look)]


def _limit_step(limit: int, command: str, data: Sequence[str]) -> Step:
    wanted = ["--max-length", limit, "--report", "audit.html"]
    again = followup.line("glmprep", "audit", *data, *followup.repeated(command), *wanted)
    return Step(text=Text("prep.audit.next.limit", tokens=limit, share=COVERED), command=again)


def _facts(result: Result) -> list[Fact]:
    lengths = percentiles(result.lengths.conversations)
    trainable, tokens = result.lengths.supervised, _tokens(result)
    return [
        fact("conversations", result.conversations, _read(result)),
        tokens_fact(tokens),
        fact(
            "trainable",
            show_number(trainable, "compact"),
            Text("prep.note.trained", share=trainable / tokens),
        ),
        fact("median", lengths["p50"], Text("prep.audit.note.median")),
        fact("p95", lengths["p95"], Text("prep.audit.note.longest", tokens=lengths["p100"])),
        fact("recommended", result.recommended, Text("prep.audit.note.recommended", share=COVERED)),
    ]


def _read(result: Result) -> Text:
    if result.rejections:
        return Text("prep.audit.note.rejected", rejected=len(result.rejections))
    return Text("prep.audit.note.messages", messages=result.messages)


def _tokens(result: Result) -> int:
    return int(result.lengths.conversations.sum())


def _lines(result: Result) -> list[tuple[str, str]]:
    trained, tokens = result.lengths.supervised, _tokens(result)
    lines = [
        (
            "rows ready",
            f"{number(result.conversations)} of {counted(result.rows, 'row', 'rows')} "
            f"({number(result.conversations / result.rows, PERCENT)})",
        ),
        *_made(result),
        (
            "tokens",
            f"{number(tokens)}, {number(trained)} of them trained "
            f"({number(trained / tokens, PERCENT)})",
        ),
        (
            "suggested",
            f"--max-length {result.recommended} holds {number(COVERED, PERCENT)} "
            "of the conversations whole",
        ),
    ]
    if (cut := result.at_limit) is not None:
        lost = number(cut.supervised_lost / max(1, trained), PERCENT)
        lines.append(
            (
                f"at {number(cut.max_length)}",
                f"{counted(cut.rows, 'conversation is', 'conversations are')} longer; a cut would "
                f"lose {lost} of the trained tokens and end "
                f"{counted(cut.answers_cut, 'answer', 'answers')} in the middle",
            )
        )
    return lines


def _made(result: Result) -> list[tuple[str, str]]:
    """Said where a conversation is trained in several rows."""
    made = result.table.height
    if made == result.conversations:
        return []
    return [("trained as", f"{number(made)} rows, one for each round in which the answer reasons")]


def _percentile_names() -> list[str]:
    return ["longest" if p == 100 else f"p{p}" for p in PERCENTILES]


def _percentile_rows(result: Result) -> list[list[str]]:
    kinds = {
        "conversation": result.lengths.conversations,
        "prompt": result.lengths.prompts,
        "answer": result.lengths.answers,
    }
    found = {kind: percentiles(values) for kind, values in kinds.items()}
    return [
        [kind, *(number(v) for v in values.values())] for kind, values in found.items() if values
    ]

"""What `glmprep simulate` says: which rule keeps what, and what it breaks."""

from __future__ import annotations

from collections.abc import Sequence

from glmreport.charts import Series, bars, cumulative
from glmreport.numbers import show_number
from glmreport.page import (
    Block,
    Chart,
    Column,
    Fact,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    Value,
    Verdict,
)
from glmreport.text import Literal, Text
from rich.text import Text as Line

from glmprep.pages import finding_views, provenance
from glmprep.simulate import OURS, Outcome, Result
from glmprep.views import followup
from glmprep.views.head import fact, subject, tokens_fact
from glmprep.views.peers import named
from glmprep.views.terminal import PERCENT, Summary, aligned, columns, number, printing

NAMES = {
    OURS: "glmprep",
    "llamafactory": "LLaMA-Factory",
    "trl": "TRL",
    "swift_right": "swift right",
    "swift_left": "swift left",
    "swift_delete": "swift delete",
    "axolotl": "axolotl",
    "official": "GLM-4 script",
    "official_combine": "GLM-4 combine",
}
DRAWN = (OURS, "llamafactory", "trl", "swift_left", "axolotl", "official_combine")
"""One line for rules that do the same: keep the start (TRL, ms-swift, the script), drop."""
COUNTS = (
    "rows",
    "rows_dropped",
    "rows_without_labels",
    "turns_lost",
    "answers_cut_with_stop",
    "answers_without_stop",
    "prompts_cut",
)


def summary(result: Result) -> Summary:
    """The share that each rule keeps, and the counts at the length that tells most."""
    lengths = [number(length) for length in result.lengths]
    shares = [
        [NAMES[name], *(number(result.share(o), PERCENT) for o in result.at(name))]
        for name in NAMES
    ]
    lines = [*aligned(_lines(result)), Line(), *columns(["trained at", *lengths], shares)]
    length = result.telling or result.lengths[0]
    head = [f"at {number(length)}", "rows", "dropped", "no labels", "turns lost"]
    head += ["cut+stop", "no stop", "prompt cut", "computed"]
    counts = [
        [
            NAMES[outcome.policy],
            *(number(getattr(outcome, name)) for name in COUNTS),
            number(_computed(result, outcome), PERCENT),
        ]
        for outcome in _at_length(result, length)
    ]
    return printing([*lines, Line(), *columns(head, counts)], result.findings)


def page(result: Result, command: str, data: Sequence[str]) -> Page:
    """The report of simulating the rules on `data`."""
    return Page(
        kind="glmprep simulate",
        title=Text("prep.simulate.title"),
        subject=subject(data),
        verdict=_verdict(result),
        steps=_steps(result, command, data),
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.simulate.section.kept"),
                intro=Text("prep.simulate.intro.kept"),
                blocks=[_chart(result), _share_table(result)],
            ),
            Section(
                title=Text("prep.simulate.section.broken"),
                intro=Text("prep.simulate.intro.broken"),
                blocks=[*_refused(result), *_count_tables(result)],
            ),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    length = result.telling
    if length is None:
        return Verdict(
            level="good",
            headline=Text("prep.simulate.verdict.fits", tokens=result.lengths[0]),
            detail=Text("prep.simulate.detail.fits"),
        )
    at = {outcome.policy: outcome for outcome in _at_length(result, length)}
    return Verdict(
        level="warn",
        headline=Text(
            "prep.simulate.verdict.loses", tokens=length, share=1 - result.share(at["trl"])
        ),
        detail=Text("prep.simulate.detail.loses", **_compared(result, at)),
    )


def _compared(result: Result, at: dict[str, Outcome]) -> dict[str, float]:
    return {
        "start": result.share(at["trl"]),
        "factory": result.share(at["llamafactory"]),
        "dropping": result.share(at["axolotl"]),
        "ours": result.share(at[OURS]),
        "computed": _computed(result, at[OURS]),
        "prompts": at[OURS].prompts_cut,
    }


def _steps(result: Result, command: str, data: Sequence[str]) -> list[Step]:
    length = result.telling
    if length is None:
        return []
    split = Text("prep.simulate.next.segment", tokens=length)
    shards = followup.bucket_segments(followup.SEGMENTS, command, length)
    return [
        Step(text=split, command=followup.segment(data, command, length)),
        Step(text=Text("prep.next.bucket"), command=shards),
    ]


def _facts(result: Result) -> list[Fact]:
    trainable = show_number(result.targets, "compact")
    share = Text("prep.note.trained", share=result.targets / result.tokens)
    return [
        fact("conversations", result.rows),
        tokens_fact(result.tokens),
        fact("trainable", trainable, share),
        fact("answers", result.turns),
    ]


def _chart(result: Result) -> Chart:
    caption = Text("prep.simulate.caption.chart")
    labels = [_line_name(name) for name in DRAWN]
    shares = [[result.share(outcome) for outcome in result.at(name)] for name in DRAWN]
    if len(result.lengths) == 1:
        series = Series(caption, [share for (share,) in shares])
        return bars(labels, [series], caption=caption, spec=PERCENT)
    return cumulative(
        result.lengths,
        [Series(label, share) for label, share in zip(labels, shares, strict=True)],
        caption=caption,
        x_label=Text("prep.lengths.axis.limit"),
        y_label=Text("prep.lengths.axis.kept"),
    )


def _share_table(result: Result) -> Table:
    lengths = [
        Column(label=Text("prep.simulate.column.length", tokens=n), numeric=True, spec=PERCENT)
        for n in result.lengths
    ]
    return Table(
        columns=[Column(label=Text("prep.simulate.column.rule")), *lengths],
        rows=[[_name(name), *map(result.share, result.at(name))] for name in NAMES],
        caption=Text("prep.simulate.caption.shares"),
        highlight=0,
    )


def _refused(result: Result) -> list[Block]:
    """What a rule loses at any length."""
    rows = result.at("llamafactory")[-1].rows_dropped
    return [Paragraph(Text("prep.simulate.refused", rows=rows))] if rows else []


def _count_tables(result: Result) -> list[Block]:
    """A table for each length in which some row does not fit, at least for the first."""
    long = [
        length
        for length, cut in zip(result.lengths, result.at("axolotl"), strict=True)
        if cut.rows_dropped
    ]
    return [_count_table(result, length) for length in long or result.lengths[:1]]


def _count_table(result: Result, length: int) -> Table:
    counts = [Column(label=Text(f"prep.simulate.column.{name}"), numeric=True) for name in COUNTS]
    computed = Column(label=Text("prep.simulate.column.computed"), numeric=True, spec=PERCENT)
    rows: list[list[Value]] = [
        [
            _name(outcome.policy),
            *(getattr(outcome, name) for name in COUNTS),
            _computed(result, outcome),
        ]
        for outcome in _at_length(result, length)
    ]
    return Table(
        columns=[Column(label=Text("prep.simulate.column.rule")), *counts, computed],
        rows=rows,
        caption=Text("prep.simulate.caption.counts", tokens=length),
        highlight=0,
    )


def _at_length(result: Result, length: int) -> list[Outcome]:
    found = {o.policy: o for o in result.outcomes if o.max_length == length}
    return [found[name] for name in NAMES]


def _name(policy: str) -> Text | Literal:
    return named(policy, "prep.simulate.policy")


def _line_name(policy: str) -> Text | Literal:
    """What a line stands for: one rule, or all that do the same."""
    shared = policy in ("trl", "swift_left", "axolotl")
    return Text(f"prep.simulate.line.{policy}") if shared else _name(policy)


def _computed(result: Result, outcome: Outcome) -> float:
    """Tokens that are computed, as a share of those of the data."""
    return outcome.tokens / max(1, result.tokens)


def _lines(result: Result) -> list[tuple[str, str]]:
    lines = [
        (
            "data",
            f"{number(result.rows)} rows, {number(result.tokens)} tokens, "
            f"{number(result.targets)} of them trainable in {number(result.turns)} answers",
        )
    ]
    length = result.telling
    if length is None:
        return [
            *lines,
            ("conclusion", f"a cut at {number(result.lengths[0])} loses hardly a token"),
        ]
    at = {outcome.policy: outcome for outcome in _at_length(result, length)}
    share = {name: number(result.share(outcome), PERCENT) for name, outcome in at.items()}
    return [
        *lines,
        (
            "conclusion",
            f"at {number(length)} tokens, keeping the start trains {share['trl']} of what can be "
            f"trained, LLaMA-Factory {share['llamafactory']}, dropping {share['axolotl']}; "
            f"glmprep segment {share[OURS]}, computing "
            f"{number(_computed(result, at[OURS]), PERCENT)} of the data's tokens, "
            f"with {number(at[OURS].prompts_cut)} prompts shortened",
        ),
    ]

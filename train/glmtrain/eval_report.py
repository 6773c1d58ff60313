"""The page of an evaluation: what stands out, forgetting first, then loss, answers and identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.charts import Series, bars
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

from glmtrain.answers import Answer
from glmtrain.evaluate import GROUPS, Mean
from glmtrain.evaluation import Answers, Evaluation, Loss
from glmtrain.forgetting import Divergence
from glmtrain.probes import Probed, Reply

EXAMPLES = 12
EXCERPT = 160
"""Characters of a generated text that a table shows."""


def page(result: Evaluation, command: str) -> Page:
    """The report of an evaluation."""
    sections = []
    if result.divergence is not None:
        sections.append(_forgetting(result.divergence))
    if result.loss is not None:
        sections.append(_loss(result.loss))
    if result.answers is not None:
        sections += [_likeness(result.answers), _endings(result.answers)]
    sections += [_identity(result.probed), _settings(result)]
    inputs = [*result.settings["shards"], *result.settings["paths"]]
    return Page(
        kind="glmtrain eval",
        title=Text("eval.title"),
        subject=str(result.settings["adapter"] or result.settings["model"]),
        verdict=_verdict(result),
        steps=_next(result),
        facts=_facts(result),
        sections=sections,
        findings=finding_views(result.findings()),
        provenance=provenance(command, inputs),
    )


def _verdict(result: Evaluation) -> Verdict:
    findings = result.findings()
    detail = Text("eval.detail.answers")
    if result.loss is not None:
        whole = result.loss.sums.all
        detail = Text(
            "eval.detail.loss", loss=whole.value, perplexity=whole.perplexity, tokens=whole.tokens
        )
    return Verdict(
        level=verdict_level(findings),
        headline=Text(f"eval.verdict.{'findings' if findings else 'clean'}", count=len(findings)),
        detail=detail,
    )


def _next(result: Evaluation) -> list[Step]:
    steps = []
    if result.answers is None:
        steps.append(Step(text=Text("eval.next.data")))
    if result.divergence is None:
        steps.append(Step(text=Text("eval.next.base")))
    return [*steps, Step(text=Text("eval.next.read"))]


def _facts(result: Evaluation) -> list[Fact]:
    facts = []
    if result.loss is not None:
        whole, gap = result.loss.sums.all, result.loss.sums.gap
        shown = Text("eval.number", value=whole.perplexity)
        facts.append(_fact("perplexity", shown, loss=whole.value, error=whole.error))
        if gap is not None:
            facts.append(_fact("gap", Text("eval.signed", value=gap[0]), error=gap[1]))
    if result.divergence is not None:
        moved = result.divergence.all
        facts.append(_fact("kl", Text("eval.number", value=moved.value), error=moved.error))
    if result.answers is not None:
        endings, calls = result.answers.endings, result.answers.calls
        facts += [
            _fact("endless", _share(endings.endless, endings.fitting), count=endings.fitting),
            _fact("loops", _share(endings.loops, endings.answers), count=endings.answers),
        ]
        if wanted := sum(each.wanted for each in calls):
            exact = sum(each.exact for each in calls)
            facts.append(_fact("calls", _share(exact, wanted), count=wanted))
    return facts


def _fact(name: str, value: Value, **note: float) -> Fact:
    return Fact(
        label=Text(f"eval.fact.{name}"), value=value, note=Text(f"eval.note.{name}", **note)
    )


def _share(part: int, whole: int) -> Text:
    return Text("eval.share", share=part / whole) if whole else Text("eval.nothing")


def _forgetting(moved: Divergence) -> Section:
    rows: list[list[Value]] = [[Text("eval.group.all"), *_spread(moved.all)]]
    if len(moved.by_language) > 1:
        named = moved.by_language.items()
        rows += [[Text(f"eval.language.{name}"), *_spread(each)] for name, each in named]
    columns = [
        Column(label=Text("eval.column.language")),
        *_numbers("texts", "tokens"),
        *_numbers("kl", "error", spec=".4f"),
    ]
    return Section(
        title=Text("eval.section.forgetting"),
        intro=Text("eval.intro.forgetting"),
        blocks=[
            Paragraph(Text("eval.guide.forgetting")),
            Table(columns=columns, rows=rows, caption=Text("eval.caption.forgetting")),
            Paragraph(Text("eval.guide.same", share=moved.same)),
        ],
    )


def _loss(loss: Loss) -> Section:
    charts: list[Block] = [_bars(loss, by) for by in ("length", "turn")]
    rows: list[list[Value]] = [
        [_group(loss, by, name), *_spread(each), each.perplexity]
        for by in GROUPS
        for name, each in loss.sums.means(by).items()
    ]
    columns = [
        Column(label=Text("eval.column.group")),
        *_numbers("rows", "tokens"),
        *_numbers("loss", "error", spec=".3f"),
        *_numbers("perplexity"),
    ]
    table = Table(columns=columns, rows=rows, caption=Text("eval.caption.loss"), highlight=0)
    return Section(
        title=Text("eval.section.loss"), intro=Text("eval.intro.loss"), blocks=[*charts, table]
    )


def _bars(loss: Loss, by: str) -> Chart:
    means = loss.sums.means(by)
    series = Series(Text("eval.column.loss"), [each.value for each in means.values()])
    labels = [_group(loss, by, name) for name in means]
    return bars(labels, [series], caption=Text(f"eval.caption.{by}"), spec=".3f")


def _group(loss: Loss, by: str, name: str) -> Text:
    if by == "place":
        return Text("eval.group.place", place=Literal(name.replace("-", "–")))
    short, medium = loss.edges
    return Text(f"eval.group.{name}", short=short, medium=medium)


def _spread(each: Mean) -> list[Value]:
    return [each.rows, each.tokens, each.value, each.error]


def _likeness(made: Answers) -> Section:
    blocks: list[Block] = []
    if made.scores:
        numbers = [*_numbers("answers"), *_numbers("rouge", "bleu", "chrf", spec=".1f")]
        scores = {s.language: [s.answers, s.rouge_l, s.bleu, s.chrf] for s in made.scores}
        blocks.append(_by_language("scores", numbers, scores))
    if made.calls:
        names = ("wanted", "called", "named", "exact", "texts", "needless")
        calls = {each.language: [getattr(each, name) for name in names] for each in made.calls}
        blocks.append(_by_language("calls", _numbers(*names), calls))
    blocks.append(_examples(made.answers))
    intro = Text("eval.intro.answers", count=len(made.answers), left_out=made.left_out)
    return Section(title=Text("eval.section.answers"), intro=intro, blocks=blocks)


def _by_language(
    caption: str, numbers: Sequence[Column], values: Mapping[str, Sequence[Value]]
) -> Table:
    return Table(
        columns=[Column(label=Text("eval.column.language")), *numbers],
        rows=[[Text(f"eval.language.{name}"), *row] for name, row in values.items()],
        caption=Text(f"eval.caption.{caption}"),
    )


def _examples(answers: Sequence[Answer]) -> Table:
    """Those that went wrong first."""
    worst = sorted(
        answers, key=lambda a: (a.calls == a.wanted, a.ending.stopped, not a.ending.loops)
    )
    columns = [
        Column(label=Text(f"eval.column.{c}")) for c in ("where", "said", "wanted_text", "ended")
    ]
    rows: list[list[Value]] = [
        [
            Literal(answer.task.where),
            Literal(_excerpt(answer.text)),
            Literal(_excerpt(answer.reference)),
            Text(f"eval.ended.{_ended(answer)}"),
        ]
        for answer in worst[:EXAMPLES]
    ]
    return Table(columns=columns, rows=rows, caption=Text("eval.caption.examples"))


def _ended(answer: Answer) -> str:
    if answer.ending.loops:
        return "loop"
    return "stop" if answer.ending.stopped else "length"


def _endings(made: Answers) -> Section:
    endings = made.endings
    rows: list[list[Value]] = [
        [Text("eval.ending.endless", most=made.most), endings.endless, endings.fitting],
        [Text("eval.ending.loops"), endings.loops, endings.answers],
        [Text("eval.ending.reference_loops"), endings.reference_loops, endings.answers],
    ]
    columns = [Column(label=Text("eval.column.ending")), *_numbers("count", "of")]
    said, wanted = endings.median_tokens, endings.median_wanted
    return Section(
        title=Text("eval.section.endings"),
        intro=Text("eval.intro.endings"),
        blocks=[
            Table(columns=columns, rows=rows, caption=Text("eval.caption.endings")),
            Paragraph(Text("eval.guide.lengths", said=said, wanted=wanted)),
        ],
    )


def _identity(probed: Sequence[Probed]) -> Section:
    names = ["question", "base_says", "model_says", "changed"]
    columns = [Column(label=Text(f"eval.column.{name}")) for name in names]
    columns += _numbers("expected_before", "expected_after", spec=".2f")
    rows: list[list[Value | None]] = [
        [
            Literal(_excerpt(each.probe.question)),
            _reply(each.base),
            _reply(each.reply),
            None if each.changed is None else Text(f"eval.changed.{each.changed}"),
            None if each.base is None else each.base.expected_loss,
            each.reply.expected_loss,
        ]
        for each in probed
    ]
    if all(each.probe.expected is None for each in probed):
        columns, rows = columns[:-2], [row[:-2] for row in rows]
    table = Table(columns=columns, rows=rows, caption=Text("eval.caption.identity"))
    return Section(
        title=Text("eval.section.identity"), intro=Text("eval.intro.identity"), blocks=[table]
    )


def _reply(reply: Reply | None) -> Text | None:
    if reply is None:
        return None
    ended = "stopped" if reply.stopped else "endless"
    return Text(f"eval.reply.{ended}", text=Literal(_excerpt(reply.text)))


def _settings(result: Evaluation) -> Section:
    columns = [Column(label=Text(f"eval.column.{name}")) for name in ("setting", "value")]
    rows: list[list[Value]] = [
        [Literal(name), Literal(_said(value))]
        for name, value in result.settings.items()
        if value is not None and not isinstance(value, dict)
    ]
    rows += [[Text("eval.remark"), Literal(remark)] for remark in result.remarks]
    return Section(title=Text("eval.section.settings"), blocks=[Table(columns=columns, rows=rows)])


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def _numbers(*names: str, spec: str = "") -> list[Column]:
    return [Column(label=Text(f"eval.column.{name}"), numeric=True, spec=spec) for name in names]

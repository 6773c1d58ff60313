"""The page of a verification: the verdict, losses before and after, and what the model writes."""

from __future__ import annotations

from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.page import (
    Block,
    Column,
    Fact,
    Level,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    Value,
    Verdict,
)
from glmreport.text import Literal, Text

from glmtrain.verification import Verification

EXCERPT = 240
"""Characters of a text that a table shows; of a prompt they are the last ones."""


def page(result: Verification, command: str) -> Page:
    """The report of a verification."""
    return Page(
        kind="glmtrain verify",
        title=Text("verify.title"),
        subject=str(result.folder),
        verdict=_verdict(result),
        steps=_next(result),
        facts=_facts(result),
        sections=[_losses(result), _written(result), _settings(result)],
        findings=finding_views(result.findings()),
        provenance=provenance(command, [str(result.folder), *result.shards]),
    )


def _verdict(result: Verification) -> Verdict:
    levels: dict[str, Level] = {"learned": "good", "worse": "bad"}
    by_findings = verdict_level(result.findings())
    level = max(levels.get(result.verdict, "warn"), by_findings, key=("good", "warn", "bad").index)
    learned, held = result.learned, result.held_out
    numbers = {"before": learned.before.loss, "after": learned.after.loss}
    detail = Text("verify.detail.trained", answers=learned.answers, **numbers)
    if held is not None:
        others = {"held": held.rise.rows, "held_before": held.before, "held_after": held.after}
        detail = Text("verify.detail.both", answers=learned.answers, **numbers, **others)
    return Verdict(level=level, headline=Text(f"verify.verdict.{result.verdict}"), detail=detail)


def _next(result: Verification) -> list[Step]:
    steps = []
    if result.held_out is None:
        steps.append(Step(text=Text("verify.next.validation")))
    if result.verdict == "learned":
        command = f"glmtrain eval --adapter {result.folder} --data HELD_OUT.jsonl"
        return [*steps, Step(text=Text("verify.next.eval"), command=command)]
    if result.verdict == "memorised":
        return [*steps, Step(text=Text("verify.next.fewer"))]
    labels = Step(text=Text("verify.next.labels"), command=f"glmdiag labels {result.shards[0]}")
    return [Step(text=Text("verify.next.rate")), labels, *steps]


def _facts(result: Verification) -> list[Fact]:
    learned, held = result.learned, result.held_out
    before, after = learned.before, learned.after
    facts = [
        _fact(
            "trained",
            _both(before.loss, after.loss),
            answers=learned.answers,
            tokens=learned.tokens,
        ),
        _fact("shuffled", _both(before.shuffled, after.shuffled)),
    ]
    if held is not None:
        rise = {"answers": held.rise.rows, "rise": held.rise.value, "error": held.rise.error}
        facts.append(_fact("held_out", _both(held.before, held.after), **rise))
    if before.stop is not None and after.stop is not None:
        once = Text("verify.share", share=before.stop)
        facts.append(_fact("stop", Text("verify.share", share=after.stop), before=once))
    share = Text("verify.share", share=learned.exact or 0.0)
    return [*facts, _fact("exact", share, count=len(result.written))]


def _fact(name: str, value: Value, **note: float | Text) -> Fact:
    return Fact(
        label=Text(f"verify.fact.{name}"), value=value, note=Text(f"verify.note.{name}", **note)
    )


def _both(before: float, after: float) -> Literal:
    return Literal(f"{before:.2f} → {after:.2f}")


def _losses(result: Verification) -> Section:
    before, after, held = result.learned.before, result.learned.after, result.held_out
    answers = result.learned.answers
    rows: list[list[Value]] = [
        _row("trained", answers, before.loss, after.loss),
        _row("shuffled", answers, before.shuffled, after.shuffled),
    ]
    if held is not None:
        rows.append(_row("held_out", held.rise.rows, held.before, held.after))
    numbers = [
        Column(label=Text(f"verify.column.{name}"), numeric=True, spec=spec)
        for name, spec in (("answers", ""), ("before", ".3f"), ("after", ".3f"), ("change", "+.3f"))
    ]
    table = Table(
        columns=[Column(label=Text("verify.column.what")), *numbers],
        rows=rows,
        caption=Text("verify.caption.losses"),
        highlight=0,
    )
    return Section(
        title=Text("verify.section.losses"), intro=Text("verify.intro.losses"), blocks=[table]
    )


def _row(name: str, answers: int, before: float, after: float) -> list[Value]:
    return [Text(f"verify.row.{name}"), answers, before, after, after - before]


def _written(result: Verification) -> Section:
    names = ("prompt", "answer", "made", "same")
    rows: list[list[Value]] = [
        [
            Literal(excerpt(each.prompt, end=True)),
            Literal(excerpt(each.answer)),
            Literal(excerpt(each.made)),
            Text("verify.again", same=each.same, tokens=each.tokens),
        ]
        for each in result.written
    ]
    table = Table(
        columns=[Column(label=Text(f"verify.column.{name}")) for name in names],
        rows=rows,
        caption=Text("verify.caption.written"),
    )
    return Section(
        title=Text("verify.section.written"), intro=Text("verify.intro.written"), blocks=[table]
    )


def excerpt(text: str, *, end: bool = False, limit: int = EXCERPT) -> str:
    """A text in one line, and its beginning or its end where it is long."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    return f"…{line[1 - limit :]}" if end else f"{line[: limit - 1]}…"


def _settings(result: Verification) -> Section:
    values = {
        "run": str(result.folder),
        "method": result.method,
        "shards": ", ".join(result.shards),
        "validation": result.validation,
    }
    table = Table(
        columns=[Column(label=Text(f"verify.column.{name}")) for name in ("what", "value")],
        rows=[
            [Text(f"verify.setting.{name}"), Literal(value)]
            for name, value in values.items()
            if value is not None
        ],
    )
    notes: list[Block] = [Paragraph(remark) for remark in result.remarks]
    return Section(title=Text("verify.section.settings"), blocks=[table, *notes])

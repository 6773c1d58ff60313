"""The page of a run: did it learn, what next, the curves, and every setting it ran with."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.charts import Line, Marker, lines
from glmreport.page import (
    Block,
    Chart,
    Code,
    Column,
    Fact,
    Level,
    Page,
    Section,
    Step,
    Table,
    Value,
    Verdict,
)
from glmreport.text import Literal, Text

from glmtrain import footprint, metrics, sources
from glmtrain.config import as_dict
from glmtrain.model import TINY
from glmtrain.run import RunResult

MOST_MARKERS = 6
LOAD_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, {folder!r})"""
LOAD_ADAPTER_ON_TINY = """from glmtrain.model import tiny
from peft import PeftModel

model = PeftModel.from_pretrained(tiny(), {folder!r})"""
LOAD_MODEL = """from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({folder!r})"""


def page(result: RunResult, command: str) -> Page:
    """The report of a run that ended or was stopped."""
    steps = metrics.read(result.output)
    return Page(
        kind="glmtrain run",
        title=Text("train.title"),
        subject=str(result.output),
        verdict=_verdict(result),
        steps=_next(result),
        facts=_facts(result, steps),
        sections=[
            _loss_section(steps),
            _course_section(steps),
            _speed_section(steps),
            _memory_section(steps),
            *([] if result.learned is None else [_use_section(result)]),
            _settings_section(result),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, _shards(result)),
    )


def _verdict(result: RunResult) -> Verdict:
    if result.stopped_by is not None or result.learned is None:
        return Verdict(
            level="warn",
            headline=Text("train.verdict.stopped", step=result.last_step, steps=result.plan.steps),
            detail=Text("train.detail.stopped", signal=result.stopped_by or ""),
        )
    learned = result.learned
    levels: dict[str, Level] = {"learned": "good", "unchanged": "warn", "worse": "bad"}
    by_findings = verdict_level(result.findings)
    level = max(levels[learned.verdict], by_findings, key=("good", "warn", "bad").index)
    return Verdict(
        level=level,
        headline=Text(f"train.verdict.{learned.verdict}"),
        detail=Text(
            "train.detail.finished",
            before=learned.before.loss,
            after=learned.after.loss,
            answers=learned.answers,
            tokens=learned.tokens,
            steps=result.last_step,
        ),
    )


def _next(result: RunResult) -> list[Step]:
    folder = result.output
    if result.stopped_by is not None:
        command = f"glmtrain run --output {folder} --resume"
        return [Step(text=Text("train.next.resume"), command=command)]
    log = Step(text=Text("train.next.log"), command=f"glmdiag log {folder / metrics.METRICS}")
    if result.learned is not None and result.learned.verdict == "learned":
        return [Step(text=Text("train.next.load")), log]
    command = shlex.join(["glmdiag", "labels", *_shards(result)])
    labels = Step(text=Text("train.next.labels"), command=command)
    return [Step(text=Text("train.next.rate")), labels, log]


def _shards(result: RunResult) -> list[str]:
    """The folders that were trained on, without their weights."""
    return [str(source.folder) for source in sources.parse(result.plan.config.data.shards)]


def _facts(result: RunResult, steps: Sequence[dict[str, Any]]) -> list[Fact]:
    tokens = sum(step["tokens"] for step in steps)
    supervised = sum(step["supervised_tokens"] for step in steps)
    computed = sum(step["tokens"] / (1 - step["padding"]) for step in steps)
    facts = [
        _fact("steps", result.last_step, epochs=result.last_step / result.plan.steps_per_epoch),
        _fact("supervised", supervised, tokens=tokens),
        _fact("speed", median(s["supervised_tokens_per_second"] for s in steps)),
        _fact("padding", Text("train.share", share=1 - tokens / computed)),
        _fact("memory", Text("train.bytes", size=max(step["peak_memory"] for step in steps))),
    ]
    if any(utilised := [step["mfu"] for step in steps if step.get("mfu")]):
        facts.append(_fact("mfu", Text("train.share", share=median(utilised))))
    return [*_learned_facts(result), *facts]


def _learned_facts(result: RunResult) -> list[Fact]:
    learned = result.learned
    if learned is None:
        return []
    shown = f"{learned.before.loss:.2f} → {learned.after.loss:.2f}"
    facts = [_fact("loss", Literal(shown), answers=learned.answers)]
    shuffled = f"{learned.before.shuffled:.2f} → {learned.after.shuffled:.2f}"
    facts.append(_fact("shuffled", Literal(shuffled)))
    if learned.after.stop is not None and learned.before.stop is not None:
        before = f"{learned.before.stop:.0%}"
        stop = Text("train.share", share=learned.after.stop)
        facts.append(_fact("stop", stop, before=before))
    if learned.exact is not None:
        facts.append(_fact("exact", Text("train.share", share=learned.exact)))
    return facts


def _fact(name: str, value: Value, **note: float | str) -> Fact:
    return Fact(
        label=Text(f"train.fact.{name}"), value=value, note=Text(f"train.note.{name}", **note)
    )


def _loss_section(steps: Sequence[dict[str, Any]]) -> Section:
    events = [step for step in steps if step["event"] or step["findings"]]
    markers = [
        Marker(
            at=step["step"], label=_event_label(step), level="bad" if step["findings"] else "note"
        )
        for step in events[:MOST_MARKERS]
    ]
    blocks: list[Block] = [_loss_chart(steps, markers)]
    if events:
        blocks.append(_event_table(events))
    return Section(title=Text("train.section.loss"), intro=Text("train.intro.loss"), blocks=blocks)


def _loss_chart(steps: Sequence[dict[str, Any]], markers: Sequence[Marker]) -> Chart:
    """The loss of each step, and that on held-out rows where it was measured."""
    measured = [step for step in steps if step.get("eval_loss") is not None]
    shown = [("loss", steps), *([("eval_loss", measured)] if measured else [])]
    return lines(
        [
            Line(
                Text(f"train.line.{name}"),
                [step["step"] for step in part],
                [_number(step[name]) for step in part],
                smooth=name == "loss",
            )
            for name, part in shown
        ],
        caption=Text("train.caption.loss"),
        x_label=Text("train.axis.step"),
        y_label=Text("train.axis.loss"),
        from_zero=False,  # it falls by a fraction of itself
        markers=markers,
    )


def _event_label(step: dict[str, Any]) -> Text | Literal:
    if step["findings"]:
        return Literal(step["findings"][0]["rule"])
    return Text(f"train.event.{step['event']}")


def _event_table(events: Sequence[dict[str, Any]]) -> Table:
    return Table(
        columns=[
            Column(label=Text("train.column.step"), numeric=True),
            Column(label=Text("train.column.event")),
            Column(label=Text("train.column.rows")),
        ],
        rows=[
            [step["step"], _event_label(step), ", ".join(map(str, step["rows"][:12]))]
            for step in events
        ],
        caption=Text("train.caption.events"),
    )


def _course_section(steps: Sequence[dict[str, Any]]) -> Section:
    rate = _chart("rate", steps, lambda step: step["learning_rate"], spec=".1e")
    norm = _chart("norm", steps, lambda step: step["grad_norm"], smooth=True)
    return Section(
        title=Text("train.section.course"), intro=Text("train.intro.course"), blocks=[rate, norm]
    )


def _speed_section(steps: Sequence[dict[str, Any]]) -> Section:
    x = [step["step"] for step in steps]
    names = ("tokens_per_second", "supervised_tokens_per_second")
    chart = lines(
        [Line(Text(f"train.line.{n}"), x, [step[n] for step in steps], smooth=True) for n in names],
        caption=Text("train.caption.speed"),
        x_label=Text("train.axis.step"),
        y_label=Text("train.axis.speed"),
    )
    return Section(
        title=Text("train.section.speed"), intro=Text("train.intro.speed"), blocks=[chart]
    )


def _memory_section(steps: Sequence[dict[str, Any]]) -> Section:
    counts = Counter(step["bucket"] for step in steps)
    table = Table(
        columns=[
            Column(label=Text("train.column.bucket"), numeric=True),
            Column(label=Text("train.column.steps"), numeric=True),
            Column(label=Text("train.column.peak"), numeric=True),
        ],
        rows=[
            [bucket, counts[bucket], Text("train.bytes", size=peak)]
            for bucket, peak in sorted(footprint.by_bucket(steps).items())
        ],
        caption=Text("train.caption.buckets"),
    )
    chart = _chart("peak_memory", steps, lambda step: step["peak_memory"])
    return Section(
        title=Text("train.section.memory"),
        intro=Text("train.intro.memory"),
        blocks=[chart, table],
    )


def _use_section(result: RunResult) -> Section:
    base, folder = result.plan.config.model.path, str(Path(result.output))
    if result.plan.config.model.method == "full":
        code = LOAD_MODEL.format(folder=folder)
    else:
        template = LOAD_ADAPTER_ON_TINY if base == TINY else LOAD_ADAPTER
        code = template.format(base=base, folder=folder)
    return Section(title=Text("train.section.use"), blocks=[Code(code)])


def _settings_section(result: RunResult) -> Section:
    decisions = Table(
        columns=[Column(label=Text(f"train.column.{c}")) for c in ("setting", "value", "reason")],
        rows=[[Literal(d.setting), Literal(d.value), d.reason] for d in result.plan.decisions],
        caption=Text("train.caption.decisions"),
    )
    settings = Table(
        columns=[
            Column(label=Text("train.column.setting")),
            Column(label=Text("train.column.value")),
        ],
        rows=[
            [Literal(f"{section}.{name}"), Literal(_shown(value))]
            for section, values in as_dict(result.plan.config).items()
            for name, value in values.items()
            if value is not None
        ],
        caption=Text("train.caption.settings"),
    )
    return Section(
        title=Text("train.section.settings"),
        intro=Text("train.intro.settings"),
        blocks=[decisions, settings],
    )


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _chart(
    name: str,
    steps: Sequence[dict[str, Any]],
    value: Callable[[dict[str, Any]], float | None],
    *,
    smooth: bool = False,
    spec: str = "compact",
) -> Chart:
    y = [_number(value(step)) for step in steps]
    return lines(
        [Line(Text(f"train.line.{name}"), [step["step"] for step in steps], y, smooth=smooth)],
        caption=Text(f"train.caption.{name}"),
        x_label=Text("train.axis.step"),
        y_label=Text(f"train.axis.{name}"),
        from_zero=True,
        y_spec=spec,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value

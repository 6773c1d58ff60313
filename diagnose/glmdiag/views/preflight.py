"""A trial before a run as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from glmprep.console import printable
from glmprep.findings import RULES, Finding
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.page import Fact, Page, Section, Step, Table, Value, Verdict
from glmreport.text import Catalogue, Literal, RuleTitle, Text

from glmdiag.preflight.effects import Effect
from glmdiag.preflight.whole import Preflight
from glmdiag.views.formats import column, format_line, formats_section, layers_sections, number

if TYPE_CHECKING:
    from rich.console import Console


def page(
    found: Preflight, findings: Sequence[Finding], shards: Sequence[str], command: str
) -> Page:
    """The whole report on a trial."""
    return Page(
        kind="glmdiag preflight",
        title=Text("diag.preflight.title"),
        subject=found.model,
        verdict=_verdict(found, findings),
        steps=_steps(found, findings, shards),
        facts=_facts(found),
        sections=[
            formats_section(found.formats),
            *layers_sections(found.formats),
            *_invariances(found),
            *_effects(found),
            *_longest(found),
        ],
        findings=finding_views(findings),
        provenance=provenance(command, [found.model, *shards]),
    )


def summary(found: Preflight, console: Console) -> None:
    """A line a format with its worst layers, a line a comparison, a line a setting."""
    for tried in found.formats.tried:
        console.print(format_line(found.formats, tried), soft_wrap=True)
    if (room := found.formats.headroom) is not None:
        console.print(
            f"fp16 loss scale: {room.least:.3g} to {room.most:.3g} would do; a run begins with "
            f"{room.scale:g}, where {room.lost:.2%} of the gradients vanish",
            soft_wrap=True,
        )
    console.print(
        f"take {found.formats.advised} (the device: {printable(found.formats.hardware.reason)})",
        soft_wrap=True,
    )
    if found.invariances is not None:
        for each in found.invariances.found:
            told = f"{each.worst:.1e} (allowed {each.allowed:.1e})"
            state = "same" if each.holds else "DIFFERENT"
            console.print(
                f"{each.name:<14} {printable(each.problem) if each.problem else f'{state}  {told}'}"
            )
    english = Catalogue.load("en")
    for effect in found.effects:
        state = "seen" if effect.took else "NOT SEEN"
        console.print(f"{effect.name:<14} {state}  {printable(english.say(_seen(effect)))}")
    if (longest := found.longest) is not None:
        seconds = "does not fit" if longest.seconds is None else f"{longest.seconds:.2f} s"
        console.print(
            f"largest batch  {longest.rows} x {longest.length} tokens: {seconds}, "
            f"expected {longest.expected:.2f} s"
        )
        if longest.memory is not None:
            console.print(f"memory         {longest.memory}", soft_wrap=True)


def _verdict(found: Preflight, findings: Sequence[Finding]) -> Verdict:
    level = verdict_level(findings)
    headline: Text | RuleTitle = Text("diag.preflight.headline.good")
    if level != "good":
        worst = min(findings, key=lambda finding: finding.severity.rank)
        headline = RuleTitle(worst.rule, RULES[worst.rule].title.rstrip("."))
    return Verdict(
        level=level,
        headline=headline,
        detail=Text(
            f"diag.preflight.detail.{level}",
            advised=found.formats.advised,
            segments=found.segments,
            labels=found.labels,
        ),
    )


def _steps(found: Preflight, findings: Sequence[Finding], shards: Sequence[str]) -> list[Step]:
    given = " ".join(f"--shards {quote(folder)}" for folder in shards) or "--shards SHARDS"
    model, dtype = quote(found.model), found.formats.advised
    if verdict_level(findings) == "bad":
        worst = min(findings, key=lambda finding: finding.severity.rank).rule
        again = f"glmdiag preflight --model {model} {given}"
        return [
            Step(text=Text("diag.preflight.step.explain"), command=f"glmdiag explain {worst}"),
            Step(text=Text("diag.preflight.step.again"), command=again),
        ]
    train = f"glmtrain run --model {model} {given} --dtype {dtype} --output RUN"
    return [Step(text=Text("diag.preflight.step.train"), command=train)]


def _facts(found: Preflight) -> list[Fact]:
    values: dict[str, Value] = {
        "chosen": found.formats.chosen,
        "advised": found.formats.advised,
        "device": found.device,
        "model": found.architecture,
    }
    if found.invariances is not None:
        compared = [each for each in found.invariances.found if each.problem is None]
        values["same"] = f"{sum(each.holds for each in compared)}/{len(compared)}"
    if found.effects:
        took = sum(effect.took for effect in found.effects)
        values["effects"] = f"{took}/{len(found.effects)}"
    return [Fact(label=Text(f"diag.preflight.fact.{name}"), value=v) for name, v in values.items()]


def _invariances(found: Preflight) -> list[Section]:
    """What must not matter, and by how much it does."""
    if found.invariances is None:
        return []
    specs = {"losses": ".1e", "gradients": ".1e", "allowed": ".1e"}
    rows: list[list[Value | None]] = []
    for each in found.invariances.found:
        state: Value = Text(f"diag.preflight.state.{'same' if each.holds else 'different'}")
        if each.problem is not None:
            state = Literal(each.problem)
        numbers = (each.losses, each.gradients, each.allowed)
        rows.append(
            [
                Text(f"diag.preflight.invariance.{each.name}"),
                state,
                *(None if value is None else number(value) for value in numbers),
            ]
        )
    table = Table(
        columns=[column(name, specs.get(name)) for name in ("compared", "state", *specs)],
        rows=rows,
    )
    intro = Text(
        "diag.preflight.invariances.intro",
        format=found.invariances.format,
        noise=found.invariances.noise,
    )
    return [Section(title=Text("diag.preflight.invariances.title"), intro=intro, blocks=[table])]


def _effects(found: Preflight) -> list[Section]:
    """What was asked for, and by what it was seen."""
    if not found.effects:
        return []
    rows: list[list[Value | None]] = [
        [
            Text(f"diag.preflight.effect.{effect.name}"),
            Literal(effect.asked) if effect.asked else Text("diag.preflight.always"),
            Text(f"diag.preflight.state.{'seen' if effect.took else 'unseen'}"),
            _seen(effect),
            Literal(", ".join(effect.missing)) if effect.missing else None,
        ]
        for effect in found.effects
    ]
    names = ("setting", "asked", "state", "seen", "missing")
    table = Table(columns=[column(name, None) for name in names], rows=rows)
    title, intro = Text("diag.preflight.effects.title"), Text("diag.preflight.effects.intro")
    return [Section(title=title, intro=intro, blocks=[table])]


def _seen(effect: Effect) -> Text:
    return Text(
        f"diag.preflight.seen.{effect.name}", seen=effect.seen, of=effect.of, how=effect.how
    )


def _longest(found: Preflight) -> list[Section]:
    """The largest batch: time and memory, predicted and measured."""
    if (longest := found.longest) is None:
        return []
    memory = longest.memory
    predicted = None if memory is None or memory.predicted is None else memory.predicted.peak
    measured = None if memory is None else memory.measured
    rows: list[list[Value | None]] = [
        [
            Text("diag.preflight.longest.seconds"),
            *map(_seconds, (longest.expected, longest.seconds)),
        ],
        [Text("diag.preflight.longest.memory"), *map(_bytes, (predicted, measured))],
    ]
    table = Table(columns=[column(n, None) for n in ("what", "predicted", "measured")], rows=rows)
    intro = Text("diag.preflight.longest.intro", rows=longest.rows, length=longest.length)
    return [Section(title=Text("diag.preflight.longest.title"), intro=intro, blocks=[table])]


def _seconds(value: float | None) -> Value | None:
    return None if value is None else Text("diag.preflight.duration", seconds=value)


def _bytes(value: int | None) -> Value | None:
    return None if value is None else Text("diag.bytes", size=value)

"""What `glmprep sample` says: how the sample was drawn, and whether it looks like the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from glmreport.numbers import show_number
from glmreport.page import Column, Fact, Page, Paragraph, Section, Step, Table, Value, Verdict
from glmreport.text import Catalogue, Message, Text
from rich.text import Text as Line

from glmprep.languages import LANGUAGES
from glmprep.pages import finding_views, provenance
from glmprep.sample import Result, Stratum
from glmprep.stream import rejects_path
from glmprep.views import followup
from glmprep.views.head import fact, level_of_output, subject
from glmprep.views.terminal import Summary, aligned, columns, counted, number, printing


def summary(result: Result, target: Path) -> Summary:
    """The strata: how many there are, how many were drawn; and the extremes."""
    return printing([*aligned(_lines(result, target)), Line(), *_table(result)], result.findings)


def page(result: Result, target: Path, command: str, data: Sequence[str]) -> Page:
    """The report of drawing `target` from `data`."""
    check = followup.line(
        "glmprep", "audit", target, *followup.repeated(command, followup.TOKENIZING)
    )
    return Page(
        kind="glmprep sample",
        title=Text("prep.sample.title"),
        subject=f"{subject(data)} → {target}",
        verdict=_verdict(result),
        steps=[
            *followup.mend(result.rejections),
            Step(text=Text("prep.sample.next.audit"), command=check),
        ],
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.sample.section.alike"),
                intro=Text("prep.sample.intro.alike"),
                blocks=[_alike(result), _extremes(result)],
            ),
            Section(
                title=Text("prep.sample.section.strata"),
                intro=Text("prep.sample.intro.strata", strata=len(result.strata)),
                blocks=[_strata(result), *_left_out(result, target)],
            ),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result) -> Verdict:
    kind = "all" if result.drawn == result.conversations else "few" if result.missing else "drawn"
    level = level_of_output(result.reject_share, result.findings)
    return Verdict(
        level="warn" if kind == "few" and level == "good" else level,
        headline=Text(
            f"prep.sample.verdict.{kind}",
            drawn=result.drawn,
            conversations=result.conversations,
            strata=len(result.strata),
            missing=result.missing,
        ),
        detail=Text("prep.sample.detail", wanted=result.wanted, rows=result.rows, seed=result.seed),
    )


def _facts(result: Result) -> list[Fact]:
    share = result.drawn / result.conversations
    return [
        fact("rows", result.rows),
        fact("conversations", result.conversations),
        fact("drawn", result.drawn, Text("prep.sample.note.share", share=share)),
        fact("strata", len(result.strata)),
        fact("rejected", len(result.rejections)),
    ]


def _alike(result: Result) -> Table:
    """The share of each length, each language, and of tools, in all and in the sample."""
    parts: list[tuple[str, Callable[[Stratum], int]]] = [
        ("length", lambda stratum: stratum.length),
        ("language", lambda stratum: stratum.language),
        ("tools", lambda stratum: stratum.tools),
    ]
    rows: list[list[Value]] = []
    for part, value in parts:
        there: Counter[int] = Counter()
        taken: Counter[int] = Counter()
        for stratum, (all_of_it, drawn) in result.strata.items():
            there[value(stratum)] += all_of_it
            taken[value(stratum)] += drawn
        rows += [
            [
                Text(f"prep.sample.part.{part}"),
                _name(part, key),
                there[key] / result.conversations,
                taken[key] / result.drawn,
            ]
            for key in sorted(there)
        ]
    return Table(
        columns=[
            Column(label=Text("prep.sample.column.part")),
            Column(label=Text("prep.sample.column.value")),
            Column(label=Text("prep.sample.column.of_all"), bar=True, spec="percent"),
            Column(label=Text("prep.sample.column.of_sample"), bar=True, spec="percent"),
        ],
        rows=rows,
        caption=Text("prep.sample.caption.alike"),
    )


def _extremes(result: Result) -> Table:
    rows: list[list[Value]] = [
        [Text(f"prep.sample.{name}"), extreme.where, extreme.row.size]
        for name, extreme in (("shortest", result.shortest), ("longest", result.longest))
    ]
    return Table(
        columns=[
            Column(label=Text("prep.sample.column.extreme")),
            Column(label=Text("prep.sample.column.where")),
            Column(label=Text("prep.sample.column.bytes"), numeric=True, spec="bytes"),
        ],
        rows=rows,
        caption=Text("prep.sample.caption.extremes"),
    )


def _strata(result: Result) -> Table:
    rows: list[list[Value]] = [
        [*_names(stratum), there, taken, taken / there]
        for stratum, (there, taken) in result.strata.items()
    ]
    return Table(
        columns=[
            *(Column(label=Text(f"prep.sample.part.{p}")) for p in ("length", "language", "tools")),
            Column(label=Text("prep.fact.conversations"), bar=True),
            Column(label=Text("prep.fact.drawn"), numeric=True),
            Column(label=Text("prep.sample.column.share"), numeric=True, spec="percent"),
        ],
        rows=rows,
        caption=Text("prep.sample.caption.strata"),
    )


def _left_out(result: Result, target: Path) -> list[Paragraph]:
    if not result.rejections:
        return []
    where = str(rejects_path(target))
    return [Paragraph(Text("prep.rejects", rows=len(result.rejections), file=where))]


def _names(stratum: Stratum) -> list[Message]:
    return [
        _name("length", stratum.length),
        _name("language", stratum.language),
        _name("tools", stratum.tools),
    ]


def _name(part: str, value: int) -> Message:
    if part == "language":
        return Text(f"prep.lengths.{LANGUAGES[value]}")
    if part == "tools":
        return Text("prep.lengths.tools" if value else "prep.lengths.no_tools")
    over, to = Stratum(value, 0, False).bounds
    return Text(f"prep.sample.length{'' if over else '_first'}", over=_size(over), to=_size(to))


def _size(size: int) -> str:
    return f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"


def _lines(result: Result, target: Path) -> list[tuple[str, str]]:
    drawn = counted(result.drawn, "conversation", "conversations")
    lines = [("wrote", f"{target}: {drawn} of {number(result.conversations)}")]
    if result.wanted > result.conversations:
        lines.append(("note", f"there are fewer than {number(result.wanted)}, so all were taken"))
    if result.missing:
        missing = f"{number(result.missing)} of {counted(len(result.strata), 'kind', 'kinds')}"
        lines.append(("note", f"none was drawn of {missing}: draw more rows"))
    for name, extreme in (("shortest", result.shortest), ("longest", result.longest)):
        lines.append((name, f"{extreme.where}, {show_number(extreme.row.size, 'bytes')}"))
    if result.rejections:
        rows = counted(len(result.rejections), "row", "rows")
        lines.append(("left out", f"{rows}, listed in {rejects_path(target)}"))
    lines.append(("next", followup.line("glmprep", "audit", target)))
    return lines


def _table(result: Result) -> list[Line]:
    say = Catalogue.load("en").say
    rows = [
        [
            f"{say(length):<20}  {say(language):<16}  {say(tools):<13}",
            number(there),
            number(taken),
            number(taken / there, "percent"),
        ]
        for (stratum, (there, taken)) in result.strata.items()
        for length, language, tools in [_names(stratum)]
    ]
    head = f"{'length':<20}  {'language':<16}  {'tools':<13}"
    return columns([head, "in all", "drawn", "share"], rows)

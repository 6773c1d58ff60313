"""What `glmprep merge` says: what each rule took out, and what that looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from glmreport.page import (
    Block,
    Chapter,
    Column,
    Fact,
    Leaf,
    Leaves,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    TokenSpan,
    Turn,
    Value,
    Verdict,
)
from glmreport.text import RuleTitle, Text
from rich.text import Text as Line

from glmprep.console import printable
from glmprep.findings import RULES
from glmprep.merging.collecting import Result
from glmprep.merging.differences import Difference, Kind
from glmprep.merging.phrases import Phrases
from glmprep.merging.restoring import Restored, map_path
from glmprep.merging.trims import TRIMS
from glmprep.pages import finding_views, provenance
from glmprep.stream import rejects_path
from glmprep.views import followup
from glmprep.views.head import fact, level_of_output, subject
from glmprep.views.terminal import Summary, aligned, columns, counted, number, printing

PRINTED = 3
"""Differences that are printed for each rule; a page shows all that were kept."""
COLOURS: Mapping[Kind, str] = {"kept": "", "removed": "red", "added": "green"}
MARKS: Mapping[Kind, tuple[str, str]] = {
    "kept": ("", ""),
    "removed": ("[-", "-]"),
    "added": ("{+", "+}"),
}
SECTIONS = {
    "tags": ("tags",),
    "stutters": ("stutters",),
    "greetings": ("greetings",),
    "thanks": ("thanks",),
    "fillers": ("hesitations", "fillers"),
    "backchannels": ("backchannels",),
}
"""The lists of phrases that the rules read."""


def summary(result: Result, target: Path | None) -> Summary:
    """What was taken out by which rule; where nothing was written, what that would look like."""

    def show(console: object) -> None:
        from rich.console import Console

        assert isinstance(console, Console)
        if target is None:
            lines = [
                line
                for many in result.differences.values()
                for one in many[:PRINTED]
                for line in _difference(one, marked=not console.is_terminal)
            ]
            printing([*lines, Line()] if lines else [])(console)
        printing([*aligned(_lines(result, target)), *_table(result)], result.findings)(console)

    return show


def restored(result: Restored, target: Path) -> Summary:
    """What was written when a merge was taken back."""
    rows = counted(result.rows, "conversation", "conversations")
    changed = f"{number(result.changed)} changed back, {number(result.returned)} returned"
    return printing(aligned([("wrote", f"{target}: {rows}"), ("of them", changed)]))


def listing(phrases: Phrases) -> Summary:
    """The rules of `--trim`: names, ids, what they do, and how many phrases they know."""
    lines = []
    for name, rule in TRIMS.items():
        known = [
            f"{section} {language} {number(count)}"
            for section in SECTIONS.get(name, ())
            for language, count in phrases.count(section).items()
        ]
        more = f" ({', '.join(known)})" if known else ""
        lines.append((name, f"{rule.id}  {rule.title}{more}"))
    return printing(aligned(lines))


def page(result: Result, target: Path | None, command: str, data: Sequence[str]) -> Page:
    """The report of merging `data` into `target`, None for a dry run."""
    return Page(
        kind="glmprep merge",
        title=Text("prep.merge.title"),
        subject=subject(data) if target is None else f"{subject(data)} → {target}",
        verdict=_verdict(result, target),
        steps=_steps(result, target, command),
        facts=_facts(result),
        sections=[
            Section(
                title=Text("prep.merge.section.ledger"),
                intro=Text("prep.merge.intro.ledger"),
                blocks=[_ledger(result), *_lists(result, target)],
            ),
            *_examples(result),
        ],
        findings=finding_views(result.findings),
        provenance=provenance(command, data),
    )


def _verdict(result: Result, target: Path | None) -> Verdict:
    gone = result.before.tokens - result.after.tokens
    kind = "dry" if target is None else "done"
    return Verdict(
        level=level_of_output(result.reject_share, result.findings),
        headline=Text(
            f"prep.merge.verdict.{kind if gone else 'nothing'}",
            tokens=gone,
            share=gone / max(1, result.before.tokens),
        ),
        detail=Text(
            "prep.merge.detail",
            rows=result.after.rows,
            before=result.before.rows,
            trained=result.before.trained - result.after.trained,
        ),
    )


def _steps(result: Result, target: Path | None, command: str) -> list[Step]:
    steps = followup.mend(result.rejections)
    if target is None:
        return steps
    options = followup.repeated(command, followup.TOKENIZING)
    undo = followup.line("glmprep", "merge", target, "--undo", map_path(target), "-o", BACK)
    audit = followup.line("glmprep", "audit", target, *options)
    return [
        *steps,
        Step(text=Text("prep.merge.next.audit"), command=audit),
        Step(text=Text("prep.merge.next.undo"), command=undo),
    ]


BACK = "back.jsonl"


def _facts(result: Result) -> list[Fact]:
    before, after = result.before, result.after
    return [
        fact("conversations", after.rows, Text("prep.merge.note.before", count=before.rows)),
        fact("turns", after.turns, Text("prep.merge.note.before", count=before.turns)),
        fact("tokens", after.tokens, Text("prep.merge.note.before", count=before.tokens)),
        fact("trainable", after.trained, Text("prep.merge.note.before", count=before.trained)),
    ]


def _ledger(result: Result) -> Table:
    """Before − what each rule removed = after."""
    rows: list[list[Value | None]] = [[Text("prep.merge.before"), None, *_numbers(result.before)]]
    for rule, removed in result.removed.items():
        what = Text("prep.merge.removed", rule=rule, title=RuleTitle(rule, RULES[rule].title))
        rows.append([what, removed.places, *_numbers(removed.amount)])
    rows.append([Text("prep.merge.after"), None, *_numbers(result.after)])
    names = ("places", "conversations", "turns", "characters", "trained", "context")
    return Table(
        columns=[
            Column(label=Text("prep.merge.column.what")),
            *(Column(label=Text(f"prep.merge.column.{name}"), numeric=True) for name in names),
        ],
        rows=rows,
        caption=Text("prep.merge.caption.ledger"),
        highlight=len(rows) - 1,
    )


def _numbers(amount: object) -> list[int]:
    from glmprep.merging.amounts import Amount

    assert isinstance(amount, Amount)
    return list(amount.as_json().values())


def _lists(result: Result, target: Path | None) -> list[Block]:
    if target is None:
        return [Paragraph(Text("prep.merge.dry"))]
    lists: list[Block] = [Paragraph(Text("prep.merge.map", file=str(map_path(target))))]
    if result.rejections:
        file = str(rejects_path(target))
        lists.append(Paragraph(Text("prep.rejects", rows=len(result.rejections), file=file)))
    return lists


def _examples(result: Result) -> list[Section]:
    """The differences of each rule, to leaf through."""
    chapters = [
        Chapter(title=RuleTitle(rule, RULES[rule].title), leaves=[_leaf(one) for one in many])
        for rule, many in result.differences.items()
        if many
    ]
    if not chapters:
        return []
    return [
        Section(
            title=Text("prep.merge.section.examples"),
            intro=Text("prep.merge.intro.examples"),
            blocks=[Leaves(chapters)],
        )
    ]


def _leaf(one: Difference) -> Leaf:
    turn = Turn(
        label=Text("prep.merge.message", message=one.message),
        parts=[TokenSpan(part.text, part.kind) for part in one.parts],
    )
    return Leaf(title=one.where, turns=[turn])


def _difference(one: Difference, *, marked: bool) -> list[Line]:
    """A difference for the terminal: in colour, or with marks where there is none."""
    head = Line(f"{one.rule}  {printable(one.where)} message {one.message}", style="bold")
    text = Line("        ")
    for part in one.parts:
        begin, end = MARKS[part.kind] if marked else ("", "")
        shown = printable(part.text.replace("\n", "⏎"))
        text.append(f"{begin}{shown}{end}", style=COLOURS[part.kind])
    return [head, text]


def _lines(result: Result, target: Path | None) -> list[tuple[str, str]]:
    before, after = result.before, result.after
    rows = counted(after.rows, "conversation", "conversations")
    lines = [("wrote", f"{target}: {rows}")] if target else [("dry run", "nothing was written")]
    removed = before.tokens - after.tokens
    share = number(removed / max(1, before.tokens), "percent")
    lines += [
        (
            "tokens",
            f"{number(before.tokens)} in = {number(after.tokens)} out + {number(removed)} removed "
            f"({share})",
        ),
        ("trained", f"{number(before.trained)} in, {number(after.trained)} out"),
    ]
    if target is not None:
        lines.append(("map", str(map_path(target))))
    if result.rejections and target is not None:
        left_out = counted(len(result.rejections), "row", "rows")
        lines.append(("left out", f"{left_out}, listed in {rejects_path(target)}"))
    return lines


def _table(result: Result) -> list[Line]:
    """What each rule removed."""
    if not result.removed:
        return []
    names = {rule.id: name for name, rule in TRIMS.items()}
    rows = [
        [
            f"{rule} {names.get(rule, '')}".rstrip(),
            *map(number, (removed.places, removed.amount.rows, removed.amount.turns)),
            *map(number, (removed.amount.characters, removed.amount.trained)),
            number(removed.amount.context),
        ]
        for rule, removed in result.removed.items()
    ]
    head = ["removed by", "places", "rows", "turns", "characters", "trained", "context"]
    return columns([f"{head[0]:<20}", *head[1:]], [[f"{r[0]:<20}", *r[1:]] for r in rows])

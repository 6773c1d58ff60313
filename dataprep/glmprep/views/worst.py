"""What `glmprep show DATA` says: the conversations in which rules fire worst, rows by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glmreport.page import Chapter, Leaf, Leaves, Page, Section, Step, TokenSpan, Turn, Verdict
from glmreport.text import Literal, Message, RuleTitle, Text
from rich.console import Console
from rich.text import Text as Line

from glmprep.console import COLOURS, printable
from glmprep.findings import RULES
from glmprep.pages import finding_views, provenance, verdict_level
from glmprep.transcript import Kind, Transcript
from glmprep.transcript import Turn as Spoken
from glmprep.views import followup
from glmprep.views.excerpt import Gap, Omitted, ShownTurn, excerpt
from glmprep.views.head import subject
from glmprep.views.terminal import PERCENT, Summary, counted, number, printing
from glmprep.views.tokens import as_text, legend
from glmprep.worst import Fired, Result

PAGE, LEAF, LEAST = 3_000_000, 24_000, 3_000
"""Bytes of text on a page, and in one leaf: as a rule, and where there are very many."""
AROUND = 1_500
"""Bytes of a leaf that are not its turns."""
NAMED = 10
"""So many of the messages in which a rule fired are named above a conversation."""
PRINTED, PRINTED_TURN = 2_500, 50
"""Bytes of a conversation in the terminal, and of the line above each turn."""


def page(result: Result, command: str, data: Sequence[str]) -> Page:
    """The report to leaf through."""
    most, budget = _room(result)
    chapters = [_chapter(one, most, budget) for one in result.fired if one.worst]
    if result.picked:
        leaves = [_leaf(shown, budget) for shown in result.picked[:most]]
        chapters.append(
            Chapter(
                title=Text("show.picked"),
                intro=_shown_of(len(leaves), len(result.picked)),
                leaves=leaves,
            )
        )
    blocks = [Leaves(chapters)] if chapters else []
    return Page(
        kind="glmprep show",
        title=Text("show.title"),
        subject=subject(data),
        verdict=_verdict(result),
        steps=_steps(result, command, data),
        sections=[
            Section(
                title=Text("show.section"),
                intro=Text("show.intro_limit", tokens=result.max_length)
                if result.max_length
                else Text("show.intro"),
                blocks=blocks,
            )
        ],
        provenance=provenance(command, data),
    )


def summary(result: Result) -> Summary:
    """The worst conversation of each rule, and the rows that were asked for."""

    def show(console: Console) -> None:
        colour = console.color_system is not None and not console.no_color
        lines: list[Line] = []
        kinds: set[Kind] = set()
        for one in result.fired:
            lines.append(_rule_line(one))
            for shown in one.worst[:1]:
                lines += _conversation_lines(shown, colour, kinds, one.finding.rule)
            lines.append(Line())
        for shown in result.picked:
            lines += [*_conversation_lines(shown, colour, kinds), Line()]
        for rule in result.silent:
            lines.append(Line(f"{rule} did not fire in {counted(result.rows, 'row', 'rows')}"))
        if not result.fired and not result.silent and result.picked:
            lines.append(Line(f"{counted(result.rows, 'row', 'rows')} read"))
        printing([*lines, *([legend(kinds, colour=colour)] if kinds else [])])(console)

    return show


def _room(result: Result) -> tuple[int, int]:
    """How many leaves a chapter may have, and how many bytes a leaf."""
    counts = [len(one.worst) for one in result.fired] + [len(result.picked)]
    chapters = sum(count > 0 for count in counts)
    most = max(1, PAGE // (LEAST + AROUND) // max(1, chapters))
    leaves = sum(min(count, most) for count in counts)
    return most, min(LEAF, PAGE // max(1, leaves) - AROUND)


def _verdict(result: Result) -> Verdict:
    level = verdict_level([one.finding for one in result.fired])
    rejected = sum(shown.rejected is not None for shown in result.picked)
    if result.fired:
        shown = sum(len(one.worst) for one in result.fired)
        headline = Text("show.fired", rules=len(result.fired), conversations=shown)
    elif result.silent:
        headline = Text("show.silent", rules=", ".join(result.silent))
    else:
        headline = Text("show.rows", rows=len(result.picked))
    detail = Text("show.rejected", rows=rejected) if rejected else Text("show.detail")
    return Verdict(level="bad" if rejected else level, headline=headline, detail=detail)


def _steps(result: Result, command: str, data: Sequence[str]) -> list[Step]:
    if not result.fired:
        return []
    line = followup.line("glmprep", "audit", *data, *followup.repeated(command))
    return [Step(text=Text("show.next.audit"), command=line)]


def _chapter(one: Fired, most: int, budget: int) -> Chapter:
    rule = RULES[one.finding.rule]
    [about] = finding_views([one.finding])
    leaves = [_leaf(shown, budget, rule.id) for shown in one.worst[:most]]
    return Chapter(
        title=RuleTitle(rule.id, about.title),
        intro=_shown_of(len(leaves), _rows(one)),
        leaves=leaves,
        about=about,
    )


def _rows(one: Fired) -> int:
    return int(one.finding.data.get("rows", len(one.worst)))


def _shown_of(shown: int, rows: int) -> Text | None:
    return Text("show.shown_of", shown=shown, rows=rows) if rows > shown else None


def _leaf(shown: Transcript, budget: int, rule: str | None = None) -> Leaf:
    parts = excerpt(shown, budget, [rule] if rule else [])
    return Leaf(
        title=shown.where, intro=_sums(shown, rule), turns=[_turn(part, rule) for part in parts]
    )


def _sums(shown: Transcript, rule: str | None) -> Message:
    """The sums of a conversation, where the rule fired, and why it is rejected, if it is."""
    if not shown.tokens:
        return Text("show.raw", reason=shown.rejected or "")
    sums = Text(
        "show.sums" if shown.rows == 1 else "show.sums_of_rows",
        tokens=shown.tokens,
        trained=shown.supervised,
        share=shown.supervised / shown.tokens,
        row=shown.row,
        rows=shown.rows,
    )
    hit = [str(turn.message) for turn in shown.turns if rule in turn.rules]
    if hit:
        named = ", ".join([*hit[:NAMED], *(["…"] if len(hit) > NAMED else [])])
        sums = Text("show.and_fired", sums=sums, count=len(hit), messages=named)
    if shown.rejected:
        sums = Text("show.and_rejected", sums=sums, reason=shown.rejected)
    if shown.cut:
        sums = Text("show.and_cut", sums=sums, cut=shown.cut, lost=shown.lost)
    return sums


def _turn(part: ShownTurn | Omitted, rule: str | None) -> Turn | Message:
    if isinstance(part, Omitted):
        return Text("show.omitted", turns=part.turns, tokens=part.tokens)
    turn = part.turn
    return Turn(
        label=_label(turn),
        parts=[
            Text("show.gap", characters=piece.characters)
            if isinstance(piece, Gap)
            else TokenSpan(piece.text, piece.kind)
            for piece in part.parts
        ],
        notes=[*(Literal(name) for name in turn.rules), *_cut_note(turn)],
        marked=rule in turn.rules if rule else bool(turn.rules),
    )


def _label(turn: Spoken) -> Text:
    speaker = Text(f"show.speaker.{turn.speaker}")
    if turn.message is None:
        return speaker
    return Text("show.label", speaker=speaker, message=turn.message, tokens=turn.tokens)


def _cut_note(turn: Spoken) -> Iterator[Text]:
    if turn.torn:
        yield Text("show.torn")
    elif turn.cut and turn.cut == turn.tokens:
        yield Text("show.beyond")


def _rule_line(one: Fired) -> Line:
    rule = RULES[one.finding.rule]
    line = Line(f"{rule.severity:<8}", style=f"bold {COLOURS[rule.severity]}")
    line.append(f"{rule.id}  ", style="bold")
    line.append(f"{printable(rule.title)} {counted(_rows(one), 'conversation', 'conversations')}")
    return line


def _conversation_lines(
    shown: Transcript, colour: bool, kinds: set[Kind], rule: str | None = None
) -> Iterator[Line]:
    yield Line(printable(_head(shown)), style="bold")
    for part in excerpt(shown, PRINTED, [rule] if rule else [], per_turn=PRINTED_TURN):
        if isinstance(part, Omitted):
            turns = counted(part.turns, "turn", "turns")
            yield Line(f"  … {turns} left out ({number(part.tokens)} tokens)", style="dim")
            continue
        yield Line(f"  {_who(part.turn)}", style="dim" if not part.turn.rules else "bold yellow")
        text = Line()
        for piece in part.parts:
            if isinstance(piece, Gap):
                text.append(f"\n… {number(piece.characters)} characters left out …\n", style="dim")
            else:
                text.append_text(as_text([piece], colour=colour))
                kinds.add(piece.kind)
        yield text


def _head(shown: Transcript) -> str:
    if not shown.tokens:
        return f"{shown.where}  {shown.rejected}"
    share = number(shown.supervised / shown.tokens, PERCENT)
    words = [f"{number(shown.tokens)} tokens, {number(shown.supervised)} trained ({share})"]
    if shown.rows > 1:
        words.append(f"row {shown.row} of the {shown.rows} that train it")
    if shown.cut:
        words.append(f"{number(shown.cut)} past the limit, {number(shown.lost)} of them trained")
    if shown.rejected:
        words.append(f"rejected by {shown.rejected}")
    return f"{shown.where}  {'; '.join(words)}"


def _who(turn: Spoken) -> str:
    name = turn.speaker if turn.message is None else f"{turn.speaker}, message {turn.message}"
    notes = [*turn.rules, *(["goes on past the limit"] if turn.torn else [])]
    return f"{name}  ◀ {', '.join(notes)}" if notes else name

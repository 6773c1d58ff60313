"""A rendered conversation in regions, what the model writes among them, and these in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from glmprep.families.controls import Controls
from glmprep.families.forms import Said
from glmprep.families.manner import Manner
from glmprep.families.piece import NO_TOKEN, NO_TURN, Piece
from glmprep.families.prefixes import Rendered
from glmprep.families.rendering import Unrenderable


class Region(NamedTuple):
    """The text from `start` to the next region: which turn it is of, and what becomes of it.

    The model writes what is `generated`, and the turn `ends` with it. What is not `kept` is left
    out.
    """

    start: int
    turn: int
    generated: bool = False
    trained: bool = False
    ends: bool = True
    kept: bool = True


def regions(rendered: Rendered, manner: Manner, controls: Controls) -> Iterator[Region]:
    """The whole text in order; some regions may have no length."""
    whole, said, prompt = rendered.whole, rendered.said, manner.prompt
    yield Region(0, NO_TURN)
    first = at = 0
    for place, one in enumerate(said):
        if one.form["role"] != "assistant":
            continue
        start, end = rendered.length(place, prompt=True), rendered.length(place + 1)
        asked = start - len(prompt) if whole.endswith(prompt, at, start) else start
        yield from _context(rendered, manner, range(first, place), at, asked)
        yield Region(asked, one.turn)
        stop, at = _end(whole, start, end, manner, controls)
        yield from _answer(rendered, one, start, stop, at)
        first = place + 1
    yield from _context(rendered, manner, range(first, len(said)), at, len(whole))


def lay(rendered: Rendered, parts: Iterable[Region], controls: Controls) -> list[Piece]:
    """The regions in pieces; context that goes on behind context is encoded as one with it."""
    made: list[Piece] = []
    order = list(parts)
    bounds = [*(region.start for region in order[1:]), len(rendered.whole)]
    goes_on = False
    for region, end in zip(order, bounds, strict=True):
        if not region.kept or region.start >= end:
            continue
        pieces = list(_pieces(rendered, region, end, controls))
        if goes_on and not region.generated and pieces[0].header == NO_TOKEN:
            made[-1] = made[-1]._replace(text=made[-1].text + pieces.pop(0).text)
        made += pieces
        goes_on = not region.generated
    return made


def _context(
    rendered: Rendered, manner: Manner, places: range, low: int, high: int
) -> Iterator[Region]:
    """What stands between two answers; turns of one role are taken together."""
    before = ""
    for place in places:
        role = rendered.said[place].form["role"]
        if role == before:
            continue
        # What follows an answer directly belongs to the turn behind it.
        if before or place == 0:
            low = _begin(rendered, manner, place, low, high)
        yield Region(low, rendered.said[place].turn)
        before = role


def _begin(rendered: Rendered, manner: Manner, place: int, low: int, high: int) -> int:
    """Where a turn begins: where those before it end, or where its head is found."""
    try:
        at = rendered.length(place)
    except Unrenderable:
        at = -1
    if not low <= at <= high:
        head = manner.heads.get(rendered.said[place].form["role"])
        at = rendered.whole.find(head, low, high) if head else -1
    return max(at, low)


def _end(whole: str, start: int, end: int, manner: Manner, controls: Controls) -> tuple[int, int]:
    """Where an answer ends, and where what the template writes with it does."""
    if manner.ends:
        found = [m.start() for m in controls.find(whole, start, end) if m[0] in manner.ends]
        return (found[-1] if found else end), end
    following = next(controls.find(whole, end, len(whole)), None)
    stop = following.start() if following else len(whole)
    return stop, stop


def _answer(rendered: Rendered, said: Said, start: int, stop: int, end: int) -> Iterator[Region]:
    """An answer from `start` to `stop`, and what is written behind it, up to `end`."""
    turn, parts = said.turn, said.parts
    marks = [rendered.marks[t] for t in range(turn, turn + len(parts)) if t in rendered.marks]
    texts = [rendered.whole.index(mark) for mark in marks]
    if parts and parts[0].begins:
        texts[:1] = [start]
    elif parts:
        # The rest of a turn that was cut: what stands before an answer is context.
        yield Region(start, turn)
    for place, begin in enumerate(texts or [start]):
        ends = not parts or parts[place].ends
        yield Region(begin, turn + place, generated=True, trained=said.trained, ends=ends)
    last = turn + max(0, len(parts) - 1)
    if parts and not parts[-1].ends:
        yield Region(rendered.whole.index(marks[-1]) + 1, last, kept=False)
    else:
        yield Region(stop, last)
    yield Region(end, last)


def _pieces(rendered: Rendered, region: Region, end: int, controls: Controls) -> Iterator[Piece]:
    """The text of a region between its control tokens; the last piece ends the turn."""
    whole, reveal = rendered.whole, rendered.disguise.reveal
    matches = list(controls.find(whole, region.start, end))
    heads = [(controls.ids[match[0]], match.end()) for match in matches]
    stops = [*(match.start() for match in matches), end]
    if region.start < stops[0]:
        heads.insert(0, (NO_TOKEN, region.start))
    else:
        stops.pop(0)
    for place, ((header, begin), stop) in enumerate(zip(heads, stops, strict=True)):
        yield Piece(
            header=header,
            text=reveal(whole[begin:stop]),
            trained=region.generated and region.trained,
            ends=region.ends and place == len(heads) - 1,
            turn=region.turn,
            inner=region.generated and header != NO_TOKEN,
        )

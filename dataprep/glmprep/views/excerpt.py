"""Long conversations shortened: what matters of them within a budget, and how much is left out.

Costs are the bytes that text takes on a page, so that a page stays small whatever stands in the
data: a line break is drawn, a hidden character is spelled out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from glmreport.text import visible

from glmprep.transcript import Span, Transcript, Turn

LINE_BREAK, ESCAPED, SPAN, TURN = 30, 5, 32, 450
"""Bytes of a line break, a character that HTML escapes, and the tags of a span and of a turn."""
FEWEST = 200
"""A turn of which fewer bytes could be shown says too little, and fewer are not left out of one."""
WIDEST = 0.4
"""No more of a budget than this share goes to one turn, or there would be nothing around it."""
PLAIN = 0.1
"""The share of a turn in which nothing is to be seen."""


@dataclass(frozen=True, slots=True)
class Gap:
    """So many characters of a turn that are left out."""

    characters: int


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """A turn and what is shown of its text."""

    turn: Turn
    parts: Sequence[Span | Gap]


@dataclass(frozen=True, slots=True)
class Omitted:
    """So many turns in a row that are left out, and their tokens."""

    turns: int
    tokens: int


def excerpt(
    transcript: Transcript, budget: int, rules: Collection[str] = (), *, per_turn: int = TURN
) -> list[ShownTurn | Omitted]:
    """The turns of a transcript within a budget in bytes, of which each turn takes `per_turn`.

    First come those in which one of `rules` fired, then those at the limit, the ends, the
    neighbours of the former, and then the rest in order.
    """
    turns = transcript.turns
    whole = [per_turn + _cost(turn, budget) for turn in turns]
    fits = sum(whole) <= budget
    parts: dict[int, Sequence[Span | Gap]] = {}
    left = budget
    for place in range(len(turns)) if fits else _by_weight(turns, rules):
        turn = turns[place]
        share = WIDEST if _stands_out(turn, rules) or len(turns) < 4 else PLAIN
        allowed = left if fits else min(left, max(int(budget * share), per_turn + FEWEST))
        if whole[place] <= min(left, allowed + FEWEST):
            parts[place] = turn.spans
        elif allowed >= per_turn + FEWEST:
            parts[place] = _part(turn, allowed - per_turn)
        else:
            break
        left -= min(whole[place], allowed + FEWEST)
    return list(_in_order(turns, parts))


def _by_weight(turns: Sequence[Turn], rules: Collection[str]) -> Iterable[int]:
    """Places of turns, the most telling first."""
    hit = [place for place, turn in enumerate(turns) if set(rules) & set(turn.rules)]
    limit = [place for place, turn in enumerate(turns) if turn.cut > 0][:1]
    torn = [place for place, turn in enumerate(turns) if turn.torn]
    ends = [0, len(turns) - 1]
    beside = [place + step for place in hit for step in (-1, 1) if 0 <= place + step < len(turns)]
    return dict.fromkeys([*hit[:1], *torn, *limit, *ends, *hit, *beside, *range(len(turns))])


def _stands_out(turn: Turn, rules: Collection[str]) -> bool:
    return turn.torn or bool(set(rules) & set(turn.rules))


def _in_order(
    turns: Sequence[Turn], parts: dict[int, Sequence[Span | Gap]]
) -> Iterator[ShownTurn | Omitted]:
    shown = sorted(parts)
    for before, place in pairwise([-1, *shown, len(turns)]):
        if skipped := turns[before + 1 : place]:
            yield Omitted(len(skipped), sum(turn.tokens for turn in skipped))
        if place < len(turns):
            yield ShownTurn(turns[place], parts[place])


def _part(turn: Turn, budget: int) -> list[Span | Gap]:
    """The beginning and the end of a turn, and what stands around the limit."""
    text = "".join(span.text for span in turn.spans)
    limits = _limits(turn.spans)
    share = (budget - SPAN * len(turn.spans)) // (2 + 2 * len(limits))
    kept = [
        (0, _reach(text, 0, 1, share)),
        *((_reach(text, at, -1, share), _reach(text, at, 1, share)) for at in limits),
        (_reach(text, len(text), -1, share), len(text)),
    ]
    return list(_windows(turn.spans, sorted(kept), len(text)))


def _limits(spans: Sequence[Span]) -> list[int]:
    """Where in a turn's text the limit falls: at most one place, and not at its ends."""
    ends = accumulate(len(span.text) for span in spans)
    borders = zip(ends, pairwise(spans), strict=False)
    return [end for end, (one, other) in borders if one.kind != "cut" and other.kind == "cut"]


def _windows(
    spans: Sequence[Span], kept: Sequence[tuple[int, int]], total: int
) -> Iterator[Span | Gap]:
    """What lies in the windows `kept` (sorted, they may overlap), and the gaps between them."""
    at = 0
    for begin, end in kept:
        if begin > at:
            yield Gap(begin - at)
        yield from _slice(spans, max(at, begin), end)
        at = max(at, end)
    if at < total:
        yield Gap(total - at)


def _slice(spans: Sequence[Span], begin: int, end: int) -> Iterator[Span]:
    first = 0
    for span in spans:
        low, high = max(begin - first, 0), min(end - first, len(span.text))
        if low < high:
            yield Span(span.text[low:high], span.kind)
        first += len(span.text)


def _reach(text: str, at: int, step: int, budget: int) -> int:
    """How far one gets from a place in a text, forwards or backwards, for so many bytes."""
    while 0 <= (here := at if step > 0 else at - 1) < len(text):
        budget -= _weight(text[here])
        if budget < 0:
            break
        at += step
    return at


def _cost(turn: Turn, most: int) -> int:
    """What a turn's text costs; no more of it is looked at than it takes to be over `most`."""
    cost = 0
    for span in turn.spans:
        cost += SPAN
        for character in span.text:
            cost += _weight(character)
            if cost > most:
                return cost
    return cost


def _weight(character: str) -> int:
    if character == "\n":
        return LINE_BREAK
    if character.isascii() and character.isprintable():
        return ESCAPED if character in "<>&'\"" else 1
    return len(visible(character).encode("utf-8", "replace"))

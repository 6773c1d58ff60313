"""Where paragraphs, sentences and lines of a text end, in Chinese and English.

Rules only, no model: what ends a sentence is a mark, the quotes and brackets that close behind it,
and what follows. Code in fences (``` or ~~~, as in CommonMark) is never read as prose; a fence
that is not closed goes on to the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

PARAGRAPH, SENTENCE, LINE = 3, 2, 1
LONGEST = 400
"""Characters of a sentence; a longer one is cut behind a comma or before a space."""
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)
BREAK = re.compile(
    r"(?P<blank>\n[ \t\r\u3000\n]*\n)|(?P<line>\n)|(?P<quote>\")"
    r"|(?P<mark>[。｡！？；.!?…]+)(?P<close>[”’」』）】》)\]\"'*_]*)"
)
LINE_END = re.compile(r"[ \t\r\u3000]*\n")
FULL = re.compile(r"[。｡！？；]|……")
"""Marks that need no space behind them."""
GOES_ON = frozenset("，,、：:；;。．.")
"""What follows a closing quote where the sentence goes on."""
WIDE = re.compile("[\u3041-\ufaff\U00020000-\U0003ffff]")
AROUND = 16
"""Characters on each side of a full stop that tell whether it ends a sentence."""
NEVER = re.compile(
    r"(?:^|[^\w.])(?:dr|mr|mrs|ms|prof|st|gen|col|sen|rep|vs|cf|ca|approx|e\.g|i\.e"
    r"|(?-i:(?:[A-Z]\.)*[A-HJ-Z]))$",
    re.IGNORECASE,
)
"""Words whose full stop ends no sentence, and initials."""
BEFORE_NUMBER = re.compile(r"(?:^|\W)(?:nos?|figs?|eqs?|vol|ch|sec|art|pp?)$", re.IGNORECASE)
BEFORE_SMALL = re.compile(
    r"(?:^|\W)(?:etc|al|inc|ltd|co|corp|jr|sr|(?:[a-z]\.)+[a-z])$", re.IGNORECASE
)
"""Words whose full stop ends no sentence where a number, or a small letter, follows."""
LIST_ITEM = re.compile(r"(?:^|\n)[ \t>*-]*(?:\d{1,3}|[A-Za-z])$")
COMMA = re.compile(r"[，、：]|[,;:](?=\s)")
SPACE = re.compile(r"(?=\s)")


def breaks(text: str) -> list[tuple[int, int]]:
    """The places inside `text` at which it may be parted, in order, and the rank of each.

    A place is the index of the character that begins the next part. PARAGRAPH: behind blank
    lines, before and behind fenced code. SENTENCE: behind its last closing quote and before the
    space that follows, or behind its line break. LINE: behind any other line break; in fenced code
    there are only these.
    """
    ranks: dict[int, int] = {}
    for begin, end, code in _blocks(text):
        ranks[begin] = PARAGRAPH
        ranks.update(_lines(text, begin, end) if code else _ends(text, begin, end))
    return [(place, rank) for place, rank in ranks.items() if 0 < place < len(text)]


def sentences(text: str) -> list[str]:
    """The sentences of `text`, which joined give it; each holds more than white space.

    (A text of white space alone is one piece, an empty one none.) Fenced code is one piece. A line
    break ends a sentence unless the next line goes on with a small letter, as wrapped text does.
    """
    places: list[int] = []
    for begin, end, code in _blocks(text):
        prose = (
            [] if code else [p for p, rank in _ends(text, begin, end) if not _wraps(text, p, rank)]
        )
        for first, last in pairwise([begin, *prose, end]):
            places.append(first)
            if not code:
                places += _soft(text, first, last)
    return _pieces(text, places)


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where prose and fenced code begin and end in turn; True for code, its fences included."""
    at = begin = 0
    opening = ""
    for line in FENCE.finditer(text):
        mark, rest = line.groups()
        if not opening:
            if "`" not in mark or "`" not in rest:
                opening, begin = mark, line.start()
        elif mark.startswith(opening) and not rest.strip():
            end = min(line.end() + 1, len(text))
            yield at, begin, False
            yield begin, end, True
            at, opening = end, ""
    if opening:
        yield at, begin, False
        at = begin
    yield at, len(text), bool(opening)


def _lines(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin := text.find("\n", begin, end) + 1:
        yield begin, LINE


def _ends(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The places in prose, the last may be its end, and their ranks."""
    quoted = closed = False
    for found in BREAK.finditer(text, begin, end):
        if found["quote"]:
            quoted = not quoted
        elif found["mark"]:
            place = _behind_closers(text, found, quoted)
            quoted ^= found["close"].count('"') % 2 == 1
            closed = False
            if _is_end(text, found, place):
                closed = LINE_END.match(text, place) is not None
                if not closed:
                    yield place, SENTENCE
        else:
            yield found.end(), PARAGRAPH if found["blank"] else SENTENCE if closed else LINE
            closed = False
            quoted = quoted and not found["blank"]


def _behind_closers(text: str, found: re.Match[str], quoted: bool) -> int:
    """The place behind what closes after a mark; a straight quote closes only what is open."""
    close = found["close"] if quoted else found["close"].partition('"')[0]
    place = found.end("mark") + len(close)
    if text[place : place + 1].strip():
        # Emphasis or an apostrophe that something follows at once opens what follows.
        place -= len(close) - len(close.rstrip("*_'"))
    return place


def _is_end(text: str, found: re.Match[str], place: int) -> bool:
    """Whether a sentence ends with this mark and what closes behind it, up to `place`."""
    mark, after = found["mark"], text[place : place + AROUND]
    if FULL.search(mark):
        return after[:1] not in GOES_ON
    asks = "?" in mark or "!" in mark
    if after[:1].strip() and not (asks and WIDE.match(after)):
        return False
    following = after.lstrip()[:1]
    if mark == ".":
        return not _goes_on(text[max(0, found.start() - AROUND) : found.start()], following)
    return not following.islower() or (asks and not found["close"])


def _goes_on(before: str, following: str) -> bool:
    """Whether a sentence goes on behind a full stop, by what is before it and what follows."""
    return bool(
        NEVER.search(before)
        or LIST_ITEM.search(before)
        or (following.isdigit() and BEFORE_NUMBER.search(before))
        or (following.islower() and BEFORE_SMALL.search(before))
    )


def _wraps(text: str, place: int, rank: int) -> bool:
    return rank == LINE and "a" <= text[place : place + 1] <= "z"


def _soft(text: str, first: int, last: int) -> Iterator[int]:
    """Places at which a sentence that is too long is cut."""
    while last - first > LONGEST:
        window = (text, first + LONGEST // 2, first + LONGEST)
        at = 0
        for kind in (COMMA, SPACE):
            for found in kind.finditer(*window):
                at = found.end()
            if at:
                break
        first = at or first + LONGEST
        yield first


def _pieces(text: str, places: Iterable[int]) -> list[str]:
    """The parts of the text between the places, in order; white space joins the one before."""
    bounds = [*dict.fromkeys(places), len(text)]
    starts = [first for first, last in pairwise(bounds) if text[first:last].strip()]
    return [text[first:last] for first, last in pairwise([0, *starts[1:], len(text)]) if last]

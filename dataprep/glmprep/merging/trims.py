"""The rules that find what a conversation can do without.

A rule takes a conversation as it was spoken (see `glmprep.merging.talk`) and the phrases, and
yields spans of utterances that may go. Whether they do is decided in `glmprep.merging.trimming`,
which keeps the order of turns and the key information.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from glmprep.findings import Rule, Severity, rule
from glmprep.merging.key import keys
from glmprep.merging.phrases import Ends, Phrases
from glmprep.merging.talk import Utterance

SHORT, LONG = 8, 20
"""Letters from which on a turn said twice in a row, or again later, is a repetition of a fact."""
ENGLISH = re.compile(r"\b(?:the|and|of|is|that|you|it|we|i|this|what|have|so|to)\b", re.IGNORECASE)
SENTENCE = re.compile(r"[^。！？!?…\n]+?(?:[。！？!?…]+|\.(?=\s|\Z)|\Z|\n)\s*")
QUOTED = re.compile(r"^[ \t]*(?:>[ \t]?)+(?P<said>[^\n]*)(?:\n|\Z)", re.MULTILINE)
LINE = re.compile(r"[^\n]*(?:\n|\Z)")
STRIPPED = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `begin` to `end` of an utterance's text; `witness` says the same and stays."""

    utterance: Utterance
    begin: int
    end: int
    witness: str = ""


Talk: TypeAlias = Sequence[Utterance]
Finder: TypeAlias = Callable[[Talk, Phrases], Iterator[Span]]


@rule("DF501", Severity.INFO)
def noise_tags(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Noise tags were cut.

    Evidence: noise tags such as {{vocalsound}} or [noise] that were cut: {count}, in {rows} of the
    conversations.
    Why: they are marks of a transcriber, cost tokens and say nothing.
    Fix: nothing is to be done; the map of the merge holds what was cut.
    """
    for said in talk:
        for found in phrases.tags.finditer(said.text) if said.open else ():
            begin, end = found.span()
            before, behind = said.text[begin - 1 : begin], said.text[end : end + 1]
            if begin and not found[0][-1].isspace():
                # Without a blank behind the tag the one before it goes, or words would meet.
                if before.isspace():
                    begin -= 1
                elif before.isascii() and behind.isascii() and (before + behind).isalnum():
                    continue
            yield Span(said, begin, end)


@rule("DF502", Severity.INFO)
def stutters(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Doubled words were cut to one.

    Evidence: slips such as "the the" or 我我我 that were cut to one word: {count}, in {rows} of the
    conversations.
    Why: speech and its recognition stumble; the copies cost tokens and say nothing.
    Fix: nothing is to be done; the map of the merge holds what was cut.
    """
    for said in talk:
        for found in phrases.stutters.finditer(said.text) if said.open else ():
            name = next(name for name in "abcd" if found[name])
            yield Span(said, *found.span(f"{name}2"))


@rule("DF503", Severity.INFO)
def greetings(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Greetings were cut.

    Evidence: greetings and farewells at the beginning or the end of turns that were cut: {count},
    in {rows} of the conversations.
    Why: they are the same in every conversation; among questions they are no part of the question.
    Fix: nothing is to be done; the map of the merge holds what was cut. Leave the rule out where
    the model is to learn to greet.
    """
    for said in talk:
        if said.open:
            yield from _at_ends(said, phrases.greetings)


@rule("DF504", Severity.INFO)
def thanks(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Thanks were cut.

    Evidence: thanks, and what is said in return, at the beginning or the end of turns, that were
    cut: {count}, in {rows} of the conversations.
    Why: they are the same in every conversation; among questions they are no part of the question.
    Fix: nothing is to be done; the map of the merge holds what was cut. Leave the rule out where
    the model is to learn to be thanked.
    """
    for said in talk:
        if said.open:
            yield from _at_ends(said, phrases.thanks)


@rule("DF505", Severity.INFO)
def fillers(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Fillers were cut.

    Evidence: hesitations and fillers such as "uh" or 就是说 that were cut: {count}, in {rows} of
    the conversations.
    Why: they fill time in speech; in text they cost tokens and say nothing.
    Fix: nothing is to be done; the map of the merge holds what was cut.
    """
    for said in talk:
        if not said.open:
            continue
        # "um" and "er" are words of other languages.
        english = ENGLISH.search(said.text)
        for found in phrases.hesitations.finditer(said.text):
            if english or not found[0].isascii():
                yield Span(said, *found.span())
        for found in phrases.fillers.finditer(said.text):
            yield Span(said, *found.span())


@rule("DF506", Severity.INFO)
def backchannels(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Signs of listening were cut.

    Evidence: backchannels such as "mm-hmm" or 嗯嗯, as turns or at the beginning of one, that were
    cut: {count}, in {rows} of the conversations.
    Why: they say no more than that someone listens. What follows a question is left, since it may
    answer it.
    Fix: nothing is to be done; the map of the merge holds what was cut.
    """
    for said in talk:
        if not said.open or said.answers:
            continue
        found = phrases.assents.begin.match(said.text)
        if found is None or found.end() < len(said.text):
            found = phrases.backchannels.begin.match(said.text)
        if found:
            yield Span(said, *found.span())


@rule("DF507", Severity.INFO)
def repeats(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Repetitions were cut.

    Evidence: turns and sentences that the same speaker had said word for word before, cut: {count},
    in {rows} of the conversations.
    Why: said twice they weigh twice; mostly a message was sent, or recognised, two times.
    Fix: nothing is to be done; the map of the merge holds what was cut.
    """
    earlier: dict[tuple[tuple[str, str], str], str] = {}
    before: tuple[tuple[str, str], str] | None = None
    for said in talk:
        words = STRIPPED.sub("", said.text).casefold()
        key = said.speaker, words
        again = key == before or (len(words) >= LONG and key in earlier)
        if said.open and words and again and (len(words) >= SHORT or not keys(said.text)):
            yield Span(said, 0, len(said.text), witness=earlier[key])
            continue
        if words:
            earlier.setdefault(key, said.text)
            before = key
        if said.open:
            yield from _said_twice(said)


@rule("DF508", Severity.INFO)
def quotations(talk: Talk, phrases: Phrases) -> Iterator[Span]:
    """Quotations of earlier turns were cut.

    Evidence: lines that quote what stands in an earlier turn, and whole turns that were pasted
    again, cut: {count}, in {rows} of the conversations.
    Why: what is quoted stands above already; mail repeats it with every answer.
    Fix: nothing is to be done; the map of the merge holds what was cut.
    """
    lines: dict[str, str] = {}
    turns: dict[str, tuple[Utterance, list[str]]] = {}
    for said in talk:
        if said.open and not said.label:
            yield from _marked(said, lines)
            yield from _pasted(said, turns)
        spoken = [(words, found[0]) for words, found in _lines(said.text)]
        lines |= {words: line for words, line in spoken if len(words) >= SHORT}
        if not said.label and spoken and sum(len(words) for words, _ in spoken) >= LONG:
            turns.setdefault(spoken[0][0], (said, [words for words, _ in spoken]))


TRIMS: dict[str, Rule[Any]] = {
    "tags": noise_tags,
    "quotes": quotations,
    "repeats": repeats,
    "stutters": stutters,
    "greetings": greetings,
    "thanks": thanks,
    "fillers": fillers,
    "backchannels": backchannels,
}
"""The rules by the names under which they are asked for, in the order in which they are applied."""


def _at_ends(said: Utterance, ends: Ends) -> Iterator[Span]:
    """Phrases where an utterance begins and where it ends."""
    at_begin = ends.begin.match(said.text)
    if at_begin and at_begin[0].rstrip()[-1] in ",，" and VOCATIVE.match(said.text, at_begin.end()):
        at_begin = None  # "Thank you, Chair." would leave a name alone.
    if at_begin:
        yield Span(said, *at_begin.span())
    begin = at_begin.end() if at_begin else 0
    tail = max(begin, len(said.text) - TAIL)
    if at_end := ends.end.search(said.text, tail):
        end = at_end.end()
        if at_end["comma"]:
            # The sentence goes on before the comma, and keeps its full stop.
            phrase = at_end["said"].rstrip()
            end = at_end.start("said") + len(phrase.rstrip("。.!！~～…"))
        yield Span(said, at_end.start(), end)


VOCATIVE = re.compile(
    r"(?:(?:everyone|everybody|all|[A-Z][\w.’'-]*)[ ]?){1,4}(?:[,.!]|\Z|(?<=[.])[ ])"
)
"""A name that somebody is called by."""
TAIL = 200
"""Characters at an utterance's end in which its last phrases are looked for."""


def _said_twice(said: Utterance) -> Iterator[Span]:
    """Sentences that directly repeat the one before; not those with key information."""
    before = ""
    for found in SENTENCE.finditer(said.text):
        words = STRIPPED.sub("", found[0]).casefold()
        if words and words == before and not keys(found[0]):
            yield Span(said, *found.span())
        before = words


def _lines(text: str) -> list[tuple[str, re.Match[str]]]:
    """The lines of a text that say something, each with its bare words."""
    found = ((STRIPPED.sub("", line[0]).casefold(), line) for line in LINE.finditer(text))
    return [(words, line) for words, line in found if words]


def _marked(said: Utterance, lines: dict[str, str]) -> Iterator[Span]:
    """Lines behind a `>` that stand in what was said before."""
    for found in QUOTED.finditer(said.text):
        words = STRIPPED.sub("", found["said"]).casefold()
        if words in lines:
            yield Span(said, *found.span(), witness=lines[words])


def _pasted(said: Utterance, turns: dict[str, tuple[Utterance, list[str]]]) -> Iterator[Span]:
    """Lines that are, taken together, a whole earlier turn of another speaker."""
    spoken = _lines(said.text)
    for place, (words, found) in enumerate(spoken):
        told, block = turns.get(words, (said, [""]))
        last = place + len(block)
        if told.speaker != said.speaker and [one for one, _ in spoken[place:last]] == block:
            yield Span(said, found.start(), spoken[last - 1][1].end(), witness=told.text)

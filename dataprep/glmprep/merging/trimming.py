"""Trims a conversation by rules, so that its turns stay in order and no key information is lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from glmprep.findings import Rule
from glmprep.merging.changes import Cut, cut_out
from glmprep.merging.key import lost
from glmprep.merging.phrases import Phrases
from glmprep.merging.talk import Utterance, listen
from glmprep.merging.trims import TRIMS, Span, Talk, repeats
from glmprep.merging.vanishing import without
from glmprep.repair import Change, Turn

ROUNDS = 4
"""What one rule leaves, another may trim; after so many rounds hardly anything is left."""
SAYS = re.compile(r"[^\s.,!…。，！、；;:：~～\-—]")
"""A text without any of these says nothing."""
Place = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """Messages after trimming, the changes in order, and how many cuts were not made.

    `states` are the messages after each rule that changed any. `key` counts, by rule, cuts that
    would have lost key information; `order` turns that would be empty and stay whole, since the
    turns around them would not be in order.
    """

    messages: list[Turn]
    changes: list[Change] = field(default_factory=list)
    states: list[tuple[str, list[Turn]]] = field(default_factory=list)
    key: Counter[str] = field(default_factory=Counter)
    order: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmer:
    """The rules that were asked for (names in TRIMS); `answers`: trained text is trimmed, too."""

    names: Collection[str]
    phrases: Phrases
    answers: bool = False

    def __call__(self, messages: Sequence[Turn]) -> Trimmed:
        """The messages trimmed by all rules, as often as they find anything."""
        done = Trimmed(messages=list(messages))
        talk = listen(messages, answers=self.answers)
        for _ in range(ROUNDS):
            before = len(done.states)
            for name, rule in TRIMS.items():
                if name in self.names and self._apply(rule, talk, done):
                    done.states.append((rule.id, list(done.messages)))
                    talk = listen(done.messages, answers=self.answers)
            if len(done.states) == before:
                break
        return done

    def _apply(self, rule: Rule[Any], talk: Talk, done: Trimmed) -> bool:
        """Apply one rule; whether it changed anything."""
        made = len(done.changes)
        done.key[rule.id] = 0
        cuts: dict[int, list[Place]] = {}
        empty: set[int] = set()
        lines = Counter((said.turn, said.label) for said in talk)
        for _, group in groupby(rule(talk, self.phrases), key=lambda span: id(span.utterance)):
            spans = list(group)
            said = spans[0].utterance
            places = _safe(said, spans)
            done.key[rule.id] += len(spans) - len(places)
            if not places:
                continue
            if SAYS.search(cut_out(said.text, places)[0]):
                begin = said.start
                cuts.setdefault(said.turn, []).extend((begin + b, begin + e) for b, e in places)
            elif said.whole == (0, len(done.messages[said.turn]["content"])):
                empty.add(said.turn)
            elif lines[said.turn, said.label] > 1 or not said.label:
                # The last line of a speaker stays: nothing else tells that they were there.
                lines[said.turn, said.label] -= 1
                cuts.setdefault(said.turn, []).append(said.whole)
        for turn, places in cuts.items():
            message = done.messages[turn]
            content, pieces = cut_out(message["content"], places)
            done.messages[turn] = {**message, "content": content}
            done.changes.append(Cut(rule=rule.id, at=turn, pieces=pieces))
        # Two answers to a question that was asked twice are not one answer.
        join_answers = self.answers and rule is not repeats
        edits, held = without(done.messages, empty, rule.id, join_answers=join_answers)
        done.order[rule.id] = held
        for edit in edits:
            done.messages[edit.at : edit.at + len(edit.before)] = edit.after
            done.changes.append(edit)
        return len(done.changes) > made


def _safe(said: Utterance, spans: Sequence[Span]) -> list[Place]:
    """Those spans of an utterance, in order and apart, whose cutting loses no key information."""
    safe = [s for s in spans if not lost(said.text[s.begin : s.end], s.witness)]
    places = list(_apart(sorted((s.begin, s.end) for s in safe)))
    if not places:
        return []
    # Together once more, since what comes to stand together may say something else.
    rest, _ = cut_out(said.text, places)
    if SAYS.search(rest) and lost(said.text, "\n".join((rest, *(s.witness for s in safe)))):
        return []
    return places


def _apart(places: Sequence[Place]) -> Iterator[Place]:
    """Places in order, less those that lie over an earlier one, and empty ones."""
    done = 0
    for begin, end in places:
        if begin >= done and end > begin:
            yield begin, end
            done = end

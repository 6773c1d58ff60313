"""Messages of one conversation that are close in meaning become one.

As with repairs, a rule takes canonical messages and yields its edits, each for the messages as the
edits before it have left them (see `glmprep.repair`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from glmprep.findings import Severity, rule
from glmprep.labels import Bool
from glmprep.merging.meaning import same_keys
from glmprep.repair import BETWEEN, Edit, Turn
from glmprep.semantics.embedder import Embedder, Float32
from glmprep.semantics.lexical import Lexical
from glmprep.semantics.sentences import sentences

PLAIN = frozenset({"role", "content", "weight"})
"""Messages with any other field (calls, reasoning, part) are left alone."""
EXCHANGE = ["user", "assistant"]
SAID = 0.95
"""Closeness from which on a sentence says what another one said."""
AGAIN = 0.7
"""Closeness from which on a question was asked again; `one bath`, `one bedroom` are 0.2 to 0.5."""
COMPARED = 1 << 16
"""Pairs of sentences that are compared at most; longer messages are joined as they are."""
WORDS, MEANING = 0.2, 0.4
"""Usual thresholds for vectors of words alone, and for those of a sentence encoder."""
SPEAKER = re.compile(
    r"(?:^|(?<=[\n.。！？!?…～~]))[ \t]*"
    r"([A-Z][\w.'’-]*(?: [A-Z][\w.'’-]*){0,3}|[\u4e00-\u9fff]\w{0,9}) ?[:：](?!//)"
)
"""The name of who speaks, before the words; what only looks like one keeps messages apart, too."""


@dataclass(frozen=True, slots=True)
class Near:
    """Two texts are close where the cosine of their vectors is `threshold` or more.

    It decides what is joined, which loses nothing; to leave anything out takes AGAIN or SAID.
    Vectors are compared among those of their conversation (see `Embedder.comparable`).
    """

    embedder: Embedder
    threshold: float

    @classmethod
    def usual(cls, embedder: Embedder) -> Near:
        """With the threshold at which nine of ten pieces that are joined go on with one thought."""
        return cls(embedder, WORDS if isinstance(embedder, Lexical) else MEANING)

    def closeness(self, texts: Sequence[str], apart: int) -> Float32:
        """How close each text is to the one that comes `apart` places after it."""
        vectors = self.embedder.comparable(texts)
        return np.asarray((vectors[:-apart] * vectors[apart:]).sum(axis=1))


def merge_turns(messages: Sequence[Turn], *, near: Near) -> Iterator[Edit]:
    """The edits of all rules here, one rule after the other."""
    left = list(messages)
    for merge in (join_turns, join_exchanges):
        for edit in list(merge(left, near=near)):
            left[edit.at : edit.at + len(edit.before)] = edit.after
            yield edit


@rule("DF521", Severity.INFO)
def join_turns(messages: Sequence[Turn], *, near: Near) -> Iterator[Edit]:
    """Neighbouring messages of one role that are close in meaning were joined.

    Evidence: messages that were joined to the one of the same role before them: {count}, in {rows}
    of the conversations.
    Why: people speak in pieces; each piece costs a header, and the model would learn to go on
    talking after it has finished.
    Fix: nothing is to be done; the map of the merge holds the messages as they were. If unlike ones
    were joined, raise the threshold.
    """
    joins = np.array([_joins(one, other) for one, other in pairwise(messages)], np.bool_)
    if not joins.any():
        return
    texts = [_text(message) for message in messages]
    joins &= near.closeness(texts, 1) >= near.threshold
    taken = 0
    for first, last in _runs(joins):
        run = messages[first:last]
        joined = {**run[0], "content": _joined(texts[first:last], texts, near.embedder)}
        yield Edit(rule=join_turns.id, at=first - taken, before=run, after=[joined])
        taken += len(run) - 1


@rule("DF522", Severity.INFO)
def join_exchanges(messages: Sequence[Turn], *, near: Near) -> Iterator[Edit]:
    """What was asked and answered twice in a row now stands there once.

    Evidence: messages that were taken out, since the user asked the same again and the answers
    agree: {count}, in {rows} of the conversations.
    Why: the second answer teaches nothing that the first one does not.
    Fix: nothing is to be done; the map of the merge holds the messages as they were. If answers
    that differ were merged, raise the threshold.
    """
    again = [at for at in range(2, len(messages) - 1) if _repeats(messages, at)]
    if not again:
        return
    least = max(near.threshold, AGAIN)
    close = near.closeness([_text(message) for message in messages], 2) >= least
    left, taken = list(messages), 0
    for at in again:
        begin = at - 2 - taken
        before = left[begin : begin + 4]
        if close[at - 2] and close[at - 1] and _agree(before[:2], before[2:]):
            after = max(before[:2], before[2:], key=lambda two: len(two[1]["content"]))
            yield Edit(rule=join_exchanges.id, at=begin, before=before, after=after)
            left[begin : begin + 4] = after
            taken += 2


def _text(message: Turn) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _plain(message: Turn) -> bool:
    return isinstance(message.get("content"), str) and not any(
        message[name] for name in message.keys() - PLAIN
    )


def _joins(one: Turn, other: Turn) -> bool:
    """Whether two neighbours may become one: plain text of one speaker, trained alike."""
    return (
        one.get("role") in EXCHANGE
        and one.get("role") == other.get("role")
        and one.get("weight") == other.get("weight")
        and _plain(one)
        and _plain(other)
        and _last_speaker(one["content"]) == _first_speaker(other["content"])
    )


def _first_speaker(text: str) -> str | None:
    """Whose name stands before the first words."""
    found = SPEAKER.match(text)
    return found[1] if found else None


def _last_speaker(text: str) -> str | None:
    """Whose name was the last to stand before words."""
    return max(SPEAKER.finditer(text), key=re.Match.start, default=[None, None])[1]


def _repeats(messages: Sequence[Turn], at: int) -> bool:
    """Whether one exchange of plain text ends before message `at`, and another begins with it."""
    four = messages[at - 2 : at + 2]
    before = messages[at - 3].get("role") if at > 2 else None
    after = messages[at + 2].get("role") if at + 2 < len(messages) else None
    return (
        [message.get("role") for message in four] == EXCHANGE * 2
        and before != "user"
        and after not in ("assistant", "tool")
        and all(_plain(message) for message in four)
        and all(four[side].get("weight") == four[side + 2].get("weight") for side in (0, 1))
    )


def _agree(one: Sequence[Turn], other: Sequence[Turn]) -> bool:
    """Whether two exchanges are of the same speakers and have the same key information."""
    return all(
        same_keys(a["content"], b["content"])
        and _first_speaker(a["content"]) == _first_speaker(b["content"])
        for a, b in zip(one, other, strict=True)
    )


def _runs(joins: Bool) -> Iterator[tuple[int, int]]:
    """Where messages that belong together begin and end, two or more of them each."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], joins.astype(np.int8), [0]))))
    for first, last in edges.reshape(-1, 2).tolist():
        yield first, last + 1


def _joined(pieces: Sequence[str], around: Sequence[str], embedder: Embedder) -> str:
    """The pieces one below the other, each without the sentences that those before have said."""
    kept = [pieces[0]]
    for piece in pieces[1:]:
        new = "".join(_new(sentences(piece), sentences(kept[-1]), around, embedder)).strip()
        if new:
            kept.append(new)
    return BETWEEN.join(kept)


def _new(
    said: Sequence[str], before: Sequence[str], around: Sequence[str], embedder: Embedder
) -> Iterator[str]:
    """The sentences that none of those `before` says with the same key information.

    Compared among the texts of the conversation (`around`), so that few sentences do not look
    unlike.
    """
    if not 0 < len(said) * len(before) <= COMPARED:
        yield from said
        return
    vectors = embedder.comparable([*around, *before, *said])[len(around) :]
    close = vectors[len(before) :] @ vectors[: len(before)].T
    for sentence, closeness in zip(said, close, strict=True):
        likest = int(np.argmax(closeness))
        if closeness[likest] < SAID or not same_keys(sentence, before[likest]):
            yield sentence

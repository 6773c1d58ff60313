"""What a change did, as text of which parts were removed and parts added."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from glmprep.findings import Example
from glmprep.merging.changes import Cut
from glmprep.records import Origin
from glmprep.repair import Change, Edit, Turn

Kind = Literal["kept", "removed", "added"]
AROUND = 40
"""Characters that are shown on either side of what was cut."""
LONGEST = 600
"""Characters of a message that are compared; the rest is left out."""
SHOWN = 3
"""Pieces of one cut that are shown."""
WORD = re.compile(r"[A-Za-z0-9']+|.", re.DOTALL)
GAP = "…"


@dataclass(frozen=True, slots=True)
class Part:
    """A text and what became of it."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One change: the rule, the row and the message (from 1), and its text in parts."""

    rule: str
    where: str
    message: int
    parts: Sequence[Part]

    def as_example(self) -> Example:
        """What was removed, as the example of a finding."""
        removed = GAP.join(part.text for part in self.parts if part.kind == "removed")
        return Example(where=f"{self.where} message {self.message}", excerpt=removed)

    def as_json(self) -> dict[str, Any]:
        """The difference as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], moved: Callable[[str], str]) -> Difference:
        """What `as_json` wrote; `moved` tells where its place is now."""
        parts = [Part(**part) for part in data["parts"]]
        return cls(
            rule=data["rule"], where=moved(data["where"]), message=data["message"], parts=parts
        )


def difference(
    change: Change, before: Sequence[Turn], after: Sequence[Turn], origin: Origin
) -> Difference:
    """What a change did to some messages, in few words."""
    if isinstance(change, Cut):
        at, parts = change.at, list(_of_cut(change, after[change.at]["content"]))
    else:
        assert isinstance(change, Edit)
        at, parts = change.at, list(_between(_said(change.before), _said(change.after)))
    return Difference(rule=change.rule, where=str(origin), message=at + 1, parts=parts)


def whole(rule: str, origin: Origin, messages: Sequence[Turn]) -> Difference:
    """A whole row that is gone."""
    text = _said(messages)
    return Difference(rule=rule, where=str(origin), message=1, parts=[Part("removed", text)])


def _of_cut(cut: Cut, left: str) -> Iterator[Part]:
    """The first pieces of a cut, with some of what stands around them."""
    done = 0
    for place, text in cut.pieces[:SHOWN]:
        begin = max(done, place - AROUND)
        yield from _kept((GAP if begin > done else "") + left[begin:place])
        yield Part("removed", _short(text))
        done = place
    end = min(len(left), done + AROUND)
    more = end < len(left) or len(cut.pieces) > SHOWN
    yield from _kept(left[done:end] + (GAP if more else ""))


def _between(before: str, after: str) -> Iterator[Part]:
    """What was removed and added from one text to another, word by word."""
    one, other = WORD.findall(before), WORD.findall(after)
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        if what == "equal":
            yield Part("kept", "".join(one[a:b]))
            continue
        if a < b:
            yield Part("removed", "".join(one[a:b]))
        if c < d:
            yield Part("added", "".join(other[c:d]))


def _said(messages: Sequence[Turn]) -> str:
    """Messages as text: who says what."""
    return "\n".join(
        f"{m.get('role')}: {_short(str(m.get('content') or ''))}" for m in messages[:6]
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + GAP


def _kept(text: str) -> Iterator[Part]:
    if text:
        yield Part("kept", text)

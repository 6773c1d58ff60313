"""Shorten what is only read: questions, system messages and results of tools that do not fit.

Nothing of them is trained, so they need not be cut where both sides encode to the ids of the whole.
What is left out goes into a record, with its place and its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from glmprep.cut import head, tail
from glmprep.findings import Example
from glmprep.framing import NOWHERE, Framing
from glmprep.languages import LANGUAGES, languages
from glmprep.records import Conversation, Message, Role
from glmprep.steps import Turn
from glmprep.tokenizer import Tokenizer

Shorten = Literal["end", "middle"]
"""What is kept of a prompt that is too long: its end, or its start and its end."""
MARKERS = {
    "chinese": "\n[……此处略去 {tokens:,} 个 token……]\n",
    "other": "\n[… {tokens:,} tokens left out …]\n",
}
"""What stands where the middle was, in the text's language."""
CHINESE = ("chinese", "mixed")
SAMPLE = 2000
"""Characters of the start, and of the end, that tell the language."""
LEAST = 4
"""Tokens of the start, and of the end, below which the end alone is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The characters `start` … `end - 1` of a turn that are left out, and their tokens."""

    turn: Turn
    start: int
    end: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortened:
    """What is left out of one message of an input row.

    `text` are the characters `start` … `end - 1` (from 0) of the message as the template reads it;
    `tokens` of the message's `of` tokens stay out with it. `message` counts from 1.
    """

    where: str
    conversation: str
    message: int
    role: Role
    tokens: int
    of: int
    start: int
    end: int
    text: str

    @classmethod
    def made(cls, conversation: Conversation, gap: Gap) -> Shortened:
        """The record of a gap."""
        message = gap.turn.message
        return cls(
            where=str(conversation.origin),
            conversation=conversation.id,
            message=gap.turn.number + 1,
            role=message.role,
            tokens=gap.tokens,
            of=gap.turn.tokens,
            start=gap.start,
            end=gap.end,
            text=message.content[gap.start : gap.end],
        )

    @property
    def example(self) -> Example:
        """The place, as a finding shows it."""
        excerpt = f"{self.tokens} of {self.of} tokens stay out"
        return Example(where=f"{self.where} message {self.message}", excerpt=excerpt)

    @property
    def left_out(self) -> Message:
        """The text as a message, for a note on it."""
        return Message(role=self.role, content=self.text)

    def as_json(self) -> dict[str, Any]:
        """One line of the list of all that was left out."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The turns that are left, and what is left out of these and of others."""

    turns: tuple[Turn, ...]
    gaps: tuple[Gap, ...] = ()


class Shortener:
    """Makes turns of which nothing is trained fit; `keep` says what stays of them."""

    def __init__(self, framing: Framing, tokenizer: Tokenizer, keep: Shorten) -> None:
        self._framing = framing
        self._tokenizer = tokenizer
        self._keep = keep

    def prompt(self, turns: Sequence[Turn], room: int) -> Fitted:
        """A question of one or more turns in at most `room` tokens; some may be left out whole."""
        fitted = self.evenly(turns, room) if self._keep == "middle" else None
        return fitted or self._last(turns, room)

    def evenly(self, turns: Sequence[Turn], room: int) -> Fitted | None:
        """The turns in at most `room` tokens, with something of each; None where that is no way.

        Short turns, such as an instruction before or behind a transcript, stay whole; long ones
        have an equal share each.
        """
        share = _share([turn.tokens for turn in turns], room)
        made = [
            _whole(turn) if turn.tokens <= share else self._short(turn, share) for turn in turns
        ]
        return _joined(made) if all(one.turns for one in made) else None

    def _last(self, turns: Sequence[Turn], room: int) -> Fitted:
        """The last turns that fit, and the end of the one before them."""
        made: list[Fitted] = []
        for turn in reversed(turns):
            made.append(_whole(turn) if turn.tokens <= room else self._end(turn, room))
            room = room - turn.tokens if turn.tokens <= room else 0
        return _joined(made[::-1])

    def _short(self, turn: Turn, room: int) -> Fitted:
        short = self._middle(turn, room) if self._keep == "middle" else None
        return short or self._end(turn, room)

    def _end(self, turn: Turn, room: int) -> Fitted:
        """The end of a turn, which begins as the rest of a turn does; nothing where none fits."""
        content = turn.message.content
        inside = room - self._framing.rest(turn.message.role)
        end = tail(content, inside, self._tokenizer) if inside > 0 else ""
        if not end:
            return Fitted(turns=(), gaps=(_gap(turn, 0, len(content), turn.tokens),))
        kept = self._framing.rest(turn.message.role) + self._length(end)
        gap = _gap(turn, 0, len(content) - len(end), turn.tokens - kept)
        message = replace(turn.message, content=end, part=(1, 2))
        return Fitted(turns=(replace(turn, message=message, tokens=kept),), gaps=(gap,))

    def _middle(self, turn: Turn, room: int) -> Fitted | None:
        """Start and end of a turn, with a marker between them; None where there is no room."""
        content = turn.message.content
        marker = MARKERS["chinese" if _is_chinese(content) else "other"]
        overhead = self._framing.rest(turn.message.role)
        inside = room - overhead - self._length(marker.format(tokens=turn.tokens))
        if inside < 2 * LEAST:
            return None
        start = head(content, inside // 2, self._tokenizer)
        around = overhead + self._length(start)
        end = tail(content, inside - self._length(start), self._tokenizer)
        if not start or not end or len(start) + len(end) >= len(content):
            return None
        out = turn.tokens - around - self._length(end)
        gap = _gap(turn, len(start), len(content) - len(end), out)
        text = start + marker.format(tokens=out) + end
        short = replace(turn.message, content=text)
        return Fitted(
            turns=(replace(turn, message=short, tokens=overhead + self._length(text)),), gaps=(gap,)
        )

    def _length(self, text: str) -> int:
        return len(self._tokenizer.encode(text))


def _whole(turn: Turn) -> Fitted:
    return Fitted(turns=(turn,))


def _joined(made: Sequence[Fitted]) -> Fitted:
    turns = tuple(turn for one in made for turn in one.turns)
    return Fitted(turns=turns, gaps=tuple(gap for one in made for gap in one.gaps))


def _gap(turn: Turn, start: int, end: int, tokens: int) -> Gap:
    return Gap(turn=turn, start=start, end=end, tokens=tokens)


def _share(tokens: Sequence[int], room: int) -> int:
    """The most that each may have of a room where those that need less leave the rest to others."""
    left = room
    for place, need in enumerate(sorted(tokens)):
        share = left // (len(tokens) - place)
        if need > share:
            return share
        left -= need
    return max(tokens, default=0)


def _is_chinese(text: str) -> bool:
    ends = Message(role="user", content=f"{text[:SAMPLE]}\n{text[-SAMPLE:]}")
    (found,) = languages([Conversation(id="", messages=(ends,), origin=NOWHERE)])
    return LANGUAGES[found] in CHINESE

"""A conversation as it was spoken: who said what, and which of it may be trimmed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Turn = Mapping[str, Any]
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n(?:.*?^[ \t]*\1[`~]*[ \t]*$|.*\Z)", re.M | re.S)
INLINE = re.compile(r"`[^`\n]+`")
LABEL = re.compile(
    r"^(?P<name>[^\s:：`{}<>\[\]|#>*-][^:：\n|]{0,39}?)[ \t]*[:：](?!//)[ \t]*", re.M
)
LINE = re.compile(r"^[ \t]*\S", re.M)
FEWEST_LINES, LABELLED = 3, 0.6
"""A message is a transcript where so many lines name a speaker, and such a share of them."""
ASKS = re.compile(r"[?？]|(?:吗|呢|吧|么|没有|对不对|是不是)[。.!！~～…\s]*\Z")
LOOK_BACK, TAIL = 3, 120
HIDDEN = "\ufffc"
"""Stands for each character of code, which no rule reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What one speaker says without a break: a message, or a labelled line of a transcript.

    It is `text` at `start` of message `turn`, code hidden; `whole` is where it stands with its
    label and line end. `label` is the speaker's name in a transcript, empty elsewhere. `open` says
    that it may be trimmed, `answers` that it follows somebody's question.
    """

    turn: int
    role: str
    label: str
    start: int
    text: str
    whole: tuple[int, int]
    open: bool
    answers: bool

    @property
    def speaker(self) -> tuple[str, str]:
        """Who speaks."""
        return self.role, self.label


def listen(messages: Sequence[Turn], *, answers: bool) -> list[Utterance]:
    """All that is said in a conversation, in order; trained answers are open only if asked for."""
    heard: list[Utterance] = []
    for turn, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, str):
            continue
        text = _without_code(content)
        for label, start, end, whole in _parts(text):
            speaker = (str(message["role"]), label)
            heard.append(
                Utterance(
                    turn=turn,
                    role=speaker[0],
                    label=label,
                    start=start,
                    text=text[start:end],
                    whole=whole,
                    open=is_open(message, answers=answers),
                    answers=_asked(heard, speaker),
                )
            )
    return heard


def is_open(message: Turn, *, answers: bool) -> bool:
    """Whether a message's text may be trimmed: the user's, and the assistant's where not trained.

    System messages, results of tools and pieces of a turn that was cut never are.
    """
    role = message.get("role")
    if message.get("part") is not None or role not in ("user", "assistant"):
        return False
    return role == "user" or answers or message.get("weight") == 0


def _parts(text: str) -> Iterator[tuple[str, int, int, tuple[int, int]]]:
    """Label, begin and end of the speech, and the whole of each utterance of a message."""
    labels = list(LABEL.finditer(text))
    lines = len(LINE.findall(text)) if len(labels) >= FEWEST_LINES else 0
    names = {found["name"] for found in labels}
    if not lines or len(labels) < LABELLED * lines or len(names) > len(labels) / 2:
        yield "", 0, len(text), (0, len(text))
        return
    if text[: labels[0].start()].strip():
        yield "", 0, labels[0].start(), (0, labels[0].start())
    ends = [*(found.start() for found in labels[1:]), len(text)]
    for found, end in zip(labels, ends, strict=True):
        spoken = len(text[found.end() : end].rstrip("\n"))
        yield found["name"], found.end(), found.end() + spoken, (found.start(), end)


def _asked(heard: Sequence[Utterance], speaker: tuple[str, str]) -> bool:
    """Whether one of the last to speak asked something, before the speaker last spoke."""
    for said in heard[: -LOOK_BACK - 1 : -1]:
        if said.speaker == speaker:
            return False
        if ASKS.search(said.text[-TAIL:]):
            return True
    return False


def _without_code(text: str) -> str:
    """The text with each character of code hidden, so that all places stay."""
    if "`" not in text and "~~~" not in text:
        return text
    for code in (FENCE, INLINE):
        text = code.sub(lambda found: HIDDEN * len(found[0]), text)
    return text

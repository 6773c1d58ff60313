"""Mend what is safe to mend in a conversation, so that every change can be undone.

Repairs work on canonical rows (see `glmprep.schemas`), before they become conversations. Each
change replaces some messages by others and is kept as such an `Edit`; the edits of a row, taken
back in reverse order, give the row that was read. A rule here is a repair: it takes the messages
and yields its edits, each for the messages as the edits before it have left them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from glmprep.findings import Rule, Severity, rule

Turn = Mapping[str, Any]
BOM = "\ufeff"
LINE_END = re.compile(r"\r\n?")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
DIRTY = re.compile(rf"{LINE_END.pattern}|{CONTROL.pattern}|^{BOM}")
BETWEEN = "\n"
"""Stands between the texts of messages that are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A rule replaced the messages `before`, which began at message `at` (from 0), by `after`."""

    rule: str
    at: int
    before: Sequence[Turn]
    after: Sequence[Turn]

    def as_json(self) -> dict[str, Any]:
        """The edit as plain JSON values."""
        return {
            "rule": self.rule,
            "at": self.at,
            "before": list(self.before),
            "after": list(self.after),
        }

    def take_back(self, messages: list[Any]) -> None:
        """Undo the edit in a list of messages; ValueError where they are not those that it made."""
        _replace(messages, self.at, self.after, self.before)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Edit:
        """The edit that `as_json` wrote; raises KeyError, TypeError or ValueError for another."""
        at, before, after = value["at"], value["before"], value["after"]
        lists = isinstance(before, list) and isinstance(after, list)
        if type(at) is not int or at < 0 or not lists:
            raise TypeError("an edit has a place and two lists of messages")
        if not all(isinstance(message, dict) for message in (*before, *after)):
            raise TypeError("a message is an object")
        return cls(rule=str(value["rule"]), at=at, before=before, after=after)


class Change(Protocol):
    """Something that a rule did to the messages of a row."""

    @property
    def rule(self) -> str:
        """The rule's id."""

    def take_back(self, messages: list[Any]) -> None:
        """Undo it in a list of messages; raises ValueError for those of another row."""

    def as_json(self) -> dict[str, Any]:
        """The change as plain JSON values."""


@rule("DF031", Severity.INFO)
def clean_text(messages: Sequence[Turn]) -> Iterator[Edit]:
    """Text was cleaned.

    Evidence: messages from which control characters, a byte order mark or foreign line ends were
    taken: {count}, in {rows} of the conversations.
    Why: such characters are debris of other programs; the model would learn to write them.
    Fix: nothing is to be done; the ledger of repairs holds the text as it was.
    """
    for at, message in enumerate(messages):
        cleaned = {name: _clean(message[name]) for name in TEXTS if name in message}
        if any(cleaned[name] != message[name] for name in cleaned):
            yield Edit(rule=clean_text.id, at=at, before=[message], after=[{**message, **cleaned}])


@rule("DF032", Severity.INFO)
def fill_null(messages: Sequence[Turn]) -> Iterator[Edit]:
    """A tool call's missing text was filled.

    Evidence: tool calls whose content was null and is now empty text: {count}, in {rows} of the
    conversations.
    Why: several trainers and templates write null as the word "None" before the call.
    Fix: nothing is to be done; the ledger of repairs tells which they were.
    """
    for at, message in enumerate(messages):
        if message.get("tool_calls") and message.get("content") is None:
            yield Edit(
                rule=fill_null.id, at=at, before=[message], after=[{**message, "content": ""}]
            )


@rule("DF033", Severity.INFO)
def drop_leading_answer(messages: Sequence[Turn]) -> Iterator[Edit]:
    """An answer to nothing was dropped.

    Evidence: messages of the assistant before anyone had spoken, dropped: {count}, in {rows} of
    the conversations.
    Why: in use a person speaks first, so the model would be trained on what does not occur.
    Fix: nothing is to be done; the ledger of repairs holds what was dropped.
    """
    begin = next((t for t, m in enumerate(messages) if m.get("role") != "system"), 0)
    spoken = next((t for t, m in enumerate(messages) if m.get("role") == "user"), begin)
    if begin < spoken and messages[begin].get("role") == "assistant":
        yield Edit(rule=drop_leading_answer.id, at=begin, before=messages[begin:spoken], after=[])


@rule("DF034", Severity.INFO)
def drop_trailing_question(messages: Sequence[Turn]) -> Iterator[Edit]:
    """A question that nobody answers was dropped.

    Evidence: messages of the user at a conversation's end, dropped: {count}, in {rows} of the
    conversations.
    Why: these tokens would be computed and never trained.
    Fix: nothing is to be done; the ledger of repairs holds what was dropped.
    """
    end = len(messages)
    while end and messages[end - 1].get("role") == "user":
        end -= 1
    if 0 < end < len(messages) and any(m.get("role") == "assistant" for m in messages):
        yield Edit(rule=drop_trailing_question.id, at=end, before=messages[end:], after=[])


@rule("DF035", Severity.INFO)
def merge_same_role(messages: Sequence[Turn]) -> Iterator[Edit]:
    """Messages of one role were merged.

    Evidence: messages merged into the one of the same role before them: {count}, in {rows} of the
    conversations.
    Why: people write in bursts; the template would put two turns of one role side by side, and the
    model would learn to go on talking after it has finished.
    Fix: nothing is to be done; the ledger of repairs holds them as they were.
    """
    at = 0
    left = list(messages)
    while at + 1 < len(left):
        end = at + 1
        while end < len(left) and joins(left[end - 1], left[end]):
            end += 1
        if end - at > 1:
            whole = merged(left[at:end])
            yield Edit(rule=merge_same_role.id, at=at, before=left[at:end], after=[whole])
            left[at:end] = [whole]
        at += 1


TEXTS = ("content", "reasoning_content")
REPAIRS: tuple[Rule[Callable[..., Iterator[Edit]]], ...] = (
    clean_text,
    fill_null,
    drop_leading_answer,
    drop_trailing_question,
    merge_same_role,
)


def repair(row: dict[str, Any]) -> tuple[dict[str, Any], list[Edit]]:
    """A canonical row with all repairs done, and what was changed, in order.

    A row whose messages are no list of objects comes back as it is; so does one without need.
    """
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return row, []
    edits: list[Edit] = []
    messages = list(messages)
    for mend in REPAIRS:
        for edit in list(mend(messages)):
            _replace(messages, edit.at, edit.before, edit.after)
            edits.append(edit)
    return ({**row, "messages": messages} if edits else row), edits


def undo(row: Mapping[str, Any], edits: Sequence[Change]) -> dict[str, Any]:
    """The row as it was before `edits`; raises ValueError where it is not the row they made.

    A row that was written and read again need only have the same roles where it was changed: its
    fields may have been put in another form.
    """
    messages = list(row["messages"])
    for edit in reversed(edits):
        edit.take_back(messages)
    return {**row, "messages": messages}


def _replace(messages: list[Any], at: int, old: Sequence[Turn], new: Sequence[Turn]) -> None:
    replaced = messages[at : at + len(old)]
    if [m.get("role") for m in replaced] != [m.get("role") for m in old]:
        raise ValueError(f"message {at + 1} is not the one that was changed")
    messages[at : at + len(old)] = new


def _clean(content: Any) -> Any:
    """Text, or the text parts of a list, without what does not belong there."""
    if isinstance(content, list):
        return [
            {**part, "text": _clean(part["text"])}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    if not isinstance(content, str) or not DIRTY.search(content):
        return content
    return CONTROL.sub("", LINE_END.sub("\n", content.removeprefix(BOM)))


def joins(one: Turn, other: Turn) -> bool:
    """Whether two neighbours are one turn: plain text of one role, trained alike.

    The last of several may call a tool; pieces of a turn that was cut are left alone.
    """
    role = one.get("role")
    return (
        role in ("user", "assistant")
        and role == other.get("role")
        and not one.get("tool_calls")
        and one.get("weight") == other.get("weight")
        and not any(m.get("part") or not isinstance(m.get("content"), str) for m in (one, other))
        and not other.get("reasoning_content")
        and not {*one, *other} - MERGED_FIELDS
    )


MERGED_FIELDS = frozenset({"role", "content", "tool_calls", "weight", "reasoning_content", "part"})


def merged(turns: Sequence[Turn]) -> Turn:
    """The one turn that turns which join make."""
    texts = [turn["content"] for turn in turns if turn["content"]]
    calls = {"tool_calls": turns[-1]["tool_calls"]} if turns[-1].get("tool_calls") else {}
    return {**turns[0], "content": BETWEEN.join(texts), **calls}

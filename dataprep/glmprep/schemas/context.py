"""What decides how a row is understood, and what is noted on the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from glmprep.findings import Rule
from glmprep.records import ROLES
from glmprep.schemas.rules import second_conversation, unheeded_training_field, unread_field

Row = dict[str, Any]
Note = tuple[Rule[Any], list[str]]

ROLE_NAMES: Mapping[str, str] = {
    **{role: role for role in ROLES},
    "developer": "system",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
}


@dataclass(slots=True)
class Look:
    """A row as the forms look at it: the names of roles, and its list of turns and their field.

    `said` are the messages where every turn is a role and its text and nothing else, as most are.
    """

    row: Row
    names: Mapping[str, str]
    field: str = ""
    turns: Any = None
    said: list[Row] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Role names, the side of preference rows that is read, and the notes on the row at hand."""

    names: Mapping[str, str]
    take: Literal["chosen"] | None = None
    notes: list[Note] = field(default_factory=list)

    def note_unread(self, fields: Collection[str]) -> None:
        """Note fields that no one reads, each by the rule that is about it."""
        for rule in (unheeded_training_field, second_conversation, unread_field):
            if found := rule(fields):
                self.notes.append((rule, found))

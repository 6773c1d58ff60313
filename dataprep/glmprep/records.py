"""The records that pass from stage to stage: frozen, slotted, and checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
Untrained = Literal["weight", "policy", "context", "elsewhere"]
"""Why a turn is not trained: the data says so ("weight": 0), `--train-on` does, it is replayed
before a segment, or another row of the same conversation trains it."""
ROLES: frozenset[str] = frozenset(get_args(Role))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from: the file as it was named, and its line (from 1).

    In a file that is one JSON array the item's place (from 1) stands for the line.
    """

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """One JSON value as it was read."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A row that goes no further: which rule, and in one line why."""

    rule: str
    reason: str
    origin: Origin
    conversation: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One line of `rejects.jsonl`."""
        return {
            "where": str(self.origin),
            "rule": self.rule,
            "reason": self.reason,
            "conversation": self.conversation,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the assistant makes; `arguments` is JSON text, as the model would write it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn.

    `reasoning` is what the assistant thinks before it speaks. `untrained` says why the turn is not
    trained, None where it is. `part` is (i, n) for the i-th (from 0) of the n pieces of a turn that
    was cut; only its last piece ends in a stop token.
    """

    role: Role
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    untrained: Untrained | None = None
    part: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.part is not None and not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f"part {self.part} is not (i, n) with 0 <= i < n")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a tool call by '{self.role}'")
        if self.reasoning and self.role != "assistant":
            raise ValueError(f"reasoning by '{self.role}'")

    @property
    def trained(self) -> bool:
        """Whether the turn is to be trained where the assistant speaks."""
        return self.untrained is None

    @property
    def begins(self) -> bool:
        """Whether the turn begins in this message (it is whole, or the first piece)."""
        return self.part is None or self.part[0] == 0

    @property
    def ends(self) -> bool:
        """Whether the turn ends in this message (it is whole, or the last piece)."""
        return self.part is None or self.part[0] == self.part[1] - 1


def plain(role: Role, content: str) -> Message:
    """`Message(role=role, content=content)` in half the time; nearly all messages are such.

    Nothing in it needs a check, and the slots are filled without the detour that a frozen record
    takes.
    """
    made = _new(Message)
    _set_role(made, role)
    _set_content(made, content)
    _set_reasoning(made, "")
    _set_tool_calls(made, ())
    _set_untrained(made, None)
    _set_part(made, None)
    return made


_new = object.__new__
_set_role, _set_content, _set_reasoning, _set_tool_calls, _set_untrained, _set_part = (
    Message.__dict__[field.name].__set__ for field in fields(Message)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in order, the tools that are offered, and where it all came from."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin

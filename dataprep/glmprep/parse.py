"""Rows, in whatever known form, to conversations.

Between the two a row is canonical (see `glmprep.schemas`); there it can be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from glmprep.records import Conversation, Message, Origin, RawRow, Rejection, ToolCall, plain
from glmprep.schemas import Schemas, calls
from glmprep.schemas.context import ROLE_NAMES, Context, Row
from glmprep.schemas.rules import (
    Malformed,
    content_not_text,
    kind,
    malformed_marks,
    malformed_tools,
    misplaced_reasoning,
    require,
    unheeded_training_field,
    unknown_schema,
)

if TYPE_CHECKING:
    from glmprep.schemas.tally import Tally

Mend = Callable[[Row, Origin], Row]


def parse(
    rows: Iterable[RawRow | Rejection],
    roles: Mapping[str, str] | None = None,
    *,
    take: Literal["chosen"] | None = None,
    mend: Mend | None = None,
    tally: Tally | None = None,
) -> Iterator[Conversation | Rejection]:
    """Rows as conversations; rejections pass through.

    `roles` maps further role names, `take` is the side of preference rows that is read, `mend`
    gets each canonical row and returns the one to go on with, and `tally` counts.
    """
    context = Context(names={**ROLE_NAMES, **(roles or {})}, take=take)
    schemas, notes = Schemas(context), context.notes
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        notes.clear()
        try:
            schema, value = schemas.canonical(row.value)
            if mend is not None:
                value = mend(value, row.origin)
            conversation = _conversation(value, row.origin, context)
        except Malformed as error:
            yield Rejection(rule=error.rule_id, reason=str(error), origin=row.origin)
            continue
        except RecursionError:
            reason = "nested too deeply"
            yield Rejection(rule=unknown_schema.id, reason=reason, origin=row.origin)
            continue
        if tally is not None:
            tally.schemas[schema] += 1
            if notes:
                tally.note(notes, row.origin)
        yield conversation


def _conversation(row: Row, origin: Origin, context: Context) -> Conversation:
    """The conversation of a canonical row."""
    turns = row["messages"]
    if not turns:
        raise Malformed(unknown_schema, "the list of messages is empty")
    name = row.get("id")
    return Conversation(
        id=f"{PurePath(origin.path).name}:{origin.line}" if name is None else str(name),
        messages=tuple(
            [
                plain(turn["role"], turn["content"])
                if len(turn) == 2 and type(turn.get("content")) is str
                else _message(turn, place, context)
                for place, turn in enumerate(turns, 1)
            ]
        ),
        tools=calls.tools(row.get("tools")),
        origin=origin,
    )


def _message(turn: Row, place: int, context: Context) -> Message:
    """A canonical message that has more than a role and text."""
    content = turn.get("content")
    if not isinstance(content, str):
        content = _text(content, place)
    weight, part = turn.get("weight"), turn.get("part")
    if weight is not None or part is not None:
        require(malformed_marks, turn, place)
    role = turn["role"]
    if weight == 1 and role != "assistant":
        context.notes.append((unheeded_training_field, [f"weight 1 of the {role}"]))
    return Message(
        role=role,
        content=content,
        reasoning=_reasoning(turn, place),
        tool_calls=_tool_calls(turn, place),
        untrained="weight" if weight == 0 and role == "assistant" else None,
        part=tuple(part) if part else None,
    )


def _text(content: Any, place: int) -> str:
    """The text of content that is null or a list of parts."""
    require(content_not_text, content, place)
    return "".join(part["text"] for part in content or ())


def _reasoning(turn: Row, place: int) -> str:
    reasoning = turn.get("reasoning_content")
    if not reasoning:
        return ""
    if not isinstance(reasoning, str):
        raise Malformed(content_not_text, f"reasoning is {kind(reasoning)}, not text", place)
    require(misplaced_reasoning, turn["role"], place)
    return reasoning


def _tool_calls(turn: Row, place: int) -> tuple[ToolCall, ...]:
    if not turn.get("tool_calls"):
        return ()
    if turn["role"] != "assistant":
        raise Malformed(malformed_tools, f"a tool call by '{turn['role']}'", place)
    named = calls.named_arguments(turn["tool_calls"], place)
    return tuple(ToolCall(name=name, arguments=arguments) for name, arguments in named)

"""Turns of all forms to canonical messages, and messages to a canonical row.

A turn has its role under `role` or `from` and its text under `content` or `value`; the text may be
a list of parts. Reasoning, tool calls and the mark of what is trained come under several names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from glmprep.schemas import calls
from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.rules import (
    LISTS,
    MARKS,
    Malformed,
    content_not_text,
    contradiction,
    kind,
    listed,
    malformed_marks,
    malformed_tools,
    malformed_training_mark,
    misplaced_reasoning,
    require,
    unknown_role,
    unknown_schema,
)

CALL = "function_call"
"""The role of a turn whose text is a tool call (ShareGPT; ms-swift says `tool_call`)."""
CALL_ROLES = (CALL, "tool_call")
RESULT = "observation"
"""The role of a tool's result (GLM, ShareGPT)."""
SPECIAL_ROLES = (*CALL_ROLES, RESULT)
FIELDS = frozenset(
    ["role", "content", "tool_calls", "weight", "part", "reasoning_content", "tool_call_id"]
)
"""What a canonical message consists of."""
REASONING = ("reasoning_content", "reasoning", "thinking")
ROLE_AND_TEXT = ("role", "content")
FROM_AND_VALUE = ("from", "value")
READ = FIELDS | {"from", "value", "function_call", "tools", *REASONING, *MARKS}
SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")
ALWAYS_READ = frozenset(("id", "origin", *SYSTEM, *TOOLS))
"""Fields of a row that every form may have; `origin` is where `glmprep segment` took it from."""


def look(row: Row, context: Context) -> Look:
    """A row and its turns, from JSON text too; Malformed for text that is no JSON."""
    for name in LISTS:
        if (turns := row.get(name)) is not None:
            if isinstance(turns, str):
                turns = _loads(turns, name)
            return Look(row, context.names, name, turns, _said(turns, context.names))
    return Look(row, context.names)


def _loads(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(unknown_schema, f"{name!r} is text, not a list of messages") from error


def _said(turns: Any, names: Mapping[str, str]) -> list[Row] | None:
    """The messages of turns with a role and text alone; None where one of them is anything else."""
    if type(turns) is not list:
        return None
    made: list[Row] = []
    said_by, said = ROLE_AND_TEXT
    if turns and type(turns[0]) is dict and "from" in turns[0]:
        said_by, said = FROM_AND_VALUE
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return None
        called, text = turn.get(said_by), turn.get(said)
        if type(text) is not str or type(called) is not str or called in SPECIAL_ROLES:
            return None
        role = names.get(called)
        if role is None:
            return None
        made.append({"role": role, "content": text})
    return made


def list_row(
    look: Look, context: Context, numbered: Iterable[tuple[int, Any]] | None = None
) -> Row:
    """The canonical row of one whose turns stand in a list.

    `numbered` are the turns with their places (from 1) where a form has changed them.
    """
    turns, made = look.turns, look.said
    if not isinstance(turns, list):
        raise Malformed(unknown_schema, f"the messages are {kind(turns)}, not a list")
    if not turns:
        raise Malformed(unknown_schema, "the list of messages is empty")
    tools: tuple[Mapping[str, Any], ...] = ()
    if made is None:
        made = messages(enumerate(turns, 1) if numbered is None else numbered, context)
        for turn in turns:
            if isinstance(turn, dict) and turn.get("tools"):
                tools += calls.tools(turn["tools"])
    return assemble(look.row, made, context, read=(look.field,), more_tools=tools)


def messages(numbered: Iterable[tuple[int, Any]], context: Context) -> list[Row]:
    """Canonical messages; a turn that is only a call joins the assistant's words before it."""
    made: list[Row] = []
    for place, turn in numbered:
        if not isinstance(turn, dict):
            raise Malformed(unknown_schema, f"message {place} is {kind(turn)}, not an object")
        message = _message(turn, place, context)
        if message.pop(CALL, False) and made and _goes_on(made[-1], message):
            said = made[-1]
            together = [*said.get("tool_calls", ()), *message["tool_calls"]]
            made[-1] = {**said, "tool_calls": together}
        else:
            made.append(message)
    return made


def _goes_on(said: Row, call: Row) -> bool:
    """Whether the assistant called right after it spoke, or made several calls at once."""
    return (
        said["role"] == call["role"]
        and said.get("weight") == call.get("weight")
        and said.get("part") is None
    )


def _message(turn: Row, place: int, context: Context) -> Row:
    """One turn; under the key CALL whether it is nothing but a tool call."""
    called = turn.get("role")
    if called is None:
        called = turn.get("from")
    if called is None:
        reason = f"says neither 'role' nor 'from'; its fields: {listed(turn)}"
        raise Malformed(unknown_schema, reason, place)
    role = context.names.get(called) if isinstance(called, str) else None
    if role is None:
        raise Malformed(unknown_role, str(unknown_role(called, context.names)), place)
    content = turn.get("content")
    if content is None:
        content = turn.get("value")
    if len(turn) == 2 and isinstance(content, str) and called not in CALL_ROLES:
        return {"role": role, "content": content}
    return _rich_message(turn, place, context, str(called), role, content)


def _rich_message(
    turn: Row, place: int, context: Context, called: str, role: str, content: Any
) -> Row:
    made: Row = {"role": role, "content": content}
    if called in CALL_ROLES:
        value = calls.loads(content, place) if isinstance(content, str) else content
        made |= {"content": "", "tool_calls": calls.tool_calls(value, place), CALL: True}
    else:
        _speak(made, turn, content, place)
    if role != "assistant" and made.get("tool_calls"):
        raise Malformed(malformed_tools, f"a tool call by '{role}'", place)
    if role != "assistant" and made.get("reasoning_content"):
        raise Malformed(misplaced_reasoning, str(misplaced_reasoning(role)), place)
    _mark(made, turn, place)
    unread = [name for name in turn if name not in READ and turn[name]]
    if role == "tool" and "name" in unread:  # of the tool: the call before says it
        unread.remove("name")
    if unread:
        context.note_unread(unread)
    return made


def _speak(made: Row, turn: Row, content: Any, place: int) -> None:
    """What a turn says, thinks and calls."""
    named = {name: turn[name] for name in REASONING if turn.get(name) is not None}
    found: list[Any] = [turn["tool_calls"]] if turn.get("tool_calls") else []
    if turn.get("function_call"):
        require(contradiction, {k: turn.get(k) for k in ("tool_calls", "function_call")}, place)
        found.append(turn["function_call"])
    if isinstance(content, list):
        text, thought, called = split_parts(content, place)
        made["content"] = text
        named |= {"parts": thought} if thought else {}
        found += called
    else:
        require(content_not_text, content, place)
    require(contradiction, named, place)
    for thought in named.values():
        if not isinstance(thought, str):
            raise Malformed(content_not_text, f"reasoning is {kind(thought)}, not text", place)
        made |= {"reasoning_content": thought} if thought else {}
    if found:
        made["tool_calls"] = [call for value in found for call in calls.tool_calls(value, place)]


def split_parts(parts: Sequence[Any], place: int | None) -> tuple[str, str, list[Any]]:
    """Text, reasoning and calls of content in parts (OpenAI's, or LLaMA-Factory's of version 1)."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": [], "tool_call": []}
    for part in parts:
        type_ = part.get("type") if isinstance(part, dict) else None
        value = part.get("text", part.get("value")) if type_ is not None else None
        if not isinstance(type_, str) or type_ not in texts or not isinstance(value, str):
            raise Malformed(content_not_text, str(content_not_text(parts)), place)
        texts[type_].append(value)
    called = [calls.loads(text, place) for text in texts["tool_call"]]
    return "".join(texts["text"]), "".join(texts["reasoning"]), called


def _mark(made: Row, turn: Row, place: int) -> None:
    """`weight` from what marks a turn as trained or not, and `part`."""
    require(malformed_marks, turn, place)
    require(malformed_training_mark, turn, place)
    marks = {n: bool(turn[n]) for n in ("weight", *MARKS) if turn.get(n) is not None}
    if len(set(marks.values())) > 1:
        raise Malformed(contradiction, f"{' and '.join(marks)} contradict each other", place)
    if marks:
        made["weight"] = int(next(iter(marks.values())))
    if turn.get("part") is not None:
        made["part"] = turn["part"]


def assemble(
    row: Row,
    made: list[Row],
    context: Context,
    *,
    read: Collection[str],
    more_tools: Sequence[Mapping[str, Any]] = (),
) -> Row:
    """A canonical row of messages and what stands beside them; `read` are the fields used up."""
    whole: Row = {"messages": made}
    tools: tuple[Mapping[str, Any], ...] = ()
    if not set(read).issuperset(row):
        # A reward of 0 says something, a null or an empty list of pictures does not.
        unread = [
            name
            for name, value in row.items()
            if name not in read and name not in ALWAYS_READ and (value or value == 0)
        ]
        if unread:
            context.note_unread(unread)
        if row.get("id") is not None:
            whole["id"] = row["id"]
        _open(made, one_of(row, SYSTEM))
        tools = calls.tools(one_of(row, TOOLS))
    if tools or more_tools:
        whole["tools"] = [*tools, *more_tools]
    return whole


def _open(made: list[Row], system: Any) -> None:
    """Put a system text before the messages, unless it stands there already."""
    if system is None:
        return
    if isinstance(system, list):
        system = split_parts(system, None)[0]
    require(content_not_text, system)
    if system and (made[0]["role"], made[0]["content"]) != ("system", system):
        made.insert(0, {"role": "system", "content": system})


def one_of(row: Row, names: tuple[str, str]) -> Any:
    """The value of the one field that a row has of two that mean the same."""
    one, other = names
    if row.get(one) and row.get(other):
        require(contradiction, {name: row[name] for name in names})
    return row.get(one) or row.get(other)

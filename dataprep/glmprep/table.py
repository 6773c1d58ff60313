"""Conversations as a flat polars table, one row per message: what the message rules look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from glmprep.records import Conversation, Message

Tool = Mapping[str, Any]
COUNTS = ("calls", "malformed", "undeclared", "misfits", "results")
"""What is counted of a message's calls."""


def message_table(conversations: Sequence[Conversation]) -> pl.DataFrame:
    """One row per message, in order.

    row, turn: which conversation of the batch, and which of its `turns` messages (from 0);
    role, content, reasoning; trained, ends: as in Message; whole: not a piece of a cut turn;
    calls: number of tool calls; called: their names and arguments, one call a line;
    malformed: of the calls whose arguments are no JSON object; undeclared: of those that name no
    tool of the conversation, 0 where it offers none; misfits: of those that do not fit their tool's
    definition; results: of the tool messages that follow the calls;
    repeated_tools: how many of the conversation's tools have the name of another one;
    prev_role, prev_calls, prev_ends, next_role: the neighbours, null at a conversation's ends.
    """
    messages = [message for c in conversations for message in c.messages]
    turns = np.array([len(c.messages) for c in conversations], np.uint32)
    row = np.repeat(np.arange(len(turns), dtype=np.uint32), turns)
    begins = np.repeat(np.cumsum(turns, dtype=np.uint32) - turns, turns)
    # Most messages have a role and text alone: one look at all, and then only at the others.
    marked = [
        place
        for place, m in enumerate(messages)
        if m.tool_calls or m.reasoning or m.untrained or m.part
    ]
    named = {id(c.tools): {_name(tool): tool for tool in c.tools} for c in _offering(conversations)}
    tools = [named[id(c.tools)] for c in conversations]
    repeated = [len(c.tools) - len(names) for c, names in zip(conversations, tools, strict=True)]
    table = pl.DataFrame(
        [
            pl.Series("row", row),
            pl.Series("turn", np.arange(len(messages), dtype=np.uint32) - begins),
            pl.Series("turns", turns[row]),
            pl.Series("role", [message.role for message in messages], pl.String),
            pl.Series("content", [message.content for message in messages], pl.String),
            _texts("reasoning", len(messages), {p: messages[p].reasoning for p in marked}),
            *_marks(messages, marked),
            *_calls(messages, marked, row, np.cumsum(turns), tools),
            pl.Series("repeated_tools", np.array(repeated, np.uint32)[row]),
        ]
    )
    first, last = pl.col("turn") == 0, pl.col("turn") + 1 == pl.col("turns")
    return table.with_columns(
        prev_role=pl.when(~first).then(pl.col("role").shift(1)),
        prev_calls=pl.when(~first).then(pl.col("calls").shift(1)),
        prev_ends=pl.when(~first).then(pl.col("ends").shift(1)),
        next_role=pl.when(~last).then(pl.col("role").shift(-1)),
    )


def said() -> pl.Expr:
    """All that a message says: its reasoning, its content and its calls."""
    parts = pl.col("reasoning"), pl.col("content"), pl.col("called")
    more = (pl.col("calls") > 0) | (pl.col("reasoning") != "")
    together = pl.concat_str(parts, separator="\n").str.strip_chars("\n")
    return pl.when(more).then(together).otherwise(pl.col("content"))


def _texts(name: str, length: int, texts: Mapping[int, str]) -> pl.Series:
    """A column of texts that is empty but at some places."""
    if not any(texts.values()):
        return pl.repeat("", length, dtype=pl.String, eager=True).alias(name)
    column = [""] * length
    for place, text in texts.items():
        column[place] = text
    return pl.Series(name, column, pl.String)


def _marks(messages: Sequence[Message], marked: Sequence[int]) -> list[pl.Series]:
    """What few messages are marked with: the columns are made for all, and changed for these."""
    trained, whole, ends = np.ones((3, len(messages)), np.bool_)
    for place in [p for p in marked if messages[p].untrained or messages[p].part]:
        message = messages[place]
        trained[place], ends[place] = message.trained, message.ends
        whole[place] = message.part is None
    return [pl.Series("trained", trained), pl.Series("whole", whole), pl.Series("ends", ends)]


def _offering(conversations: Sequence[Conversation]) -> Iterable[Conversation]:
    """One conversation for each list of tools; mostly many share one (see `schemas.calls`)."""
    return {id(c.tools): c for c in conversations}.values()


def _calls(
    messages: Sequence[Message],
    marked: Sequence[int],
    row: npt.NDArray[np.uint32],
    ends: npt.NDArray[np.uint64],
    tools: Sequence[Mapping[str, Tool]],
) -> list[pl.Series]:
    """What is told of tool calls, which few messages have.

    Each conversation's messages go on to its place of `ends`; `tools` are the definitions that it
    offers, by name.
    """
    calling = [place for place in marked if messages[place].tool_calls]
    rows = row[calling].tolist()
    counts = np.zeros((len(COUNTS), len(messages)), np.uint32)
    written: dict[int, str] = {}
    told = []
    for place, of, end in zip(calling, rows, ends[rows].tolist(), strict=True):
        made, known = messages[place].tool_calls, tools[of]
        written[place] = "\n".join([f"{call.name} {call.arguments}" for call in made])
        malformed = undeclared = misfits = 0
        for call in made:
            given, tool = _object(call.arguments), known.get(call.name)
            if given is None:
                malformed += 1
            elif tool is not None:
                misfits += _misfits(given, tool)
            undeclared += tool is None and bool(known)
        told.append((len(made), malformed, undeclared, misfits, _results(messages, place, end)))
    if told:
        counts[:, calling] = np.array(told).T
    columns = [pl.Series(name, count) for name, count in zip(COUNTS, counts, strict=True)]
    return [_texts("called", len(messages), written), *columns]


def _results(messages: Sequence[Message], place: int, end: int) -> int:
    """How many tool messages follow a message of a conversation that goes on to `end`."""
    after = place + 1
    while after < end and messages[after].role == "tool":
        after += 1
    return after - place - 1


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text holds, None where it holds something else."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _misfits(given: Mapping[str, Any], tool: Tool) -> bool:
    """Whether arguments lack a required one, or have one that the tool's schema does not name.

    A schema without names, or one that welcomes others, takes any.
    """
    schema = tool["function"].get("parameters") if "function" in tool else None
    if not isinstance(schema, dict):
        return False
    required, named = schema.get("required"), schema.get("properties")
    if isinstance(required, list):
        for name in required:
            if isinstance(name, str) and name not in given:
                return True
    closed = isinstance(named, dict) and not schema.get("additionalProperties")
    return bool(closed and named and not given.keys() <= named.keys())


def _name(tool: Tool) -> str:
    """The name of a function, or the type of a tool that is built in."""
    function = tool.get("function")
    return str(function["name"] if function else tool.get("type"))

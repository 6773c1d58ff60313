"""Conversations as a flat polars table, one row per message: what the format rules look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from glmprep.records import Conversation, Message

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.UInt32,
    "turn": pl.UInt32,
    "turns": pl.UInt32,
    "role": pl.String,
    "content": pl.String,
    "calls": pl.UInt32,
    "call_names": pl.List(pl.String),
    "call_arguments": pl.List(pl.String),
    "trained": pl.Boolean,
    "whole": pl.Boolean,
    "ends": pl.Boolean,
}


def message_table(conversations: Sequence[Conversation]) -> pl.DataFrame:
    """One row per message, in order.

    row, turn: which conversation of the batch, and which of its `turns` messages (from 0);
    role, content; calls: number of tool calls, with their names and arguments; trained, ends: as in
    Message; whole: not a piece of a turn that was cut;
    prev_role, prev_calls, prev_ends, next_role: the neighbours, null at a conversation's ends.
    """
    flat = [
        (row, turn, len(c.messages), message)
        for row, c in enumerate(conversations)
        for turn, message in enumerate(c.messages)
    ]
    table = pl.DataFrame(
        {
            "row": [row for row, _, _, _ in flat],
            "turn": [turn for _, turn, _, _ in flat],
            "turns": [turns for _, _, turns, _ in flat],
            "role": [m.role for _, _, _, m in flat],
            "content": [m.content for _, _, _, m in flat],
            "calls": [len(m.tool_calls) for _, _, _, m in flat],
            "call_names": _per_call([m for _, _, _, m in flat], "name"),
            "call_arguments": _per_call([m for _, _, _, m in flat], "arguments"),
            "trained": [m.trained for _, _, _, m in flat],
            "whole": [m.part is None for _, _, _, m in flat],
            "ends": [m.ends for _, _, _, m in flat],
        },
        schema=SCHEMA,
    )
    first, last = pl.col("turn") == 0, pl.col("turn") + 1 == pl.col("turns")
    return table.with_columns(
        prev_role=pl.when(~first).then(pl.col("role").shift(1)),
        prev_calls=pl.when(~first).then(pl.col("calls").shift(1)),
        prev_ends=pl.when(~first).then(pl.col("ends").shift(1)),
        next_role=pl.when(~last).then(pl.col("role").shift(-1)),
    )


def _per_call(messages: Sequence[Message], part: str) -> pl.Series:
    """A part of each message's calls, made as one array: most messages have none."""
    counts = np.fromiter((len(m.tool_calls) for m in messages), np.int64, len(messages))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    flat = pa.array([getattr(c, part) for m in messages for c in m.tool_calls], pa.string())
    return pl.Series(part, pa.ListArray.from_arrays(pa.array(offsets), flat))


def digests(conversations: Sequence[Conversation], messages: pl.DataFrame) -> pl.Series:
    """A 64-bit hash of each conversation, given with its message table; equal for equal ones.

    The hash holds within one run only (polars may change it from version to version).
    """
    turn = pl.struct("role", "content", "call_names", "call_arguments", "trained")
    hashed = messages.select("row", turns=turn.hash(seed=0))
    per_row = hashed.group_by("row", maintain_order=True).agg("turns")
    tools = pl.Series("tools", [orjson.dumps(c.tools) for c in conversations], pl.Binary)
    whole = per_row.select(pl.col("turns").hash(seed=0), tools)
    return whole.select(pl.struct("turns", "tools").hash(seed=0)).to_series()

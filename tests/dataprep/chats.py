"""Random conversations, and how to write, tokenize and compare them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from glmprep import canonical
from glmprep.families import Family
from glmprep.labels import TokenBatch, tokenize
from glmprep.records import Conversation, Message, Origin, Role, ToolCall, Untrained
from glmprep.shards import Rows
from glmprep.tokenizer import Tokenizer
from hypothesis import Phase, settings
from hypothesis import strategies as st

no_shrinking = settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
"""For properties whose examples take long: show the first counterexample as it is."""
UNTRAINED: tuple[Untrained | None, ...] = (None, "weight")
NOWHERE = Origin("test.jsonl", 1)
FRAGMENTS = (
    "今天天气怎么样？",
    "我觉得很难过，不知道该怎么办。",
    "The quick brown fox jumps over the lazy dog. ",
    "It doesn't matter; we'll see!",
    " and then\n\n",
    "    return x + 1\n",
    "{'a': [1, 2, 3]}",
    "\t",
    "      ",
    "\n\n\n\n",
    "\r\n",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "𠮷野家",
    "<|assistant|>",
    "<|user|>\n",
    "[gMASK]<sop>",
    "e\u0301\u0301",
    "1234567890",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "—“引号”……",
)
TAGS = ("<think>", "</think>", "</think>\n\n", "<tool_call>", "</arg_value>", "/nothink")
"""What templates from GLM-4.5 on write, typed by people."""
BLANK = "\x1c\x1d\x1e\x1f"
"""Python strips these, polars does not, so they would make a difference that no one means."""


def texts(most: int = 12, more: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Text in pieces of all kinds, `more` among them, never blank."""
    pieces = st.sampled_from((*FRAGMENTS, *more)) | st.text(max_size=6)
    joined = st.lists(pieces, min_size=1, max_size=most).map("".join)
    return joined.filter(lambda text: bool(text.strip().strip(BLANK)))


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "查询 a fact",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}},
    },
}


@st.composite
def conversations(
    draw: st.DrawFn, name: str = "chat", longest: int = 12, *, reasoning: bool = False
) -> Conversation:
    """A conversation that the rules let pass, with something to train in it.

    With `reasoning` half of the answers have some, and tags of templates are typed now and then.
    """
    messages: list[Message] = []
    text = texts(longest)
    if reasoning:
        text = texts(longest, TAGS).map(_with_something_said)
    if draw(st.booleans()):
        messages.append(Message(role="system", content=draw(texts(2))))
    if draw(st.integers(0, 9)) == 0:
        messages.append(
            Message(
                role="assistant",
                content="您好！",
                untrained=draw(st.sampled_from(UNTRAINED)),
            )
        )
    for _ in range(draw(st.integers(1, 4))):
        messages.append(Message(role="user", content=draw(text)))
        if draw(st.integers(0, 9)) == 0:
            messages.append(Message(role="system", content="Now be brief."))
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
            messages += draw(_tool_round(text))
        messages.append(
            Message(role="assistant", content=draw(text), untrained=draw(_seldom_untrained()))
        )
        if draw(st.integers(0, 9)) == 0:
            messages.append(Message(role="system", content="Change of plan."))
    match draw(st.sampled_from(("answer", "answer", "question", "call"))):
        case "question":
            messages.append(Message(role="user", content=draw(text)))
        case "call":
            call = draw(_tool_round(text))[0]
            messages += [Message(role="user", content=draw(text)), call]
    if not any(m.role == "assistant" and m.trained for m in messages):
        messages += [Message(role="user", content="?"), Message(role="assistant", content="!")]
        if messages[-3].role == "user":
            del messages[-2]
        elif messages[-3].tool_calls:
            messages.insert(-2, Message(role="tool", content="{}"))
    tools = (TOOL,) if draw(st.booleans()) else ()
    if reasoning:
        messages = [_thinking(draw, message) for message in messages]
    return Conversation(id=name, messages=tuple(messages), tools=tools, origin=NOWHERE)


def _with_something_said(text: str) -> str:
    """Behind a `</think>` stands an answer, as in all other texts."""
    return f"{text}Well, yes. \n" if "</think>" in text else text


def _thinking(draw: st.DrawFn, message: Message) -> Message:
    if message.role != "assistant" or draw(st.booleans()):
        return message
    return replace(message, reasoning=draw(texts(4)))


def _seldom_untrained() -> st.SearchStrategy[Untrained | None]:
    return st.sampled_from((None, None, None, "weight"))


@st.composite
def _tool_round(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[Message]:
    keys = draw(st.lists(text, min_size=1, max_size=2))
    calls = tuple(ToolCall(name="look_up", arguments=json.dumps({"key": key})) for key in keys)
    said = draw(st.sampled_from(("", "")) | text)
    results = [Message(role="tool", content=draw(text)) for _ in calls]
    answer = Message(
        role="assistant",
        content=said,
        tool_calls=calls,
        untrained=draw(_seldom_untrained()),
    )
    return [answer, *results]


def chat(*turns: tuple[Role, str] | Message, tools: Sequence[Any] = ()) -> Conversation:
    """A conversation from messages, or pairs of role and text."""
    messages = tuple(
        turn if isinstance(turn, Message) else Message(role=turn[0], content=turn[1])
        for turn in turns
    )
    return Conversation(id="chat", messages=messages, tools=tuple(tools), origin=NOWHERE)


def write(path: Path, chats: Iterable[Conversation]) -> str:
    """Canonical JSON Lines of conversations; the path as commands take it."""
    path.write_bytes(b"".join(map(canonical.line, chats)))
    return str(path)


def turn_targets(
    conversation: Conversation, family: Family, tokenizer: Tokenizer
) -> list[list[int]]:
    """For each turn of a whole conversation the ids that it trains, its stop tokens included."""
    batch = tokenize([conversation], family, tokenizer)
    trained: list[list[int]] = [[] for _ in conversation.messages]
    for piece in np.flatnonzero(batch.trained):
        end = batch.end[piece] + batch.stopped[piece]
        trained[batch.turn[piece]] += batch.ids[end - batch.targets[piece] : end].tolist()
    return trained


def row_targets(batch: TokenBatch, row: int) -> list[int]:
    """The ids that a conversation of a batch trains."""
    at = slice(batch.offsets[row], batch.offsets[row + 1])
    return batch.ids[at][batch.mask[at] == 1].tolist()


def segments_of(rows: Rows) -> dict[str, tuple[list[int], list[int]]]:
    """Ids and mask of each conversation in a shard folder, by its id."""
    found = {}
    for row, names in enumerate(rows.conversation_ids):
        at = slice(rows.offsets[row], rows.offsets[row + 1])
        for segment, name in enumerate(names):
            chosen = rows.segment_ids[at] == segment
            assert name not in found, f"{name} is there twice"
            found[name] = rows.input_ids[at][chosen].tolist(), rows.loss_mask[at][chosen].tolist()
    return found

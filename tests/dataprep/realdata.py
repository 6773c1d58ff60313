"""Real conversations of several kinds, as rows in OpenAI's form, read without glmprep."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROLES = {
    "client": "user",
    "counselor": "assistant",
    "human": "user",
    "gpt": "assistant",
    "observation": "tool",
}


def rows(assets: Path, kind: str) -> Iterator[Row]:
    """The rows of a kind (see KINDS); content can be null or a list of parts, as in the data."""
    pattern, row = KINDS[kind]
    for path in sorted((assets / "data").glob(pattern)):
        yield from map(row, _values(path))


def reasoned(data: Iterable[Row]) -> Iterator[Row]:
    """The same rows with reasoning put in: two answers in three think of what was said before."""
    answers = 0
    for row in data:
        messages = []
        said = ""
        for message in row["messages"]:
            if message["role"] == "assistant":
                answers += 1
                if answers % 3 and said.strip():
                    message = message | {"reasoning_content": f"{said[:300]}\n"}
            said = message["content"] if isinstance(message["content"], str) else ""
            messages.append(message)
        yield row | {"messages": messages}


def _values(path: Path) -> Iterator[Any]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    if ".jsonl" in path.name:
        yield from map(json.loads, text.splitlines())
    else:
        yield from json.loads(text)


def _plain(value: Row) -> Row:
    turns = value["messages"]
    messages = [
        message | {"role": ROLES.get(message["role"], message["role"])} for message in turns
    ]
    return {"messages": messages, "tools": value.get("tools") or []}


def _sharegpt(value: Row) -> Row:
    messages: list[Row] = []
    for turn in value["conversations"]:
        role, text = turn["from"], turn["value"]
        if role == "function_call":
            call = {"type": "function", "function": json.loads(text)}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        else:
            messages.append({"role": ROLES[role], "content": text})
    tools = [{"type": "function", "function": tool} for tool in json.loads(value["tools"] or "[]")]
    return {"messages": messages, "tools": tools}


def _trajectory(value: Row) -> Row:
    return {"messages": value["traj"], "tools": []}


def _parts(value: Row) -> Row:
    """LLaMA-Factory's v1: content in parts, reasoning and calls among them."""
    messages = []
    for turn in value["messages"]:
        said = [part for part in turn["content"] if part["type"] == "text"]
        message: Row = {"role": turn["role"]}
        message["content"] = [{"type": "text", "text": part["value"]} for part in said] or None
        if turn["role"] == "tool":  # where a result stands in parts, templates show Python's dicts
            message["content"] = "".join(part["value"] for part in said)
        for part in turn["content"]:
            if part["type"] == "reasoning":
                message["reasoning_content"] = part["value"]
            elif part["type"] == "tool_call":
                call = {"type": "function", "function": json.loads(part["value"])}
                message.setdefault("tool_calls", []).append(call)
        messages.append(message)
    return {"messages": messages, "tools": json.loads(value.get("tools") or "[]")}


def _alternating(value: Row) -> Row:
    roles = ("user", "assistant")
    messages = [
        {"role": roles[turn % 2], "content": said["message"]}
        for turn, said in enumerate(value["messages"])
    ]
    return {"messages": messages, "tools": []}


KINDS: dict[str, tuple[str, Callable[[Any], Row]]] = {
    "smilechat": ("smilechat/*.jsonl.gz", _plain),
    "sgd": ("sgd/*_dev.jsonl.gz", _plain),
    "glaive": ("llamafactory/glaive_*.json", _sharegpt),
    "tau-bench": ("tau_bench/gpt-4o-airline.json.gz", _trajectory),
    "kdconv": ("kdconv/*_dev.json.gz", _alternating),
    "parts": ("llamafactory/v1_sft_demo.jsonl", _parts),
    "thinking": ("llamafactory/reason_tool_use_demo_50.jsonl", _parts),
}

"""Rows become conversations or are rejected, and what is written is read back the same."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from glmprep import canonical
from glmprep.parse import parse
from glmprep.records import Conversation, Message, Origin, RawRow, Rejection, plain
from glmprep.schemas import calls
from hypothesis import given, settings

from .chats import chat, conversations

ASKED = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "yo"}


def one(value: Any, roles: dict[str, str] | None = None) -> Conversation | Rejection:
    return next(parse([RawRow(value=value, origin=Origin("dir/a.jsonl", 7))], roles))


def sound(value: Any, roles: dict[str, str] | None = None) -> Conversation:
    parsed = one(value, roles)
    assert isinstance(parsed, Conversation), parsed
    return parsed


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def test_sharegpt_and_messages_give_the_same_conversation() -> None:
    call = {"name": "f", "arguments": {"城市": "北京"}}
    tools = [{"name": "f", "description": "d", "parameters": {}}]
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "a"},
            {"from": "function_call", "value": orjson.dumps(call).decode()},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "b"},
        ],
        "system": "s",
        "tools": orjson.dumps(tools).decode(),
    }
    messages = {
        "messages": [
            {"role": "developer", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"function": call}]},
            {"role": "tool", "content": "r"},
            {"role": "assistant", "content": "b"},
        ],
        "tools": [{"type": "function", "function": tools[0]}],
    }
    assert sound(sharegpt) == sound(messages)
    assert sound(sharegpt).messages[2].tool_calls[0].arguments == '{"城市": "北京"}'
    assert sound(sharegpt).id == "a.jsonl:7"


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_a_conversation_that_is_written_is_read_back_the_same(conversation: Conversation) -> None:
    parsed = sound(orjson.loads(canonical.line(conversation)))
    assert (parsed.id, parsed.messages, parsed.tools) == (
        conversation.id,
        conversation.messages,
        conversation.tools,
    )


def test_weights_and_parts_are_read_back() -> None:
    pieces = [Message(role="assistant", content=c, part=(i, 2)) for i, c in enumerate("ab")]
    context = Message(role="assistant", content="x", untrained="weight")
    whole = chat(("user", "a"), context, ("user", "b"), *pieces)
    assert sound(orjson.loads(canonical.line(whole))).messages == whole.messages


def test_roles_can_be_named() -> None:
    row = {"messages": [{"role": "client", "content": "a"}, {"role": "counselor", "content": "b"}]}
    rejected = one(row)
    assert isinstance(rejected, Rejection)
    assert rejected.reason == "message 1: unknown role 'client'"
    named = sound(row, {"client": "user", "counselor": "assistant"})
    assert turns(named) == [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(
    ("system", "first", "expected"),
    [
        ("s", ASKED, ["s", "hi"]),
        ("s", {"role": "system", "content": "s"}, ["s"]),
        ("s", {"role": "system", "content": "t"}, ["s", "t"]),
        ([{"type": "text", "text": "s"}], ASKED, ["s", "hi"]),
        (None, ASKED, ["hi"]),
        ("", ASKED, ["hi"]),
    ],
)
def test_a_system_text_beside_the_messages_is_never_lost(
    system: Any, first: dict[str, str], expected: list[str]
) -> None:
    parsed = sound({"system": system, "messages": [first, SAID]})
    assert [text for _, text in turns(parsed)] == [*expected, "yo"]


def nested(depth: int) -> Any:
    return orjson.loads('{"a":' * depth + "1" + "}" * depth)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ([], "DF010"),
        ("text", "DF010"),
        ({"note": "text"}, "DF010"),
        ({}, "DF010"),
        ({"messages": []}, "DF010"),
        ({"messages": {}}, "DF010"),
        ({"messages": ["hi"]}, "DF010"),
        ({"messages": "no JSON"}, "DF010"),
        ({"messages": "5"}, "DF010"),
        ({"messages": [{"content": "hi"}]}, "DF010"),
        ({"messages": [{"role": "client", "content": "hi"}]}, "DF011"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "DF011"),
        ({"messages": [{"role": "user", "content": 5}]}, "DF012"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "DF012"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "DF012"),
        ({"system": {"a": 1}, "messages": [ASKED, SAID]}, "DF012"),
        ({"tools": 5, "messages": [ASKED, SAID]}, "DF013"),
        ({"tools": "[", "messages": [ASKED, SAID]}, "DF013"),
        ({"tools": [{"description": "no name"}], "messages": [ASKED, SAID]}, "DF013"),
        ({"tools": [{"type": "code_interpreter"}], "messages": [ASKED, SAID]}, "DF013"),
        ({"tools": [{"type": [], "name": "f"}], "messages": [ASKED, SAID]}, "DF013"),
        ({"tools": [{"name": "f", "x": nested(300)}], "messages": [ASKED, SAID]}, "DF013"),
        ({"messages": [ASKED, {"role": "assistant", "tool_calls": [{}]}]}, "DF013"),
        ({"messages": [{**ASKED, "tool_calls": [{"name": "f"}]}]}, "DF013"),
        ({"conversations": [{"from": "function_call", "value": "f(x)"}]}, "DF013"),
        ({"messages": [{**SAID, "weight": 0.5}]}, "DF014"),
        ({"messages": [{**SAID, "weight": "0"}]}, "DF014"),
        ({"messages": [{**SAID, "part": [2, 2]}]}, "DF014"),
        ({"messages": [{**SAID, "part": [0.0, 2]}]}, "DF014"),
    ],
)
def test_a_row_that_is_no_conversation_is_rejected_by_a_rule(row: Any, rule: str) -> None:
    rejected = one(row)
    assert isinstance(rejected, Rejection), rejected
    assert rejected.rule == rule
    assert "\n" not in rejected.reason


@pytest.mark.parametrize("depth", [100, 500, 990, 1000, 1010])
def test_deep_nesting_never_raises(depth: int) -> None:
    call = {"function": {"name": "f", "arguments": nested(depth)}}
    one({"messages": [ASKED, {"role": "assistant", "tool_calls": [call]}]})
    one({"id": nested(depth), "messages": [ASKED, SAID]})
    assert isinstance(one({"messages": [{"role": nested(depth), "content": "hi"}]}), Rejection)
    assert isinstance(one({"messages": [{**SAID, "weight": nested(depth)}]}), Rejection)


def test_a_plain_message_is_the_message_that_its_role_and_text_make() -> None:
    assert plain("user", "hi") == Message(role="user", content="hi")
    assert hash(plain("assistant", "")) == hash(Message(role="assistant"))


def test_equal_lists_of_tools_become_one_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "KEPT", 3)
    monkeypatch.setattr(calls, "_known", {})
    lists = [[{"name": f"f{place}", "parameters": {}}] for place in range(9)]
    for one in lists:
        assert calls.tools(one) is calls.tools(orjson.loads(orjson.dumps(one)))
        assert calls.tools(one)[0]["function"] == one[0]
        assert len(calls._known) <= 3
    large = [{"name": "f", "description": "x" * calls.KEPT_BYTES}]
    assert calls.tools(large) == calls.tools(large)
    assert calls.tools(large) is not calls.tools(large)

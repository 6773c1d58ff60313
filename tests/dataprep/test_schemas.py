"""Rows of every form become the conversation that they mean, or are refused by a rule."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep import canonical
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Origin, RawRow, Rejection
from glmprep.schemas.tally import Tally
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import conversations

ROLES = {"client": "user", "counselor": "assistant"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"name": "f", "arguments": {"城市": "北京"}}
CALL_TEXT = json.dumps(CALL, ensure_ascii=False)
ASKED = {"role": "user", "content": "q"}
SAID = {"role": "assistant", "content": "a"}
PAIR = [("user", "q"), ("assistant", "a")]
MORE = [("user", "q0"), ("assistant", "a0"), *PAIR]
CALLED = [("user", "q"), ("assistant", 'f({"城市": "北京"})'), ("tool", "r"), ("assistant", "a")]
WITH_SYSTEM = [("system", "s"), *PAIR]


def parsed(
    *rows: Any, roles: dict[str, str] | None = None, take: Any = None, tally: Tally | None = None
) -> list[Conversation | Rejection]:
    raw = [RawRow(value=row, origin=Origin("a.jsonl", n)) for n, row in enumerate(rows, 1)]
    return list(parse(raw, roles, take=take, tally=tally))


def sound(row: Any, **more: Any) -> Conversation:
    (one,) = parsed(row, **more)
    assert isinstance(one, Conversation), one
    return one


def told(conversation: Conversation) -> list[tuple[str, str]]:
    """Role and text of each message, calls as `name(arguments)` behind the text."""
    return [
        (m.role, m.content + "".join(f"{c.name}({c.arguments})" for c in m.tool_calls))
        for m in conversation.messages
    ]


def messages(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


def tool_call(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": CALL}], **more}


def observation(text: str = "r") -> dict[str, Any]:
    return {"role": "observation", "content": text}


FORMS: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("openai", messages(ASKED, SAID), PAIR),
    ("openai", {"messages": json.dumps([ASKED, SAID])}, PAIR),
    ("openai", messages(ASKED, SAID, system="s"), WITH_SYSTEM),
    ("openai", messages(ASKED, SAID, system_prompt="s"), WITH_SYSTEM),
    ("openai", messages(ASKED, tool_call(), {"role": "tool", "content": "r"}, SAID), CALLED),
    (
        "openai",
        messages(
            ASKED,
            {"role": "assistant", "content": None, "function_call": CALL},
            {"role": "function", "name": "f", "content": "r"},
            SAID,
        ),
        CALLED,
    ),
    (
        "openai",
        messages(
            ASKED,
            {"role": "tool_call", "content": CALL_TEXT},
            {"role": "tool_response", "content": "r"},
            SAID,
        ),
        CALLED,
    ),
    ("openai", {"task_id": 7, "traj": [ASKED, SAID]}, PAIR),
    (
        "openai",
        messages(
            {"role": "user", "content": [{"type": "text", "value": "q"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "value": "hm"},
                    {"type": "tool_call", "value": CALL_TEXT},
                ],
            },
            {"role": "tool", "content": [{"type": "text", "text": "r"}]},
            SAID,
        ),
        CALLED,
    ),
    (
        "glm4",
        messages(
            {"role": "system", "content": "", "tools": [TOOL]},
            ASKED,
            {"role": "assistant", "content": CALL_TEXT},
            observation(),
            SAID,
        ),
        [("system", ""), *CALLED],
    ),
    (
        "glm4",
        messages(
            ASKED,
            {"role": "assistant", "metadata": "f", "content": '{"城市": "北京"}'},
            observation(),
            SAID,
        ),
        CALLED,
    ),
    (
        "glm4",
        messages(
            ASKED,
            {"role": "assistant", "metadata": "", "content": "wait: "},
            {"role": "assistant", "metadata": "f", "content": "{}"},
            observation(),
            SAID,
        ),
        [PAIR[0], ("assistant", "wait: f({})"), ("tool", "r"), PAIR[1]],
    ),
    (
        "glm4",
        messages(ASKED, {"role": "assistant", "content": "f\n{}"}, observation(), SAID),
        [PAIR[0], ("assistant", "f({})"), ("tool", "r"), PAIR[1]],
    ),
    (
        "glm4",
        messages(ASKED, {"role": "assistant", "content": "hi\nthere"}, observation(), SAID),
        [PAIR[0], ("assistant", "hi\nthere"), ("tool", "r"), PAIR[1]],
    ),
    ("chatglm3", {"conversations": [ASKED, SAID]}, PAIR),
    (
        "chatglm3",
        {
            "tools": [TOOL],
            "conversations": [
                ASKED,
                {"role": "tool", "name": "f", "parameters": CALL["arguments"], "observation": "r"},
                SAID,
            ],
        },
        CALLED,
    ),
    (
        "chatglm3",
        {
            "conversations": [
                ASKED,
                {"role": "assistant", "content": "wait: "},
                {"role": "tool", "name": "f", "parameters": {}, "observation": {"x": "值"}},
                SAID,
            ],
        },
        [PAIR[0], ("assistant", "wait: f({})"), ("tool", '{"x": "值"}'), PAIR[1]],
    ),
    (
        "sharegpt",
        {
            "system": "s",
            "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        },
        WITH_SYSTEM,
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": CALL_TEXT},
                {"from": "observation", "value": "r"},
                {"from": "gpt", "value": "a"},
            ],
            "tools": json.dumps([TOOL]),
        },
        CALLED,
    ),
    (
        "exchanges",
        {
            "system": "s",
            "conversation": [
                {"human": "q0", "assistant": "a0"},
                {"human": "q", "assistant": "a"},
            ],
        },
        [("system", "s"), *MORE],
    ),
    ("alpaca", {"instruction": "q", "input": "", "output": "a"}, PAIR),
    (
        "alpaca",
        {"instruction": "q", "input": "x", "output": "a", "system": "s"},
        [("system", "s"), ("user", "q\nx"), ("assistant", "a")],
    ),
    ("alpaca", {"instruction": "q", "output": "a", "history": [["q0", "a0"]]}, MORE),
    (
        "alpaca",
        {"instruction": "q", "context": "x", "response": "a"},
        [("user", "q\nx"), ("assistant", "a")],
    ),
    ("query-response", {"query": "q", "response": "a", "system": "s"}, WITH_SYSTEM),
    ("query-response", {"prompt": "q", "response": "a", "history": [["q0", "a0"]]}, MORE),
    ("query-response", {"prompt": "q", "response": "a", "history": '[["q0", "a0"]]'}, MORE),
    ("query-response", {"prompt": "q", "completion": "a", "history": []}, PAIR),
    ("query-response", {"question": "q", "answer": "a"}, PAIR),
    ("query-response", {"input": "q", "output": "a"}, PAIR),
    ("query-response", {"prompt": [ASKED], "completion": [SAID]}, PAIR),
]


@pytest.mark.parametrize(("schema", "row", "expected"), FORMS)
def test_a_row_of_each_form_becomes_the_conversation_that_it_means(
    schema: str, row: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    tally = Tally()
    assert told(sound(row, tally=tally)) == expected
    assert tally.schemas == {schema: 1}


def test_forms_may_change_from_row_to_row() -> None:
    tally = Tally()
    rows = [row for _, row, _ in FORMS]
    assert [told(c) for c in parsed(*rows, tally=tally) if isinstance(c, Conversation)] == [
        expected for _, _, expected in FORMS
    ]
    assert tally.schemas == Counter(schema for schema, _, _ in FORMS)


@pytest.mark.parametrize(
    "row",
    [
        messages(ASKED, SAID, tools=[TOOL]),
        messages(ASKED, SAID, functions=[TOOL["function"]]),
        messages(ASKED, SAID, tools=json.dumps([TOOL])),
        messages({"role": "system", "content": "", "tools": [TOOL]}, ASKED, SAID),
        {"conversations": [ASKED, SAID], "tools": [TOOL["function"]]},
        {"query": "q", "response": "a", "tools": [TOOL]},
    ],
)
def test_tools_are_found_wherever_they_stand(row: dict[str, Any]) -> None:
    assert sound(row).tools == (TOOL,)


def test_several_calls_in_a_row_are_one_turn() -> None:
    call = {"from": "function_call", "value": CALL_TEXT}
    row = {"conversations": [{"from": "human", "value": "q"}, call, call]}
    assert [len(message.tool_calls) for message in sound(row).messages] == [0, 2]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept_apart_from_the_answer(name: str) -> None:
    message = sound(messages(ASKED, {**SAID, name: "hm"})).messages[1]
    assert (message.content, message.reasoning) == ("a", "hm")


MARKS = ("weight", "train", "training", "trainable", "loss", "loss_weight", "loss_scale")


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_of_what_is_trained_is_heeded_under_every_name(name: str) -> None:
    row = messages(ASKED, {**SAID, name: False}, ASKED, {**SAID, name: 1.0}, ASKED, SAID)
    assert [m.trained for m in sound(row).messages if m.role == "assistant"] == [False, True, True]


def test_a_tool_of_chatglm3_that_is_not_to_be_trained_is_not() -> None:
    tool = {"role": "tool", "name": "f", "parameters": {}, "observation": "r", "loss": False}
    trained = [m.trained for m in sound({"conversations": [ASKED, tool, SAID]}).messages]
    assert trained == [True, False, True, True]


def test_of_a_prompt_in_messages_only_the_completion_is_trained() -> None:
    row = {"prompt": [ASKED, SAID, ASKED], "completion": [SAID]}
    assert [m.untrained for m in sound(row).messages] == [None, "weight", None, None]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "client", "content": "q"}, {"role": "counselor", "content": "a"}]},
        {"conversations": [{"from": "client", "value": "q"}, {"from": "counselor", "value": "a"}]},
        {"conversation": [{"client": "q", "counselor": "a"}]},
    ],
)
def test_roles_can_be_named_in_every_form(row: dict[str, Any]) -> None:
    assert isinstance(parsed(row)[0], Rejection)
    assert told(sound(row, roles=ROLES)) == PAIR


def test_a_canonical_role_can_be_renamed_too() -> None:
    row = messages({"role": "tool", "content": "q"}, SAID)
    assert told(sound(row, roles={"tool": "user"})) == PAIR


CHOSEN: list[dict[str, Any]] = [
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
    {"question": "q", "chosen": "a", "rejected": "b"},
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [SAID]},
    {"prompt": [ASKED], "chosen": "a", "rejected": "b"},
    {"chosen": [ASKED, SAID], "rejected": [ASKED, SAID]},
    {"prompt": "q", "chosen": [ASKED, SAID], "rejected": [ASKED, SAID]},
    {"chosen_messages": [ASKED, SAID], "rejected_messages": [ASKED, SAID]},
    {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    messages(ASKED, SAID, rejected_response="b"),
    messages(ASKED, SAID, label=True),
    {"instruction": "q", "output": "a", "kto_tag": True},
    {"prompt": "q", "completion": "a", "label": "True"},
]


@pytest.mark.parametrize("row", CHOSEN)
def test_preference_data_is_refused_or_its_better_side_is_taken(row: dict[str, Any]) -> None:
    (refused,) = parsed(row)
    assert isinstance(refused, Rejection)
    assert (refused.rule, refused.reason.split(": ")[0]) == ("DF015", "preference data")
    assert told(sound(row, take="chosen")) == PAIR


def test_an_answer_judged_bad_is_never_taken() -> None:
    verdict = {"prompt": "q", "response": "a", "label": "false"}
    for bad in (messages(ASKED, SAID, label=False), verdict):
        (refused,) = parsed(bad, take="chosen")
        assert isinstance(refused, Rejection)
        assert refused.rule == "DF021"


@pytest.mark.parametrize(
    "row", [{"chosen": "Human: q", "rejected": "b"}, {"chosen": 5, "rejected": 6}, {"chosen": []}]
)
def test_a_better_answer_without_a_prompt_is_refused(row: dict[str, Any]) -> None:
    (refused,) = parsed(row, take="chosen")
    assert isinstance(refused, Rejection)
    assert refused.rule == "DF010"


REFUSED: list[tuple[str, Any, Any]] = [
    ("DF010", {"prompt": "q"}, {"prompt": "q", "response": "a"}),
    ("DF010", {"instruction": "q"}, {"instruction": "q", "output": "a"}),
    ("DF010", {str(n): n for n in range(10_000)}, messages(ASKED, SAID)),
    ("DF010", {"prompt": "q", "response": "a", "history": [["q"]]}, FORMS[-6][1]),
    ("DF010", {"prompt": "q", "response": "a", "history": 5}, FORMS[-6][1]),
    ("DF010", {"prompt": "q", "response": "a", "history": "5"}, FORMS[-6][1]),
    ("DF012", {"prompt": "q", "response": "a", "history": [["q", 5]]}, FORMS[-6][1]),
    ("DF012", {"prompt": "q", "response": ["a"]}, {"prompt": "q", "response": "a"}),
    ("DF012", {"instruction": "q", "output": 5}, {"instruction": "q", "output": "5"}),
    (
        "DF012",
        messages(ASKED, {**SAID, "reasoning": 5}),
        messages(ASKED, {**SAID, "reasoning": ""}),
    ),
    (
        "DF013",
        messages(ASKED, {**SAID, "metadata": "from a book"}),
        messages(ASKED, {**SAID, "metadata": {"from": "a book"}}),
    ),
    (
        "DF013",
        {"conversations": [ASKED, {"role": "tool", "parameters": {}, "observation": ""}]},
        {"conversations": [ASKED, {"role": "tool", "name": "f", "parameters": {}}]},
    ),
    ("DF015", CHOSEN[0], {**CHOSEN[0], "chosen": None, "rejected": None, "response": "a"}),
    ("DF015", messages(ASKED, SAID, label=False), messages(ASKED, SAID, label=3)),
    ("DF017", {"text": "once upon a time"}, {"text": "once", **messages(ASKED, SAID)}),
    ("DF018", messages(ASKED, SAID, images=["a.jpg"]), messages(ASKED, SAID, images=[])),
    ("DF018", {"query": "q", "response": "a", "video": "a.mp4"}, {"query": "q", "response": "a"}),
    (
        "DF019",
        messages(ASKED, SAID, system="s", system_prompt="t"),
        messages(ASKED, SAID, system="s", system_prompt="s"),
    ),
    (
        "DF019",
        messages(ASKED, {**SAID, "train": True, "weight": 0}),
        messages(ASKED, {**SAID, "train": True, "weight": 1}),
    ),
    (
        "DF019",
        messages(ASKED, {**SAID, "reasoning": "x", "reasoning_content": "y"}),
        messages(ASKED, {**SAID, "reasoning": "x", "reasoning_content": "x"}),
    ),
    ("DF019", messages(ASKED, tool_call(function_call=CALL)), messages(ASKED, tool_call())),
    (
        "DF020",
        messages(ASKED, {**SAID, "loss_weight": 0.5}),
        messages(ASKED, {**SAID, "loss_weight": 0.0}),
    ),
    ("DF020", messages(ASKED, {**SAID, "train": "no"}), messages(ASKED, {**SAID, "train": False})),
    (
        "DF026",
        messages({**ASKED, "reasoning_content": "hm"}, SAID),
        messages(ASKED, {**SAID, "reasoning_content": "hm"}),
    ),
]


@pytest.mark.parametrize(("rule", "broken", "neighbour"), REFUSED)
def test_a_rule_rejects_its_row_and_not_the_sound_one_beside_it(
    rule: str, broken: Any, neighbour: Any
) -> None:
    rejected, passed = parsed(broken, neighbour)
    assert isinstance(rejected, Rejection), rejected
    assert rejected.rule == rule
    assert "\n" not in rejected.reason
    assert len(rejected.reason) < 400
    assert isinstance(passed, Conversation), passed


def noted(row: Any) -> dict[str, Any]:
    """The fields that each rule noted on a row that goes on."""
    tally = Tally()
    sound(row, tally=tally)
    hits = list(tally.hits())
    assert all(hit.rows == 1 and hit.examples[0].where == "a.jsonl:1" for hit in hits)
    return {hit.rule.id: hit.data["fields"] for hit in hits}


NOTED: list[tuple[dict[str, Any], dict[str, str]]] = [
    (messages(ASKED, SAID), {}),
    (messages(ASKED, SAID, id=5, source=None), {}),
    (messages(ASKED, {**SAID, "train_detail": [1]}), {"DF022": "train_detail"}),
    (messages(ASKED, {**SAID, "prefix": True}), {"DF022": "prefix"}),
    (messages(ASKED, {**SAID, "prefix": False}), {}),
    (messages({**ASKED, "train": True}, SAID), {"DF022": "weight 1 of the user"}),
    (messages({**ASKED, "weight": 1}, SAID), {"DF022": "weight 1 of the user"}),
    (messages({**ASKED, "weight": 0}, SAID), {}),
    (messages(ASKED, SAID, reward=0.0), {"DF022": "reward"}),
    (messages(ASKED, SAID, train=False), {"DF022": "train"}),
    (messages(ASKED, SAID, source="x", label=2), {"DF023": "source, label"}),
    (messages(ASKED, SAID, prompt="q"), {"DF023": "prompt"}),
    (messages(ASKED, {**SAID, "metadata": {"x": 1}}), {"DF023": "metadata"}),
    (messages({**ASKED, "name": "Ann"}, SAID), {"DF023": "name"}),
    (messages({**ASKED, "metadata": "x"}, SAID), {"DF023": "metadata"}),
    (
        messages(ASKED, SAID, instruction="x", output="y"),
        {"DF023": "instruction", "DF024": "output"},
    ),
    (messages(ASKED, SAID, conversations=[ASKED, SAID]), {"DF024": "conversations"}),
    ({"instruction": "q", "output": "a", "response": "b"}, {"DF024": "response"}),
    ({"question": "q", "answer": "a", "response": ""}, {}),
]


@pytest.mark.parametrize(("row", "expected"), NOTED)
def test_fields_that_are_not_read_are_told(row: dict[str, Any], expected: dict[str, str]) -> None:
    assert noted(row) == expected


def test_a_row_with_two_conversations_is_read_as_the_first_form_in_order() -> None:
    both = messages(ASKED, SAID, instruction="x", output="y", query="u", response="v")
    assert told(sound(both)) == PAIR
    assert told(sound({"instruction": "q", "output": "a", "query": "u"})) == PAIR


def test_names_of_fields_are_kept_within_bounds() -> None:
    tally = Tally()
    parsed(*(messages(ASKED, SAID, **{f"key{n}": n + 1}) for n in range(3000)), tally=tally)
    (hit,) = tally.hits()
    assert (hit.rule.id, hit.rows, len(hit.examples)) == ("DF023", 3000, 5)
    assert str(hit.data["fields"]).endswith("and 994 more")


def test_a_message_is_named_by_its_place_in_the_row() -> None:
    rows = [
        messages(ASKED, {**SAID, "content": 5}, system="s"),
        {"conversations": [ASKED, {"role": "tool", "name": "f", "parameters": {}}, {"role": "x"}]},
    ]
    reasons = [one.reason for one in parsed(*rows) if isinstance(one, Rejection)]
    assert reasons == [
        "message 2: content is a number, not text",
        "message 3: unknown role 'x'",
    ]


@settings(max_examples=60, deadline=None)
@given(conversations(), st.sampled_from(["openai", "sharegpt", "system beside"]))
def test_what_is_read_in_any_form_and_written_is_read_back_the_same(
    conversation: Conversation, form: str
) -> None:
    first = sound(in_form(orjson.loads(canonical.line(conversation)), form))
    again = sound(orjson.loads(canonical.line(first)))
    assert (first.messages, first.tools) == (conversation.messages, conversation.tools)
    assert (again.id, again.messages, again.tools) == (first.id, first.messages, first.tools)
    assert canonical.line(again) == canonical.line(first)


def in_form(row: dict[str, Any], form: str) -> dict[str, Any]:
    """A canonical row in another form, as far as that can tell the same."""
    turns = row["messages"]
    if form == "system beside" and turns[0]["role"] == "system":
        return {**row, "messages": turns[1:], "system": turns[0]["content"]}
    if form == "sharegpt":
        names = {"user": "human", "assistant": "gpt", "tool": "observation"}
        renamed = [
            {**t, "from": names.get(t["role"], t["role"]), "value": t["content"]} for t in turns
        ]
        drop = {"role", "content"}
        said = [{k: v for k, v in t.items() if k not in drop} for t in renamed]
        return {**{k: v for k, v in row.items() if k != "messages"}, "conversations": said}
    return row


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "conversations",
                    "conversation",
                    "role",
                    "from",
                    "content",
                    "value",
                    "tools",
                    "tool_calls",
                    "function_call",
                    "function",
                    "name",
                    "arguments",
                    "parameters",
                    "observation",
                    "metadata",
                    "weight",
                    "part",
                    "train",
                    "loss",
                    "reasoning",
                    "system",
                    "instruction",
                    "input",
                    "output",
                    "query",
                    "response",
                    "history",
                    "chosen",
                    "rejected",
                    "label",
                    "text",
                    "images",
                    "type",
                    "id",
                ]
            ),
            inner | st.sampled_from(["user", "assistant", "tool", "function_call", "text"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(HOSTILE, st.sampled_from([None, "chosen"]))
def test_no_row_whatever_it_holds_ends_in_an_error(row: Any, take: Any) -> None:
    (one,) = parsed(row, take=take)
    assert isinstance(one, Conversation | Rejection)


REAL: list[tuple[str, int, dict[str, int], dict[str, int]]] = [
    ("kdconv/film_dev.json.gz", 150, {}, {"DF010": 150}),
    ("llamafactory/alpaca_en_demo.json", 999, {"alpaca": 999}, {}),
    ("llamafactory/alpaca_zh_demo.json", 1000, {"alpaca": 1000}, {}),
    ("llamafactory/c4_demo.jsonl", 300, {}, {"DF017": 300}),
    ("llamafactory/dpo_en_demo.json", 300, {"preference": 300}, {}),
    ("llamafactory/dpo_zh_demo.json", 300, {"preference": 300}, {}),
    ("llamafactory/glaive_toolcall_en_demo.json", 300, {"sharegpt": 300}, {}),
    ("llamafactory/glaive_toolcall_zh_demo.json", 300, {"sharegpt": 300}, {}),
    ("llamafactory/identity.json", 91, {"alpaca": 91}, {}),
    ("llamafactory/kto_en_demo.json", 300, {"preference": 150}, {"DF021": 150}),
    ("llamafactory/mllm_demo.json", 6, {}, {"DF018": 6}),
    ("llamafactory/reason_tool_use_demo_50.jsonl", 50, {"openai": 50}, {}),
    ("llamafactory/v1_dpo_demo.jsonl", 10, {"preference": 10}, {}),
    ("llamafactory/v1_sft_demo.jsonl", 500, {"openai": 500}, {}),
    ("qmsum/Committee_val.jsonl.gz", 6, {}, {"DF010": 6}),
    ("sgd/sgd_toolchat_dev.jsonl.gz", 2098, {"openai": 2098}, {}),
    ("smilechat/smilechat_12k.jsonl.gz", 12_022, {"openai": 12_022}, {}),
    ("tau_bench/MockAirlineDomainEnv-few_shot.jsonl", 19, {}, {"DF010": 19}),
    ("tau_bench/gpt-4o-airline.json.gz", 200, {"openai": 200}, {}),
    ("vcsum/short_dev.jsonl.gz", 135, {}, {"DF010": 135}),
]


def counted(path: str) -> tuple[list[Conversation], Tally, Counter[str]]:
    tally = Tally()
    items = list(parse(read([path]), ROLES, take="chosen", tally=tally))
    rejected = Counter(item.rule for item in items if isinstance(item, Rejection))
    return [item for item in items if isinstance(item, Conversation)], tally, rejected


@pytest.mark.parametrize(("name", "rows", "schemas", "rejected"), REAL, ids=lambda v: str(v)[:40])
def test_real_data_is_read_or_refused_row_by_row(
    name: str, rows: int, schemas: dict[str, int], rejected: dict[str, int], assets: Path
) -> None:
    found, tally, refused = counted(str(assets / "data" / name))
    assert len(found) + refused.total() == rows
    assert (tally.schemas, refused) == (schemas, rejected)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("alpaca_en_demo", "alpaca_en_demo.json"),
        ("glaive_toolcall_zh_demo", "glaive_toolcall_zh_demo.json"),
        ("dpo_en_demo", "dpo_en_demo.json"),
        ("kto_en_demo", "kto_en_demo.json"),
        ("c4_demo", "c4_demo.jsonl"),
        ("mllm_demo", "mllm_demo.json"),
    ],
)
def test_described_data_is_the_same_as_data_found_by_looking(
    name: str, file: str, assets: Path
) -> None:
    folder = assets / "data" / "llamafactory"
    described = counted(f"{folder / 'dataset_info.json'}:{name}")
    found = counted(str(folder / file))
    assert described[0] == found[0]
    assert described[2] == found[2]


def test_a_real_tool_call_with_reasoning_is_read_whole(assets: Path) -> None:
    path = str(assets / "data" / "llamafactory" / "reason_tool_use_demo_50.jsonl")
    spoken = [m for c in counted(path)[0] for m in c.messages if m.role == "assistant"]
    assert (len(spoken), sum(bool(m.reasoning) for m in spoken)) == (112, 112)
    assert sum(len(m.tool_calls) for m in spoken) == 68

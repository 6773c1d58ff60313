"""Repairs mend what they name, leave the rest alone, and can be taken back."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from glmprep.repair import REPAIRS, Edit, repair, undo
from hypothesis import given
from hypothesis import strategies as st

CALL = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]


def turn(role: str, content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


USER, ANSWER, SYSTEM = turn("user"), turn("assistant"), turn("system")
RESULT = turn("tool", "42")
CASES: list[tuple[str, list[Any], list[Any]]] = [
    ("DF031", [turn("user", "\ufeffa\r\nb\rc"), ANSWER], [turn("user", "a\nb\nc"), ANSWER]),
    ("DF031", [turn("user", "a\x00\x1b[31m\x85b"), ANSWER], [turn("user", "a[31mb"), ANSWER]),
    (
        "DF031",
        [USER, turn("assistant", [{"type": "text", "text": "a\r\n"}])],
        [USER, turn("assistant", [{"type": "text", "text": "a\n"}])],
    ),
    (
        "DF031",
        [USER, turn("assistant", "x", reasoning_content="\x07so")],
        [USER, turn("assistant", "x", reasoning_content="so")],
    ),
    (
        "DF032",
        [USER, turn("assistant", None, tool_calls=CALL), RESULT, ANSWER],
        [USER, turn("assistant", "", tool_calls=CALL), RESULT, ANSWER],
    ),
    ("DF033", [SYSTEM, ANSWER, USER, ANSWER], [SYSTEM, USER, ANSWER]),
    (
        "DF033",
        [turn("assistant", "", tool_calls=CALL), RESULT, ANSWER, USER, ANSWER],
        [USER, ANSWER],
    ),
    ("DF034", [USER, ANSWER, USER], [USER, ANSWER]),
    ("DF034", [USER, ANSWER, USER, USER], [USER, ANSWER]),
    ("DF035", [USER, turn("user", "ho"), ANSWER], [turn("user", "hi\nho"), ANSWER]),
    (
        "DF035",
        [USER, ANSWER, turn("assistant", "", tool_calls=CALL), RESULT, ANSWER],
        [USER, turn("assistant", "hi", tool_calls=CALL), RESULT, ANSWER],
    ),
]
SOUND: list[list[Any]] = [
    [USER, ANSWER],
    [USER, turn("assistant", "a\tb\nc\u200d")],
    [USER, turn("assistant", "wait \ufeff here")],
    [USER, turn("assistant", None)],
    [ANSWER],
    [USER],
    [USER, turn("assistant", "", tool_calls=CALL), RESULT],
    [USER, turn("assistant", "", tool_calls=CALL), turn("assistant", "", tool_calls=CALL)],
    [USER, ANSWER, turn("assistant", "no", weight=0)],
    [USER, turn("assistant", "a", part=[0, 2]), turn("assistant", "b", part=[1, 2])],
    [USER, ANSWER, turn("assistant", "b", reasoning_content="thought")],
    [USER, ANSWER, turn("assistant", "b", name="someone else")],
    [USER, turn("assistant", 5), turn("assistant", 6)],
]


@pytest.mark.parametrize(("rule", "messages", "mended"), CASES)
def test_a_repair_mends_what_it_names_and_says_so(rule, messages, mended) -> None:
    row, edits = repair({"id": "a", "messages": copy.deepcopy(messages)})
    assert row == {"id": "a", "messages": mended}
    assert {edit.rule for edit in edits} == {rule}


@pytest.mark.parametrize("messages", SOUND)
def test_what_needs_no_repair_stays_the_same_object(messages) -> None:
    row = {"messages": messages}
    assert repair(row) == (row, [])
    assert repair(row)[0] is row


def test_each_repair_is_tried() -> None:
    assert {rule for rule, _, _ in CASES} == {rule.id for rule in REPAIRS}


@pytest.mark.parametrize("row", [{}, {"messages": "text"}, {"messages": [5]}, {"messages": [None]}])
def test_a_row_that_is_no_conversation_is_left_to_the_parser(row) -> None:
    assert repair(row) == (row, [])


TURNS = st.lists(
    st.builds(
        turn,
        st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool", "odd"]),
        st.sampled_from(["a", "", "\ufeffb", "c\r\nd", "\x00", None, 5]),
        tool_calls=st.sampled_from([None, None, CALL]),
    )
    | st.builds(turn, st.sampled_from(["user", "assistant"]), weight=st.sampled_from([0, 1])),
    max_size=9,
)


@given(TURNS)
def test_every_repair_can_be_taken_back_from_its_ledger(messages) -> None:
    row = {"messages": messages, "tools": []}
    mended, edits = repair(copy.deepcopy(row))
    written = orjson.loads(orjson.dumps([edit.as_json() for edit in edits]))
    assert undo(mended, [Edit.from_json(edit) for edit in written]) == row


@given(TURNS)
def test_what_was_repaired_needs_no_repair(messages) -> None:
    mended, _ = repair({"messages": messages})
    assert repair(mended) == (mended, [])


def test_edits_of_another_row_are_refused() -> None:
    _, edits = repair({"messages": [USER, USER, ANSWER]})
    with pytest.raises(ValueError, match="message 1 is not the one that was changed"):
        undo({"messages": [turn("system", "other"), ANSWER]}, edits)

"""Each answer is trained once, in the form in which the model would produce it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from glmprep import canonical, families
from glmprep.families import Family, Thinking
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.records import Conversation, Message, RawRow
from glmprep.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import NOWHERE, chat, conversations, no_shrinking, turn_targets

MODES: list[tuple[str, Thinking]] = [
    ("glm4", "on"),
    ("glm4-0414", "on"),
    *((name, mode) for name in ("glm-z1", "glm4.6", "glm4.7") for mode in ("on", "off", "auto")),
]
every_mode = pytest.mark.parametrize(("name", "thinking"), MODES)


def reparsed(row: Conversation) -> Conversation:
    """The row as it is read back from canonical JSON Lines."""
    value = json.loads(canonical.line(row))
    (again,) = parse([RawRow(value=value, origin=NOWHERE)])
    assert isinstance(again, Conversation)
    return again


def said(*turns: str, **trained: Any) -> Conversation:
    """A conversation in short: u, s or t for others, a for an answer, r for one that reasons."""
    roles = {"u": "user", "s": "system", "t": "tool", "a": "assistant", "r": "assistant"}
    messages = [
        Message(
            role=roles[turn[0]],  # type: ignore[arg-type]
            content=turn,
            reasoning=f"think {turn}" if turn[0] == "r" else "",
            untrained="weight" if turn.endswith("-") else None,
        )
        for turn in turns
    ]
    return chat(*messages)


def summary(rows: Sequence[Conversation]) -> list[str]:
    """Each row's turns, * behind a trained one, ! before one that keeps its reasoning."""
    return [
        " ".join(
            "!" * bool(m.reasoning) + m.content + "*" * (m.role == "assistant" and m.trained)
            for m in row.messages
        )
        for row in rows
    ]


# ---------------------------------------------------------------- the text that is trained


def parted(message: Message, *, ignored: bool) -> tuple[str, str]:
    """Reasoning and text of an answer, as the templates' own expressions take them."""
    text = message.content
    if "</think>" not in text or (message.reasoning and not ignored):
        return message.reasoning, text
    first = text.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n")
    return message.reasoning or first, text.split("</think>")[-1].lstrip("\n")


def call_text(message: Message, line: str) -> str:
    text = ""
    for call in message.tool_calls:
        text += f"{line}<tool_call>{call.name}{line}"
        for key, value in json.loads(call.arguments).items():
            text += f"<arg_key>{key}</arg_key>{line}<arg_value>{value}</arg_value>{line}"
        text += "</tool_call>"
    return text


def generated(name: str, message: Message, *, thinks: bool, off: bool) -> str:
    """What the model writes for an answer, without its stop token."""
    if name in ("glm4", "glm4-0414", "glm-z1"):
        reasoning, content = "", message.content
        arguments = [call.arguments for call in message.tool_calls]
        if name == "glm-z1":
            reasoning, _ = parted(message, ignored=False)
            content = content.split("</think>")[-1].strip()
            arguments = [text.split("</think>")[-1].strip() for text in arguments]
        thought = f"\n{reasoning.strip()}\n</think>" if reasoning and not off else ""
        pieces = []
        if thought or content or not message.tool_calls:
            pieces.append(f"{thought}\n{content}" if content or not thought else thought)
        names = [call.name for call in message.tool_calls]
        pieces += [f"{name}\n{text}" for name, text in zip(names, arguments, strict=True)]
        return "<|assistant|>".join(pieces)
    line = "" if name == "glm4.7" else "\n"
    reasoning, content = parted(message, ignored=off)
    content = f"{line}{content.strip()}" if content.strip() else ""
    shown = reasoning if thinks and not off else ""
    if name == "glm4.7":
        thought = f"{shown.strip()}</think>" if shown else ""
    else:
        thought = "" if not thinks else f"\n<think>{shown.strip()}</think>"
    return thought + content + call_text(message, line)


def round_thinks(messages: Sequence[Message], turn: int) -> bool:
    """Whether, in auto mode, the round of a turn is one of those in which the model thinks."""
    users = [t for t, message in enumerate(messages) if message.role == "user"]
    first = max((t for t in users if t <= turn), default=0)
    last = min((t for t in users if t > turn), default=len(messages))
    answers = [message for message in messages[first:last] if message.role == "assistant"]
    reasons = any(parted(message, ignored=False)[0] for message in answers)
    return reasons and any(message.trained for message in answers)


def expected(name: str, thinking: Thinking, conversation: Conversation) -> dict[int, str]:
    """For each trained turn the text that the model would produce, its stop token included."""
    found = {}
    messages = conversation.messages
    for turn, message in enumerate(messages):
        if message.role != "assistant" or not message.trained:
            continue
        thinks = thinking == "on" or (thinking == "auto" and round_thinks(messages, turn))
        text = generated(name, message, thinks=thinks, off=thinking == "off")
        stop = "<|observation|>" if message.tool_calls else "<|user|>"
        follows = messages[turn + 1].role if turn + 1 < len(messages) else ""
        hoists = name in ("glm4-0414", "glm-z1")
        found[turn] = text + (stop if follows != "system" or hoists else "")
    return found


@every_mode
@settings(no_shrinking, max_examples=30)
@given(conversation=conversations(longest=4, reasoning=True))
def test_each_answer_is_trained_in_one_row_as_the_model_would_write_it(
    name: str, thinking: Thinking, tagged: Tokenizer, conversation: Conversation
) -> None:
    family = families.load(name, tagged, thinking=thinking)
    trained: dict[int, str] = {}
    for row in family.rows(conversation):
        for turn, ids in enumerate(turn_targets(row, family, tagged)):
            if ids:
                assert turn not in trained
                trained[turn] = tagged.decode(ids)
    wanted = expected(name, thinking, conversation)
    assert trained == {turn: text for turn, text in wanted.items() if text}


@every_mode
@settings(no_shrinking, max_examples=20)
@given(conversation=conversations(longest=3, reasoning=True))
def test_rows_of_rows_are_themselves_also_from_a_file(
    name: str, thinking: Thinking, tagged: Tokenizer, conversation: Conversation
) -> None:
    family = families.load(name, tagged, thinking=thinking)
    for row in family.rows(conversation):
        assert list(family.rows(row)) == [row]
        read = reparsed(row)
        (again,) = family.rows(read)
        assert again.id == row.id
        one, other = (tokenize([each], family, tagged) for each in (row, again))
        assert one.ids.tolist() == other.ids.tolist()
        assert one.mask.tolist() == other.mask.tolist()


# ---------------------------------------------------------------- single cases

THREE_ROUNDS = ("u1", "r1", "u2", "a2", "u3", "r3", "u4", "a4")


@pytest.fixture
def load(tagged: Tokenizer) -> Any:
    def load(name: str = "glm4.6", thinking: Thinking = "on") -> Family:
        return families.load(name, tagged, thinking=thinking)

    return load


def test_a_row_ends_with_each_round_that_reasons_and_with_the_conversation(load: Any) -> None:
    rows = load().rows(said(*THREE_ROUNDS))
    assert summary(rows) == [
        "u1 !r1*",
        "u1 r1 u2 a2* u3 !r3*",
        "u1 r1 u2 a2 u3 r3 u4 a4*",
    ]
    assert [row.id for row in rows] == ["chat@1", "chat@2", "chat@3"]
    assert [m.untrained for m in rows[2].messages if m.role == "assistant"] == [
        *("elsewhere",) * 3,
        None,
    ]


def test_in_auto_mode_rounds_without_reasoning_have_a_row_of_their_own(load: Any) -> None:
    rows = load(thinking="auto").rows(said(*THREE_ROUNDS))
    assert summary(rows) == ["u1 !r1*", "u1 r1 u2 a2 u3 !r3*", "u1 r1 u2 a2* u3 r3 u4 a4*"]


def test_a_row_without_reasoning_ends_before_the_next_round_of_another_row(load: Any) -> None:
    rows = load(thinking="auto").rows(said("u1", "a1", "u2", "r2"))
    assert summary(rows) == ["u1 a1 u2 !r2*", "u1 a1*"]


def test_a_conversation_that_reasons_in_its_last_round_stays_one_row(load: Any) -> None:
    conversation = said("s", "u1", "a1", "u2", "r2")
    assert list(load().rows(conversation)) == [conversation]


def test_what_nobody_answers_behind_the_last_reasoning_makes_no_row(load: Any) -> None:
    (row,) = load().rows(said("u1", "r1", "u2"))
    assert summary([row]) == ["u1 !r1*"]
    assert row.id == "chat"


def test_reasoning_that_is_not_trained_makes_no_row_and_is_left_out_of_history(load: Any) -> None:
    (row,) = load().rows(said("u1", "r1-", "u2", "a2"))
    assert summary([row]) == ["u1 r1- u2 a2*"]


def test_an_answer_behind_reasoning_of_its_round_is_trained_behind_it(load: Any) -> None:
    conversation = said("u1", "r1-", "t", "a1", "u2", "a2")
    assert summary(load().rows(conversation)) == ["u1 !r1- t a1*", "u1 r1- t a1 u2 a2*"]


def test_without_thinking_a_conversation_is_one_row(load: Any) -> None:
    for name in ("glm4.5", "glm4.7", "glm-z1"):
        assert len(load(name, "off").rows(said(*THREE_ROUNDS))) == 1


def test_every_answer_that_reasons_ends_a_row_of_glm_z1(load: Any) -> None:
    rows = load("glm-z1").rows(said("u1", "r1", "t", "r2", "u2", "a3"))
    assert summary(rows) == ["u1 !r1*", "u1 r1 t !r2*", "u1 r1 t r2 u2 a3*"]


def test_an_answer_before_the_first_question_is_a_round(load: Any) -> None:
    rows = load().rows(said("r0", "u1", "a1"))
    assert summary(rows) == ["!r0*", "r0 u1 a1*"]


def test_reasoning_in_the_text_makes_rows_too(load: Any) -> None:
    answer = "<think>Hm.</think>\nYes."
    turns = [("user", "?"), ("assistant", answer)] * 2
    for name in ("glm4.6", "glm-z1"):
        rows = load(name).rows(chat(*turns))  # type: ignore[arg-type]
        assert summary(rows) == ["? !Yes.*", "? Yes. ? !Yes.*"]


def test_a_family_without_reasoning_leaves_messages_as_they_are(load: Any) -> None:
    conversation = said(*THREE_ROUNDS)
    for name in ("glm4", "glm4-0414"):
        assert list(load(name).rows(conversation)) == [conversation]


@given(st.lists(st.sampled_from(["u", "a", "r", "a-", "r-"]), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_rows_grow_and_no_answer_is_left_untrained(tagged: Tokenizer, turns: list[str]) -> None:
    conversation = said(*turns)
    rows = families.load("glm4.6", tagged).rows(conversation)
    ends = [len(row.messages) for row in rows]
    assert ends == sorted(set(ends))
    owned = [
        turn
        for row in rows
        for turn, message in enumerate(row.messages)
        if message.role == "assistant" and message.trained
    ]
    assert sorted(owned) == [turn for turn, one in enumerate(turns) if one in ("a", "r")]
    stripped = [replace(message, reasoning="", untrained=None) for message in rows[-1].messages]
    whole = [replace(message, reasoning="", untrained=None) for message in conversation.messages]
    assert stripped == whole[: len(stripped)]

"""Messages that are close are joined, nothing is lost by it, and all others are left alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from glmprep.merging.key import lost
from glmprep.merging.turns import Near, merge_turns
from glmprep.repair import Edit, undo
from glmprep.semantics.lexical import Lexical
from hypothesis import given, settings
from hypothesis import strategies as st

from .test_repair import CALL, turn

NEAR = Near(Lexical(), 0.2)
ALL = Near(Lexical(), -1.0)
RAIN = "The heavy rain flooded the old harbour road again."
MORE = "The harbour road was flooded by heavy rain in the night."
TEA = turn("assistant", "Would you like a cup of green tea?")
ASKED, AGAIN = "How do I reset the router password?", "The router password: how do I reset it?"
TOLD, RETOLD = (
    "Hold the reset button of the router until the light blinks.",
    "Hold the reset button of the router until the light blinks, please.",
)


def merged(messages: Sequence[Any], near: Near = NEAR) -> tuple[list[Any], list[Edit]]:
    left, edits = list(messages), list(merge_turns(messages, near=near))
    for edit in edits:
        end = edit.at + len(edit.before)
        assert left[edit.at : end] == list(edit.before)
        left[edit.at : end] = edit.after
    return left, edits


def test_speech_in_pieces_becomes_one_message() -> None:
    left, edits = merged([turn("user", RAIN), turn("user", MORE), TEA])
    assert left == [turn("user", f"{RAIN}\n{MORE}"), TEA]
    assert [edit.rule for edit in edits] == ["DF521"]


def test_a_sentence_that_was_said_before_is_left_out() -> None:
    left, _ = merged([turn("user", f"{RAIN} {MORE}"), turn("user", f"{RAIN} Stay in."), TEA])
    assert left[0]["content"] == f"{RAIN} {MORE}\nStay in."


def test_a_sentence_with_another_number_is_never_left_out() -> None:
    text = "The heavy rain flooded the old harbour road {} times again."
    left, _ = merged([turn("user", text.format(3)), turn("user", text.format(4)), TEA], ALL)
    assert left[0]["content"] == f"{text.format(3)}\n{text.format(4)}"


@pytest.mark.parametrize(
    "messages",
    [
        [turn("user", RAIN), turn("user", "My cat likes fish."), TEA],
        [turn("user", RAIN), TEA, turn("user", MORE)],
        [turn("system", RAIN), turn("system", MORE)],
        [turn("user", RAIN), turn("assistant", RAIN), turn("assistant", MORE, weight=0)],
        [turn("assistant", RAIN, part=[0, 2]), turn("assistant", MORE, part=[1, 2])],
        [turn("assistant", RAIN), turn("assistant", MORE, tool_calls=CALL)],
        [turn("assistant", RAIN, reasoning_content="so"), turn("assistant", MORE)],
        [turn("tool", RAIN), turn("tool", MORE)],
        [turn("user", f"Professor E: {RAIN}"), turn("user", f"Grad G: {MORE}")],
        [turn("user", f"{RAIN} Helper: I see."), turn("user", MORE)],
        [
            turn("user", "我很难过，怎么办？支持者：我理解你。"),
            turn("user", "我还是很难过，怎么办？"),
        ],
        [turn("user", [{"type": "text", "text": RAIN}]), turn("user", MORE)],
        [turn("user", RAIN)],
        [],
    ],
)
def test_what_is_unlike_or_not_of_one_speaker_stays_apart(messages: list[Any]) -> None:
    assert merged(messages) == (messages, [])


def test_the_words_of_one_named_speaker_are_joined_with_the_name() -> None:
    left, _ = merged([turn("user", f"Grad G: {RAIN}"), turn("user", f"Grad G: {MORE}"), TEA])
    assert left[0]["content"] == f"Grad G: {RAIN}\nGrad G: {MORE}"


def exchanges(asked: str, told: str) -> list[Any]:
    return [
        turn("user", ASKED),
        turn("assistant", TOLD),
        turn("user", asked),
        turn("assistant", told),
    ]


def test_an_exchange_that_comes_again_is_merged_into_the_fuller_one() -> None:
    left, edits = merged(exchanges(AGAIN, RETOLD))
    assert left == [turn("user", AGAIN), turn("assistant", RETOLD)]
    assert [edit.rule for edit in edits] == ["DF522"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (AGAIN, "Hold the reset button of the router for 10 seconds, until the light blinks."),
        (AGAIN, "Do not hold the reset button of the router until the light blinks."),
        (AGAIN, "Open the settings page and choose a new one there."),
        ("How do I reset the router password of Alice?", TOLD),
        ("How do I change the router password?", TOLD),
        ("My cat likes fish, is that fine?", TOLD),
    ],
)
def test_exchanges_that_differ_in_question_or_answer_are_both_kept(asked: str, told: str) -> None:
    messages = exchanges(asked, told)
    assert merged(messages) == (messages, [])


def test_an_exchange_is_not_torn_from_the_call_that_follows() -> None:
    call = turn("assistant", "", tool_calls=CALL)
    messages = [*exchanges(AGAIN, RETOLD), call, turn("tool", "42"), TEA]
    assert merged(messages) == (messages, [])


said = st.sampled_from(
    (
        RAIN,
        MORE,
        ASKED,
        AGAIN,
        TOLD,
        RETOLD,
        "",
        "I paid 30 euros to Bob.",
        "我不想去。",
        "我想去。",
    )
)
spoken = st.builds(
    turn,
    st.sampled_from(("system", "user", "user", "assistant", "assistant", "tool")),
    st.lists(said, min_size=1, max_size=3).map(" ".join),
)


@settings(deadline=None, max_examples=80)
@given(messages=st.lists(spoken, max_size=10), threshold=st.sampled_from((-1.0, 0.2, 0.9)))
def test_no_key_information_is_lost_and_merges_can_be_taken_back(
    messages: list[dict[str, Any]], threshold: float
) -> None:
    left, edits = merged(messages, Near(Lexical(), threshold))
    for edit in edits:
        roles = {m["role"] for m in edit.before}
        for role in roles:
            before, after = (
                [m["content"] for m in side if m["role"] == role]
                for side in (edit.before, edit.after)
            )
            assert not {key for text in before for key in lost(text, "\n".join(after))}
    assert undo({"messages": left}, edits)["messages"] == messages
    assert len(left) == len(messages) - sum(len(e.before) - len(e.after) for e in edits)


def test_what_a_row_of_real_pieces_says_stays_in_order(assets: Path) -> None:
    """Sentences of a speaker in VCSum, each as a message of its own."""
    with gzip.open(assets / "data/vcsum/short_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        meeting = json.loads(next(file))
    pieces = [turn("user", text) for block in meeting["context"] for text in block]
    left, edits = merged(pieces)
    assert edits
    assert len(left) < len(pieces)
    assert undo({"messages": left}, edits)["messages"] == pieces
    texts = iter("\n".join(m["content"] for m in left).split("\n"))
    kept = [m["content"] for m in pieces]
    assert all(text in kept or any(text in k for k in kept) for text in texts)


def test_real_dialogues_keep_the_helper_apart_from_who_seeks_help(assets: Path) -> None:
    """In some messages of SMILECHAT both speak; such are not joined, however close they are."""
    doubled = 0
    with gzip.open(assets / "data/smilechat/smilechat_12k.jsonl.gz", "rt") as file:
        for line in file:
            messages = [turn(m["role"], m["content"]) for m in json.loads(line)["messages"]]
            for message in messages:
                message["role"] = {"client": "user"}.get(message["role"], "assistant")
            together = [a["role"] == b["role"] for a, b in pairwise(messages)]
            if any(together) and any("支持者：" in m["content"] for m in messages):
                doubled += 1
                for edit in merged(messages, ALL)[1]:
                    assert not any("支持者：" in m["content"] for m in edit.before[:-1])
    assert doubled > 5

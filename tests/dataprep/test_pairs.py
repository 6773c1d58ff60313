"""Answers that stand beside the wrong prompt are found, and sound data is left alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from glmprep.families import Family
from glmprep.findings import RULES, Finding
from glmprep.labels import TokenBatch, tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Origin
from glmprep.rules.pairs import shifted_answers, shuffled_answers
from glmprep.sets import pairs
from glmprep.sets.pairs import Pairs
from glmprep.text.ngrams import features
from glmprep.tokenizer import Tokenizer
from glmreport.text import placeholders, rule_text
from hypothesis import example, given
from hypothesis import strategies as st

from .chats import chat

RULE_IDS = {"DF401", "DF402", "DF403"}


def first_answer(conversation: Conversation) -> int | None:
    """The turn of the first answer to a user."""
    roles = [message.role for message in conversation.messages]
    if "user" not in roles or "assistant" not in roles[roles.index("user") :]:
        return None
    return roles.index("assistant", roles.index("user"))


def dealt(rows: Sequence[Conversation], answers: Sequence[int]) -> list[Conversation]:
    """The rows, each with the first answer of another one."""
    turns = [first_answer(row) for row in rows]
    assert None not in turns
    made = []
    for row, turn, giver in zip(rows, turns, answers, strict=True):
        given_turn = turns[giver]
        assert turn is not None
        assert given_turn is not None
        answer = rows[giver].messages[given_turn]
        messages = (*row.messages[:turn], answer, *row.messages[turn + 1 :])
        made.append(replace(row, messages=messages))
    return made


def found(rows: Sequence[Conversation], tokens: TokenBatch) -> dict[str, Finding]:
    """What is found in rows that come in batches; their tokens are not looked at."""
    collector = Pairs()
    for place in range(0, len(rows), 300):
        collector.add(rows[place : place + 300], tokens)
    return {
        hit.rule.id: hit.rule.finding(
            "a", examples=tuple(hit.examples), count=hit.count, rows=hit.rows, **hit.data
        )
        for hit in collector.hits()
    }


def alpaca(path: Path) -> list[Conversation]:
    """Rows of one question and one answer."""
    rows = [
        chat(("user", f"{row['instruction']}\n{row['input']}"), ("assistant", row["output"]))
        for row in orjson.loads(path.read_bytes())
    ]
    return [replace(row, origin=Origin("alpaca", line)) for line, row in enumerate(rows, 1)]


def sample(name: str) -> list[Conversation]:
    """The sound rows of an embedded sample."""
    parsed = parse(read([f"sample:{name}"]))
    rows = [one for one in parsed if isinstance(one, Conversation)]
    return [row for row in rows if first_answer(row) is not None]


Load = Callable[[Path], list[Conversation]]
REAL: dict[str, Load] = {
    "counselling": lambda _: sample("counselling"),
    "toolcalls": lambda _: sample("toolcalls"),
    "alpaca_zh": lambda assets: alpaca(assets / "data/llamafactory/alpaca_zh_demo.json"),
    "alpaca_en": lambda assets: alpaca(assets / "data/llamafactory/alpaca_en_demo.json"),
}


@pytest.fixture(scope="module")
def no_tokens(family: Family, tokenizer: Tokenizer) -> TokenBatch:
    return tokenize([], family, tokenizer)


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest) -> list[Conversation]:
    """Real conversations, some of them beside the repository."""
    inside = request.param in ("counselling", "toolcalls")
    return REAL[request.param](Path() if inside else request.getfixturevalue("assets"))


def test_sound_data_has_no_hit(real: list[Conversation], no_tokens: TokenBatch) -> None:
    assert found(real, no_tokens) == {}


@pytest.mark.parametrize("offset", [1, -3])
def test_answers_that_slipped_by_some_rows_are_found_with_the_offset(
    offset: int, real: list[Conversation], no_tokens: TokenBatch
) -> None:
    hits = found(dealt(real, np.roll(np.arange(len(real)), -offset).tolist()), no_tokens)
    assert set(hits) == {"DF401"}
    assert hits["DF401"].data["offset"] == offset
    assert hits["DF401"].data["count"] >= 0.8 * hits["DF401"].data["told"]  # type: ignore[operator]
    assert f"at {offset:+d} " in hits["DF401"].evidence
    lines = {str(row.origin): line for line, row in enumerate(real)}
    for shown in hits["DF401"].examples:
        assert lines[shown.excerpt.removeprefix("→ ")] - lines[shown.where] == offset


def test_answers_that_slipped_in_the_last_third_are_found(
    real: list[Conversation], no_tokens: TokenBatch
) -> None:
    begin = len(real) * 2 // 3
    order = [*range(begin), *range(begin + 1, len(real)), begin]
    hits = found(dealt(real, order), no_tokens)
    assert hits["DF401"].data["offset"] == 1


def test_shuffled_answers_are_found(real: list[Conversation], no_tokens: TokenBatch) -> None:
    order = random.Random(1).sample(range(len(real)), len(real))
    assert set(found(dealt(real, order), no_tokens)) == {"DF402"}


def test_swapped_neighbours_are_found_and_no_others(
    real: list[Conversation], no_tokens: TokenBatch
) -> None:
    order = list(range(len(real)))
    swapped = range(0, len(real) - 1, 20)
    for place in swapped:
        order[place : place + 2] = place + 1, place
    collector = Pairs()
    collector.add(dealt(real, order), no_tokens)
    (hit,) = collector.hits()
    assert hit.rule.id == "DF403"
    assert hit.rows == 2 * hit.count
    assert 0.05 * len(swapped) <= hit.count <= len(swapped)
    lines = {str(row.origin): line for line, row in enumerate(real)}
    for shown in hit.examples:
        assert lines[shown.where] in swapped
        assert lines[shown.excerpt.removeprefix("↔ ")] == lines[shown.where] + 1


def test_answers_in_another_language_are_not_judged(no_tokens: TokenBatch) -> None:
    chinese, english = sample("counselling"), sample("toolcalls")
    rows = [
        chat(("user", one.messages[0].content), ("assistant", other.messages[1].content))
        for one, other in zip(chinese, english, strict=False)
    ]
    assert found(rows, no_tokens) == {}


def test_labels_are_not_judged(no_tokens: TokenBatch) -> None:
    rows = [
        chat(("user", row.messages[0].content), ("assistant", ("positive", "negative")[line % 2]))
        for line, row in enumerate(sample("counselling"))
    ]
    assert found(rows, no_tokens) == {}


def test_conversations_without_an_exchange_are_passed_over(no_tokens: TokenBatch) -> None:
    assert found([chat(("assistant", "Hello!")), chat(("user", "Hello?"))], no_tokens) == {}
    assert found([], no_tokens) == {}


def test_blocks_are_judged_together(monkeypatch: pytest.MonkeyPatch, no_tokens: TokenBatch) -> None:
    monkeypatch.setattr(pairs, "BLOCK", 300)
    monkeypatch.setattr(pairs, "TOGETHER", 100)
    rows = sample("toolcalls")
    hits = found(dealt(rows, [*range(1, len(rows)), 0]), no_tokens)
    assert hits["DF401"].data["offset"] == 1


@pytest.mark.parametrize(
    ("offsets", "told", "expected"),
    [
        ({1: 5}, 5, 1),
        ({-2: 40, 1: 13}, 100, -2),
        ({1: 4}, 4, None),
        ({1: 14}, 100, None),
        ({1: 40, -1: 40}, 100, None),
        ({}, 0, None),
        ({}, 100, None),
    ],
)
def test_a_shift_is_one_offset_that_stands_out(
    offsets: dict[int, int], told: int, expected: int | None
) -> None:
    assert shifted_answers(offsets, told) == expected


@pytest.mark.parametrize(
    ("own", "others", "rows", "expected"),
    [(0, 20, 100, True), (0, 19, 100, False), (7, 20, 100, False), (0, 99, 10_000, False)],
)
def test_a_shuffle_leaves_few_answers_in_place(
    own: int, others: int, rows: int, expected: bool
) -> None:
    assert shuffled_answers(own, others, rows) is expected


def test_every_rule_here_has_a_chinese_text_with_the_same_numbers() -> None:
    here = {name for name, rule in RULES.items() if rule.check.__module__ == "glmprep.rules.pairs"}
    assert here == RULE_IDS
    for name in here:
        texts = rule_text(name, "zh") or {}
        for part in ("evidence", "fix"):
            assert placeholders(texts[part]) == placeholders(getattr(RULES[name], part))


def of_text(text: str) -> set[int]:
    return set(features([text])[1].tolist())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Photograph", "two photographs, in"),
        ("今天天气", "天气"),
        ("ÜBER", "über"),
        ("2024", "(2024)"),
        ("한국어", "한국"),
    ],
)
def test_what_two_texts_are_about_can_be_compared(one: str, other: str) -> None:
    assert of_text(one) & of_text(other)


@pytest.mark.parametrize("text", ["", "a b c", "是", "。！？，", "-- ++ ==", "\0\0"])
def test_a_text_without_words_has_no_features(text: str) -> None:
    assert of_text(text) == set()


@given(st.lists(st.text()))
@example(["İstanbul", "x" * 5000, "\ud800abc", "end"])
def test_features_of_a_text_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    text, feature = features(texts)
    table = pl.DataFrame({"text": text, "feature": feature})
    for place, one in enumerate(texts):
        own = table.filter(pl.col("text") == place)["feature"].to_list()
        assert own == sorted(of_text(one))


def test_memory_of_a_block_is_given_back(monkeypatch: pytest.MonkeyPatch, no_tokens: Any) -> None:
    monkeypatch.setattr(pairs, "BLOCK", 100)
    monkeypatch.setattr(pairs, "TOGETHER", 100)
    collector = Pairs()
    rows = sample("toolcalls")
    for place in range(0, 400, 100):
        collector.add(rows[place : place + 100], no_tokens)
        assert not collector._block.origins
        assert not collector._waiting


def test_what_is_found_does_not_depend_on_batches(
    monkeypatch: pytest.MonkeyPatch, no_tokens: TokenBatch
) -> None:
    rows = sample("toolcalls")
    shifted = dealt(rows, [*range(1, len(rows)), 0])
    whole = found(shifted, no_tokens)
    assert whole
    monkeypatch.setattr(pairs, "AT_ONCE", 7)
    collector = Pairs()
    for one in shifted:
        collector.add([one], no_tokens)
    assert [hit.data for hit in collector.hits()] == [
        {name: hit.data[name] for name in ("offset", "told")} for hit in whole.values()
    ]

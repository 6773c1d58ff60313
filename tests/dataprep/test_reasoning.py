"""What becomes of reasoning is told: left out, missed, trained as text, or in several rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from glmprep import families
from glmprep.collect import Hit
from glmprep.families import Thinking
from glmprep.findings import Rule
from glmprep.labels import tokenize
from glmprep.reasoning import ReasoningUse
from glmprep.records import Conversation, Message, Origin
from glmprep.rules.reasoning import (
    no_reasoning,
    reasoning_as_text,
    reasoning_left_out,
    rows_for_reasoning,
)
from glmprep.tokenizer import Tokenizer
from glmreport.text import placeholders, rule_text

from .chats import chat

REASONED = Message(role="assistant", content="so", reasoning="Well.")
PLAIN = Message(role="assistant", content="so")
TAGGED = Message(role="assistant", content="<think>Well.</think>so")
NOT_TRAINED = Message(role="assistant", content="so", reasoning="Well.", untrained="weight")
TWO_ROUNDS = chat(("user", "a"), REASONED, ("user", "b"), REASONED)


def asked(answer: Message, line: int = 1) -> Conversation:
    return replace(chat(("user", "why?"), answer), origin=Origin("test.jsonl", line))


def hits(
    name: str, thinking: Thinking, chats: Sequence[Conversation], tokenizer: Tokenizer
) -> list[Hit]:
    family = families.load(name, tokenizer, thinking=thinking)
    rows = [row for conversation in chats for row in family.rows(conversation)]
    collector = ReasoningUse(family.reasoning)
    collector.add(rows, tokenize(rows, family, tokenizer))
    return list(collector.hits())


@pytest.mark.parametrize(
    ("rule", "fires", "silent"),
    [
        (reasoning_left_out, ("glm4", "on", REASONED), ("glm4", "on", NOT_TRAINED)),
        (reasoning_left_out, ("glm4-0414", "on", REASONED), ("glm4-0414", "on", PLAIN)),
        (reasoning_left_out, ("glm4.6", "off", REASONED), ("glm4.6", "on", REASONED)),
        (reasoning_left_out, ("glm-z1", "off", TAGGED), ("glm-z1", "on", TAGGED)),
        (no_reasoning, ("glm4.6", "on", PLAIN), ("glm4.6", "on", REASONED)),
        (no_reasoning, ("glm4.5", "on", PLAIN), ("glm4.5", "auto", PLAIN)),
        (no_reasoning, ("glm-z1", "on", PLAIN), ("glm-z1", "on", TAGGED)),
        (no_reasoning, ("glm4.6", "on", PLAIN), ("glm4.7", "on", PLAIN)),
        (reasoning_as_text, ("glm4", "on", TAGGED), ("glm4.6", "off", TAGGED)),
    ],
)
def test_a_rule_on_answers_fires_where_it_should(
    rule: Rule[Any],
    fires: tuple[str, Thinking, Message],
    silent: tuple[str, Thinking, Message],
    tagged: Tokenizer,
) -> None:
    name, thinking, answer = fires
    (hit,) = hits(name, thinking, [asked(answer), asked(answer, 2)], tagged)
    assert hit.rule is rule
    assert (hit.count, hit.rows, len(hit.examples)) == (2, 2, 2)
    assert hit.examples[0].where == "test.jsonl:1 message 2"
    name, thinking, answer = silent
    assert not any(hit.rule is rule for hit in hits(name, thinking, [asked(answer)], tagged))


def test_rows_of_one_conversation_are_counted(tagged: Tokenizer) -> None:
    (hit,) = hits("glm4.6", "on", [TWO_ROUNDS], tagged)
    assert hit.rule is rows_for_reasoning
    assert (hit.count, hit.data) == (1, {"rows_made": 2})
    assert hits("glm4.6", "on", [asked(REASONED)], tagged) == []


def test_pieces_of_a_cut_answer_are_not_taken_for_answers_without_reasoning(
    tagged: Tokenizer,
) -> None:
    piece = Message(role="assistant", content=" And so on.", part=(1, 2))
    assert hits("glm4.6", "on", [asked(piece)], tagged) == []


@pytest.mark.parametrize(
    "rule", [reasoning_left_out, no_reasoning, rows_for_reasoning, reasoning_as_text]
)
def test_the_chinese_texts_name_the_same_numbers(rule: Rule[Any]) -> None:
    texts = rule_text(rule.id, "zh") or {}
    for part in ("title", "evidence", "why", "fix"):
        assert placeholders(texts[part]) == placeholders(getattr(rule, part))

"""Ids and masks that a person can read: tests/golden/*.tokens, one token a line.

`pytest tests/dataprep --update-goldens` rewrites them; read what changed before you keep it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from glmprep import families
from glmprep.families import Family, Thinking
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message, ToolCall
from glmprep.tokenizer import Tokenizer

from .chats import TOOL, chat

GOLDEN = Path(__file__).parents[1] / "golden"
CALL = (ToolCall(name="look_up", arguments='{"key": "天气"}'),)

CHATS: dict[str, Conversation] = {
    "plain": chat(("user", "你好"), ("assistant", "你好！有什么可以帮你？")),
    "system-and-two-turns": chat(
        ("system", "Be brief."),
        ("user", "What is 6 x 7?"),
        ("assistant", "42."),
        ("user", "And 6 x 8?"),
        ("assistant", "48."),
    ),
    "tool-call-with-result": chat(
        ("user", "今天天气怎么样？"),
        Message(role="assistant", tool_calls=CALL),
        ("tool", '{"weather": "晴"}'),
        ("assistant", "今天是晴天。"),
        tools=[TOOL],
    ),
    "text-and-two-calls": chat(
        ("user", "Look it up."),
        Message(role="assistant", content="One moment.", tool_calls=CALL * 2),
    ),
    "weight-0": chat(
        ("user", "hi"),
        Message(role="assistant", content="A bad answer.", untrained="weight"),
        ("user", "again"),
        ("assistant", "A good answer."),
    ),
    "first-piece-of-a-cut-turn": chat(
        ("user", "Tell a story."),
        Message(role="assistant", content="Once upon a time.", part=(0, 2)),
    ),
    "last-piece-of-a-cut-turn": chat(
        Message(role="user", content="Tell a story.", untrained="weight"),
        Message(role="assistant", content="Once upon a time.", part=(0, 2), untrained="weight"),
        Message(role="assistant", content=" The end.", part=(1, 2)),
    ),
    "last-piece-without-the-one-before": chat(
        Message(role="assistant", content=" The end.", part=(1, 2)), ("user", "Thanks!")
    ),
    "trailing-question": chat(("user", "hi"), ("assistant", "Hello!"), ("user", "How are you?")),
    "control-tokens-as-text": chat(
        ("user", "What is <|user|>?"), ("assistant", "[gMASK] and <|endoftext|> are tokens.")
    ),
    "system-in-the-middle": chat(
        ("user", "hi"),
        ("assistant", "Hello!"),
        ("system", "Be rude."),
        ("user", "hi"),
        ("assistant", "What?"),
    ),
}

THOUGHTFUL = chat(
    ("user", "今天天气怎么样？"),
    Message(role="assistant", reasoning="要查一下。", tool_calls=CALL),
    ("tool", '{"weather": "晴"}'),
    Message(role="assistant", content="今天是晴天。", reasoning="结果是晴。\n"),
    ("user", "谢谢！"),
    ("assistant", "不客气。"),
)
PLAIN = chat(("user", "hi"), ("assistant", "Hello!"))
CALLS = chat(
    ("user", "Look it up."),
    Message(role="assistant", content="One moment.", tool_calls=CALL * 2),
    ("tool", "1"),
    ("tool", "2"),
    ("system", "Be brief."),
    ("assistant", "Done."),
)
PIECES = chat(
    Message(role="user", content="Tell a story.", untrained="weight"),
    Message(role="assistant", content=" The end.", part=(1, 2)),
)
OTHERS: dict[str, tuple[str, Thinking, Conversation]] = {
    "glm4-0414-calls": ("glm4-0414", "on", CALLS),
    "glm-z1-reasoning": ("glm-z1", "on", THOUGHTFUL),
    "glm4.6-reasoning": ("glm4.6", "on", THOUGHTFUL),
    "glm4.6-calls": ("glm4.6", "on", CALLS),
    "glm4.6-not-thinking": ("glm4.6", "off", PLAIN),
    "glm4.6-last-piece-of-a-cut-turn": ("glm4.6", "on", PIECES),
    "glm4.7-reasoning": ("glm4.7", "on", THOUGHTFUL),
    "glm4.7-calls": ("glm4.7", "on", CALLS),
    "glm4.7-last-piece-of-a-cut-turn": ("glm4.7", "on", PIECES),
}
"""Conversations of families other than GLM-4, with the family and its mode."""


def shown(conversation: Conversation, family: Family, tokenizer: Tokenizer) -> str:
    lines = ["# id mask text (1 = trained)"]
    rows = family.rows(conversation)
    for number, row in enumerate(rows, 1):
        if len(rows) > 1:
            lines.append(f"# row {number} of {len(rows)}: {row.id}")
        batch = tokenize([row], family, tokenizer)
        for token, trained in zip(batch.ids.tolist(), batch.mask.tolist(), strict=True):
            lines.append(f"{token:6} {trained} {tokenizer.decode([token])!r}")
    return "\n".join(lines) + "\n"


def assert_golden(name: str, tokens: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.tokens"
    if request.config.getoption("--update-goldens", default=False):
        path.write_text(tokens, "utf-8")
    assert tokens == path.read_text("utf-8")


@pytest.mark.parametrize("name", CHATS)
def test_tokens_are_those_of_the_golden_file(
    name: str, family: Family, tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    assert_golden(name, shown(CHATS[name], family, tokenizer), request)


@pytest.mark.parametrize("name", OTHERS)
def test_tokens_of_other_families_are_those_of_the_golden_file(
    name: str, tagged: Tokenizer, request: pytest.FixtureRequest
) -> None:
    family, thinking, conversation = OTHERS[name]
    made = families.load(family, tagged, thinking=thinking)
    assert_golden(name, shown(conversation, made, tagged), request)


def test_every_golden_file_has_its_conversation() -> None:
    assert {path.stem for path in GOLDEN.glob("*.tokens")} == {*CHATS, *OTHERS}

"""The forms in which the benchmarks give the corpus to other trainers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from glmprep import canonical
from glmprep.families import Family, shipped
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation
from glmprep.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "peers"))

import forms

Row = dict[str, Any]
HELD = 100


def sample(name: str) -> Iterator[Conversation]:
    found = (c for c in parse(read([f"sample:{name}"])) if isinstance(c, Conversation))
    return islice(found, HELD)


def canonical_row(*messages: Row, **more: Any) -> Row:
    return {"id": "1", "messages": list(messages), **more}


def said(role: str, content: str, *calls: str) -> Row:
    made = [{"function": {"name": name, "arguments": "{}"}} for name in calls]
    return {"role": role, "content": content, **({"tool_calls": made} if made else {})}


def turns(row: Row) -> list[tuple[str, str]]:
    made = forms.sharegpt(row)
    return [(turn["from"], turn["value"]) for turn in made["conversations"]] if made else []


@pytest.mark.parametrize("name", ["toolcalls", "counselling"])
def test_glm4_rows_have_the_same_ids_as_the_conversations(
    name: str, family: Family, tokenizer: Tokenizer, tokenizer_json: bytes
) -> None:
    whole = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
    for conversation in sample(name):
        row = forms.glm4(json.loads(canonical.line(conversation)))
        assert row is not None
        text = shipped.template("glm4").render(messages=row["messages"])
        ours = tokenize([conversation], family, tokenizer).ids.tolist()
        theirs = whole.encode(text, add_special_tokens=False).ids
        assert ours[: len(theirs)] == theirs
        assert len(ours) - len(theirs) <= 1  # the stop behind the last answer


@pytest.mark.parametrize("name", ["toolcalls", "counselling"])
def test_sharegpt_rows_alternate_and_end_on_an_answer(name: str) -> None:
    for conversation in sample(name):
        tags = [tag for tag, _ in turns(json.loads(canonical.line(conversation)))]
        assert all(tag in forms.ODD for tag in tags[::2])
        assert all(tag in forms.EVEN for tag in tags[1::2])
        assert len(tags) % 2 == 0


def test_neighbours_of_one_role_are_joined_and_an_open_end_is_left_off() -> None:
    row = canonical_row(
        said("user", "a"), said("user", "b"), said("assistant", "c"), said("user", "d")
    )
    assert turns(row) == [("human", "a\nb"), ("gpt", "c")]


def test_of_several_calls_and_their_text_the_first_call_alone_is_kept() -> None:
    row = canonical_row(
        said("user", "a"),
        said("assistant", "text", "one", "two"),
        said("tool", "1"),
        said("tool", "2"),
        said("assistant", "b"),
    )
    call = json.dumps({"name": "one", "arguments": {}})
    assert turns(row) == [
        ("human", "a"),
        ("function_call", call),
        ("observation", "1\n2"),
        ("gpt", "b"),
    ]


def test_rows_without_an_answer_are_left_out() -> None:
    row = canonical_row(said("system", "s"), said("user", "a"))
    assert forms.sharegpt(row) is None
    assert forms.glm4(row) is None

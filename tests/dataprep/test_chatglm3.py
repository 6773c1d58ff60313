"""ChatGLM3: ids of the model's own code, on its SentencePiece vocabulary."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from glmprep import families
from glmprep.cut import cut
from glmprep.families import Family
from glmprep.labels import open_ends, tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Message, ToolCall
from glmprep.tokenizer import Tokenizer, load
from hypothesis import given, settings

from .chatglm3_reference import reference
from .chats import TOOL, chat, conversations, no_shrinking, row_targets, texts

SYSTEM, USER, ASSISTANT, OBSERVATION = 64794, 64795, 64796, 64797
LINE = [30910, 13]


@pytest.fixture(scope="module")
def model(assets: Path) -> Path:
    pytest.importorskip("sentencepiece", reason="needs the extra 'chatglm3'")
    return assets / "tokenizer/chatglm2-3-6b/tokenizer.model"


@pytest.fixture(scope="module")
def pieces(model: Path) -> Tokenizer:
    return load(str(model.parent))


@pytest.fixture(scope="module")
def chatglm3(pieces: Tokenizer) -> Family:
    return families.load("chatglm3", pieces)


def assert_as_reference(
    chats: list[Conversation], family: Family, tokenizer: Tokenizer, model: Path
) -> None:
    batch = tokenize(chats, family, tokenizer)
    for place, conversation in enumerate(chats):
        at = slice(batch.offsets[place], batch.offsets[place + 1])
        ids, mask = reference(conversation, model)
        assert batch.ids[at].tolist() == ids, conversation.origin
        assert batch.mask[at].tolist() == mask, conversation.origin


@pytest.mark.parametrize(
    ("data", "count", "with_tools"),
    [
        ("sample:counselling", 250, 0),
        ("sample:toolcalls", 250, 120),
        ("data/sgd/sgd_toolchat_dev.jsonl.gz", 150, 150),
        ("data/llamafactory/glaive_toolcall_zh_demo.json", 150, 80),
    ],
)
def test_real_conversations_have_the_ids_and_mask_of_the_models_own_code(
    data: str,
    count: int,
    with_tools: int,
    chatglm3: Family,
    pieces: Tokenizer,
    model: Path,
    assets: Path,
) -> None:
    path = data if data.startswith("sample:") else str(assets / data)
    parsed = [c for c in parse(read([path])) if isinstance(c, Conversation)]
    chats = list(islice(parsed, count))
    assert len(chats) == count
    assert sum(bool(conversation.tools) for conversation in chats) >= with_tools
    assert_as_reference(chats, chatglm3, pieces, model)


@settings(no_shrinking, max_examples=50)
@given(conversation=conversations())
def test_random_conversations_have_the_ids_and_mask_of_the_models_own_code(
    chatglm3: Family, pieces: Tokenizer, model: Path, conversation: Conversation
) -> None:
    assert_as_reference([conversation], chatglm3, pieces, model)


def test_header_and_content_are_encoded_apart(chatglm3: Family, pieces: Tokenizer) -> None:
    batch = tokenize([chat(("user", "hi"), ("assistant", "hello"))], chatglm3, pieces)
    hi, hello = pieces.encode(" hi"), pieces.encode(" hello")
    answer = [*LINE, *hello, USER]
    assert batch.ids.tolist() == [64790, 64792, USER, *LINE, *hi, ASSISTANT, *answer]
    assert batch.mask.tolist() == [0] * (6 + len(hi)) + [1] * len(answer)


def test_a_call_names_the_tool_in_its_header_and_stops_at_its_result(
    chatglm3: Family, pieces: Tokenizer
) -> None:
    call = ToolCall(name="look_up", arguments='{"key": "天气", "n": 2, "deep": {"a": null}}')
    said = Message(role="assistant", content="One moment.", tool_calls=(call,))
    batch = tokenize([chat(("user", "hi"), said, tools=[TOOL])], chatglm3, pieces)
    code = "```python\ntool_call(key='天气', n=2, deep={'a': None})\n```"
    assert pieces.decode(batch.ids[batch.mask == 1]) == (
        f" \n One moment.<|assistant|> look_up\n {code}<|observation|>"
    )


@pytest.mark.parametrize("arguments", ["", "not JSON", "[1, 2]", "[" * 5000, "NaN"])
def test_arguments_without_names_stay_as_they_are(
    arguments: str, chatglm3: Family, pieces: Tokenizer
) -> None:
    call = ToolCall(name="run", arguments=arguments)
    said = Message(role="assistant", tool_calls=(call,))
    batch = tokenize([chat(("user", "hi"), said)], chatglm3, pieces)
    assert f"tool_call({arguments})" in pieces.decode(batch.ids)


def test_the_tools_join_the_system_message(chatglm3: Family, pieces: Tokenizer) -> None:
    turns = [("system", "Be brief."), ("user", "hi"), ("assistant", "hello")]
    batch = tokenize([chat(*turns, tools=[TOOL])], chatglm3, pieces)
    assert batch.ids.tolist().count(SYSTEM) == 1
    assert 'Be brief.\n[\n    {\n        "name": "look_up"' in pieces.decode(batch.ids)


def test_text_of_control_tokens_never_becomes_a_control_token(
    chatglm3: Family, pieces: Tokenizer
) -> None:
    hostile = "".join(pieces.added) + "sopeop"
    turns = [("system", hostile), ("user", hostile), ("assistant", hostile)]
    batch = tokenize([chat(*turns)], chatglm3, pieces)
    control = [token for token in batch.ids.tolist() if pieces.is_added(token)]
    assert control == [*chatglm3.prefix, SYSTEM, USER, ASSISTANT, USER]
    assert pieces.decode(pieces.encode(hostile)) == hostile


def test_words_are_not_taken_for_special_tokens(pieces: Tokenizer) -> None:
    assert "sop" not in pieces.added
    assert pieces.added_id("sop") == 64792
    assert pieces.vocab_size == 64798


def test_every_id_of_a_character_in_bytes_spans_the_character(pieces: Tokenizer) -> None:
    ids, offsets = pieces.encode_with_offsets("é👩x 今")
    assert len(ids) == len(offsets)
    assert offsets == [(0, 1), *[(1, 2)] * 4, (2, 3), (3, 4), (4, 5)]


@pytest.mark.parametrize(
    "text", ["我觉得很难过，不知道该怎么办。" * 40, "It is late. We go home. " * 40]
)
def test_a_cut_answer_has_the_ids_of_the_whole(
    text: str, chatglm3: Family, pieces: Tokenizer
) -> None:
    parts = cut(text, 100, 90, pieces, " ")
    assert parts is not None
    assert len(parts) > 2
    whole = chat(("user", "hi"), ("assistant", text))
    rows = [
        chat(("user", "hi"), Message(role="assistant", content=part.text, part=(place, len(parts))))
        for place, part in enumerate(parts)
    ]
    batch = tokenize([whole, *rows], chatglm3, pieces)
    trained = [row_targets(batch, row) for row in range(len(rows) + 1)]
    assert [token for row in trained[1:] for token in row] == trained[0]


@given(text=texts())
@settings(no_shrinking, max_examples=100)
def test_text_is_encoded_as_the_library_does_behind_a_space(
    pieces: Tokenizer, model: Path, text: str
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    library = sentencepiece.SentencePieceProcessor(model_file=str(model))
    assert pieces.encode(f" {text}") == library.encode(text)
    assert pieces.decode(pieces.encode(text)) == text


def test_a_whole_conversation_trains_a_stop_at_every_answer(
    chatglm3: Family, pieces: Tokenizer
) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    batch = tokenize([chat(*turns)], chatglm3, pieces)
    assert open_ends(batch.ids, batch.mask, batch.offsets, chatglm3.stops).tolist() == [0]
    assert np.flatnonzero(batch.ids == USER).size == 3

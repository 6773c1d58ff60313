"""Ids are those of the model's own template, the mask is what the model would generate."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from glmprep.families import Family
from glmprep.labels import open_ends, tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Message, RawRow, ToolCall
from glmprep.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import TOOL, chat, conversations, no_shrinking, texts

USER, ASSISTANT, OBSERVATION, SYSTEM = 151336, 151337, 151338, 151335
ROLE_IDS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": OBSERVATION}
TEMPLATE = "assets/glm4.jinja"


@pytest.fixture(scope="session")
def official(tokenizer_json: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer of transformers with the model's chat template."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'train'")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(tokenizer_json)
    made = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    made.chat_template = resources.files("glmprep").joinpath(TEMPLATE).read_text("utf-8")
    return made


def native(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row in the form that GLM-4's template takes, by a converter of its own."""
    names = {
        "human": "user",
        "gpt": "assistant",
        "function_call": "assistant",
        "tool": "observation",
    }
    messages: list[dict[str, Any]] = []
    for turn in row.get("messages") or row["conversations"]:
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        calls = turn.get("tool_calls") or []
        if role == "function_call":
            role, calls, content = "assistant", [{"function": json.loads(content)}], None
        role = names.get(role, role)
        if content:
            messages.append({"role": role, "content": content})
        for call in calls:
            arguments = call["function"]["arguments"]
            if not isinstance(arguments, str):
                arguments = json.dumps(arguments, ensure_ascii=False)
            name = call["function"]["name"]
            messages.append({"role": "assistant", "metadata": name, "content": arguments})
    tools = row.get("tools") or []
    tools = json.loads(tools or "[]") if isinstance(tools, str) else tools
    if tools:
        tools = [t if "function" in t else {"type": "function", "function": t} for t in tools]
        messages.insert(0, {"role": "system", "content": "", "tools": tools})
    return messages


def assert_official(
    path: str, count: int, family: Family, tokenizer: Tokenizer, official: Any
) -> int:
    """Compare the first conversations of a file; returns how many of them have tools."""
    rows = list(islice(read([path]), count))
    chats = [one for one in parse(rows) if isinstance(one, Conversation)]
    assert len(chats) == len(rows) == count
    batch = tokenize(chats, family, tokenizer)
    for place, (conversation, raw) in enumerate(zip(chats, rows, strict=True)):
        assert isinstance(raw, RawRow)
        row = raw.value
        text = json.dumps(row, ensure_ascii=False)
        assert not any(special in text for special in tokenizer.added)
        expected = official.apply_chat_template(native(row), tokenize=True, return_dict=False)
        last = conversation.messages[-1]
        if last.role == "assistant":
            expected = [*expected, OBSERVATION if last.tool_calls else USER]
        ours = batch.ids[batch.offsets[place] : batch.offsets[place + 1]].tolist()
        assert ours == expected, conversation.origin
    return sum(bool(conversation.tools) for conversation in chats)


@pytest.mark.parametrize(
    ("sample", "count", "with_tools"), [("counselling", 300, 0), ("toolcalls", 600, 300)]
)
def test_samples_have_the_ids_of_the_official_template_and_a_closing_stop(
    sample: str, count: int, with_tools: int, family: Family, tokenizer: Tokenizer, official: Any
) -> None:
    found = assert_official(f"sample:{sample}", count, family, tokenizer, official)
    assert found >= with_tools


def test_openai_tool_calls_have_the_ids_of_the_official_template(
    family: Family, tokenizer: Tokenizer, official: Any, assets: Path
) -> None:
    path = str(assets / "data/sgd/sgd_toolchat_dev.jsonl.gz")
    assert assert_official(path, 250, family, tokenizer, official) == 250


def test_the_embedded_template_is_the_models_own(assets: Path) -> None:
    ours = resources.files("glmprep").joinpath(TEMPLATE).read_text("utf-8")
    assert ours == (assets / "templates/glm-4-9b-chat.jinja").read_text("utf-8")


# ---------------------------------------------------------------- an independent reference


def reference(conversation: Conversation, plain: tokenizers.Tokenizer) -> list[tuple[int, int]]:
    """Ids and mask, token by token, straight from the promise.

    Trained are the assistant's text and the role token that ends its turn: <|user|>, or
    <|observation|> after a call, or <|assistant|> between two pieces of one reply; a <|system|>
    that follows is not. The list of tools and all other text is context.
    """

    def encode(text: str) -> list[int]:
        return list(plain.encode(text, add_special_tokens=False).ids)

    tokens = [(151331, 0), (151333, 0)]
    if conversation.tools:
        tokens += [(SYSTEM, 0), *((token, 0) for token in encode(tools_text(conversation.tools)))]
    awaits_stop = False  # whether the token before ends a turn that is trained
    previous: Message | None = None
    for message in conversation.messages:
        role = ROLE_IDS[message.role]
        learned = int(message.role == "assistant" and message.trained)
        said = [message.content] if message.content else []
        for text in said + [f"{call.name}\n{call.arguments}" for call in message.tool_calls]:
            is_content = text is message.content
            goes_on = is_content and message.part is not None and message.part[0] > 0
            joined = goes_on and previous is not None and is_next_piece(previous, message)
            if not joined:
                tokens.append((role, int(awaits_stop and role != SYSTEM)))
            if goes_on and not joined:
                tokens += [(token, 0) for token in encode("\n")]
            body = text if goes_on else (f"\n{text}" if is_content else text)
            tokens += [(token, learned) for token in encode(body)]
            awaits_stop = bool(learned) and (message.ends or not is_content)
        previous = message
    last = conversation.messages[-1]
    if last.role == "assistant" and last.ends:
        tokens.append((OBSERVATION if last.tool_calls else USER, int(awaits_stop)))
    return tokens


def is_next_piece(previous: Message, message: Message) -> bool:
    if previous.part is None or message.part is None or previous.role != message.role:
        return False
    return message.part == (previous.part[0] + 1, previous.part[1])


def tools_text(tools: Any) -> str:
    text = (
        "\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
        "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
    )
    for tool in tools:
        function = tool["function"]
        shown = json.dumps(function, indent=4, ensure_ascii=False)
        text += f"\n## {function['name']}\n\n{shown}"
        text += "\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
    return text


def assert_as_reference(
    chats: list[Conversation], family: Family, tokenizer: Tokenizer, plain: tokenizers.Tokenizer
) -> None:
    batch = tokenize(chats, family, tokenizer)
    for place, conversation in enumerate(chats):
        at = slice(batch.offsets[place], batch.offsets[place + 1])
        ours = list(zip(batch.ids[at].tolist(), batch.mask[at].tolist(), strict=True))
        assert ours == reference(conversation, plain)


@pytest.mark.parametrize("sample", ["counselling", "toolcalls", "meetings"])
def test_real_conversations_are_masked_as_the_reference_says(
    sample: str, family: Family, tokenizer: Tokenizer, plain: tokenizers.Tokenizer
) -> None:
    parsed = [c for c in parse(read([f"sample:{sample}"])) if isinstance(c, Conversation)]
    assert_as_reference(parsed[:150], family, tokenizer, plain)


@settings(no_shrinking, max_examples=50)
@given(st.lists(conversations(), min_size=1, max_size=4))
def test_random_conversations_are_masked_as_the_reference_says(
    family: Family, tokenizer: Tokenizer, plain: tokenizers.Tokenizer, chats: list[Conversation]
) -> None:
    assert_as_reference(chats, family, tokenizer, plain)


@settings(no_shrinking, max_examples=25)
@given(st.lists(conversations(), min_size=2, max_size=4))
def test_a_conversation_is_tokenized_alike_alone_and_in_a_batch(
    family: Family, tokenizer: Tokenizer, chats: list[Conversation]
) -> None:
    batch = tokenize(chats, family, tokenizer)
    alone = [tokenize([conversation], family, tokenizer) for conversation in chats]
    for name in ("ids", "mask", "targets", "stopped", "turn"):
        joined = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_array_equal(getattr(batch, name), joined)
    assert batch.supervised.tolist() == [int(one.supervised[0]) for one in alone]
    sums = np.bincount(batch.row, batch.targets, len(chats))
    assert sums.tolist() == batch.supervised.tolist()


# ---------------------------------------------------------------- single cases


def test_the_pieces_of_a_cut_turn_train_the_stop_once(family: Family, tokenizer: Tokenizer) -> None:
    whole = chat(("user", "hi"), ("assistant", "One. Two."))
    first = Message(role="assistant", content="One.", part=(0, 2))
    last = Message(role="assistant", content=" Two.", part=(1, 2))
    batch = tokenize(
        [whole, chat(("user", "hi"), first), chat(("user", "hi"), last)], family, tokenizer
    )
    rows = [slice(batch.offsets[i], batch.offsets[i + 1]) for i in range(3)]
    trained = [batch.ids[at][batch.mask[at] == 1].tolist() for at in rows]
    assert trained[1] + trained[2] == trained[0]
    assert open_ends(batch.ids, batch.mask, batch.offsets, family.stops).tolist() == [0, 1, 0]


def test_a_piece_whose_rest_is_missing_trains_no_stop(
    family: Family, tokenizer: Tokenizer, plain: tokenizers.Tokenizer
) -> None:
    piece = Message(role="assistant", content="One.", part=(0, 2))
    whole = chat(("user", "hi"), piece, ("user", "go on"), ("assistant", "Two."))
    assert_as_reference([whole], family, tokenizer, plain)


@settings(no_shrinking, max_examples=25)
@given(conversations(), st.data())
def test_pieces_are_masked_as_the_reference_says(
    family: Family,
    tokenizer: Tokenizer,
    plain: tokenizers.Tokenizer,
    conversation: Conversation,
    data: st.DataObject,
) -> None:
    messages: list[Message] = []
    for message in conversation.messages:
        if message.tool_calls or message.role == "system" or not data.draw(st.booleans()):
            messages.append(message)
            continue
        text = data.draw(st.lists(texts(3), min_size=1, max_size=3))
        pieces = [replace(message, content=t, part=(i, len(text))) for i, t in enumerate(text)]
        messages += data.draw(st.sampled_from((pieces, pieces[1:], pieces[:-1], pieces[:1])))
    if messages:
        whole = replace(conversation, messages=tuple(messages))
        assert_as_reference([whole], family, tokenizer, plain)


def test_text_of_control_tokens_never_becomes_a_control_token(
    family: Family, tokenizer: Tokenizer
) -> None:
    hostile = "".join(tokenizer.added)
    call = ToolCall(name=hostile, arguments=hostile)
    tool = {"type": "function", "function": {"name": hostile, "description": hostile}}
    messages = [
        Message(role="system", content=hostile),
        Message(role="user", content=hostile),
        Message(role="assistant", content=hostile, tool_calls=(call,)),
        Message(role="tool", content=hostile),
        Message(role="assistant", content=hostile),
    ]
    batch = tokenize([chat(*messages, tools=[tool])], family, tokenizer)
    control = [token for token in batch.ids.tolist() if tokenizer.is_added(token)]
    headers = [SYSTEM, SYSTEM, USER, ASSISTANT, ASSISTANT, OBSERVATION, ASSISTANT, USER]
    assert control == [*family.prefix, *headers]
    assert tokenizer.decode(tokenizer.encode(hostile)) == hostile


def test_an_answer_before_a_system_message_trains_no_stop(
    family: Family, tokenizer: Tokenizer
) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d"), ("assistant", "e")]
    batch = tokenize([chat(*turns)], family, tokenizer)
    trained = batch.ids[batch.mask == 1].tolist()
    assert [token for token in trained if tokenizer.is_added(token)] == [USER]
    assert open_ends(batch.ids, batch.mask, batch.offsets, family.stops).tolist() == [1]


def test_tools_are_written_as_they_were_given(family: Family, tokenizer: Tokenizer) -> None:
    batch = tokenize([chat(("user", "a"), ("assistant", "b"), tools=[TOOL])], family, tokenizer)
    assert json.dumps(TOOL["function"], indent=4, ensure_ascii=False) in tokenizer.decode(batch.ids)

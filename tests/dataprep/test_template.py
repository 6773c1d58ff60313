"""`--template`: ids are those of the rendering, the mask is what the model would generate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from itertools import islice
from pathlib import Path

import pytest
from glmprep import families
from glmprep.errors import InputError, UsageError
from glmprep.families import Family, Thinking, Unrenderable
from glmprep.labels import TokenBatch, tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Message, Rejection, ToolCall
from glmprep.rules.template import unrenderable
from glmprep.sized import size
from glmprep.tokenizer import Tokenizer, load
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import TOOL, chat, conversations, no_shrinking, texts
from .vocabularies import GLM45, write_folder

CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% generation %}<|start|>{{ m.role }}<|end|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
SPARING = CHATML.replace(
    "+ '<|im_end|>\\n' }}", "+ ('' if loop.last and m.role == 'assistant' else '<|im_end|>\\n') }}"
)
CALLS = """\
{%- if messages[0].role != 'system' %}<|im_start|>system
Help.<|im_end|>
{% endif %}
{%- if tools %}<|im_start|>tools
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user\\n' }}{% endif %}
{{- '<result>' + m.name + ': ' + m.content + '</result>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}
{{- m.content }}
{%- for call in m.tool_calls or [] %}
{{- '<tool_call>' + call.function.name + ' ' + call.function.arguments | tojson + '</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
FORGETFUL = CALLS.replace(
    "{%- if m.reasoning_content %}", "{%- if m.reasoning_content and loop.index0 > last.at %}"
)
FORGETFUL = (
    "{% set last = namespace(at=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set last.at = loop.index0 %}{% endif %}{% endfor %}" + FORGETFUL
)

THOUGHT = [
    Message(role="user", content="a"),
    Message(role="assistant", content="b", reasoning="why b"),
    Message(role="user", content="c"),
    Message(role="assistant", content="d", reasoning="why d"),
]
CALL = (ToolCall(name="f", arguments="{}"),)
Loaded = Callable[..., Family]


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    added = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
    return load(write_folder(tmp_path_factory.mktemp("chatml"), added))


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Loads a template's text as `--template` does."""

    def make(source: str, tokenizer: Tokenizer, **options: str) -> Family:
        path = tmp_path / "chat.jinja"
        path.write_text(source, encoding="utf-8")
        return families.load("auto", tokenizer, template=path, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def own_glm4(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """GLM-4-9B's template as a person's own."""
    path = tmp_path_factory.mktemp("template") / "glm4.jinja"
    path.write_bytes(resources.files("glmprep").joinpath("assets/glm4.jinja").read_bytes())
    return families.load("auto", tokenizer, template=path)


def sample(name: str, count: int) -> list[Conversation]:
    parsed = (c for c in parse(read([name])) if isinstance(c, Conversation))
    return list(islice(parsed, count))


def shown(batch: TokenBatch, tokenizer: Tokenizer, row: int = 0) -> str:
    """A row's text, what is trained in brackets."""
    at = slice(batch.offsets[row], batch.offsets[row + 1])
    text, trained = "", False
    run: list[int] = []
    for token, mask in [
        *zip(batch.ids[at].tolist(), batch.mask[at].tolist(), strict=True),
        (-1, 0),
    ]:
        if bool(mask) != trained or token < 0:
            part = tokenizer.decode(run)
            text += f"[{part}]" if trained else part
            run, trained = [], bool(mask)
        run.append(token)
    return text


def assert_alike(
    chats: Sequence[Conversation], one: Family, other: Family, tokenizer: Tokenizer
) -> None:
    left, right = tokenize(chats, one, tokenizer), tokenize(chats, other, tokenizer)
    assert left.ids.tolist() == right.ids.tolist()
    assert left.mask.tolist() == right.mask.tolist()


# ---------------------------------------------------------------- GLM's own templates


@pytest.mark.parametrize(("name", "count"), [("counselling", 200), ("toolcalls", 200)])
def test_glm4s_template_gives_what_the_built_in_family_gives(
    name: str, count: int, own_glm4: Family, family: Family, tokenizer: Tokenizer
) -> None:
    assert_alike(sample(f"sample:{name}", count), own_glm4, family, tokenizer)
    assert own_glm4.stops == family.stops


def test_openai_calls_are_given_to_glm4s_template_in_its_own_form(
    own_glm4: Family, family: Family, tokenizer: Tokenizer, assets: Path
) -> None:
    chats = sample(str(assets / "data/sgd/sgd_toolchat_dev.jsonl.gz"), 60)
    assert_alike(chats, own_glm4, family, tokenizer)


@settings(no_shrinking, max_examples=40)
@given(conversation=conversations(longest=6))
def test_random_conversations_give_what_the_built_in_family_gives(
    own_glm4: Family, family: Family, tokenizer: Tokenizer, conversation: Conversation
) -> None:
    assert_alike([conversation], own_glm4, family, tokenizer)


@settings(no_shrinking, max_examples=40)
@given(text=st.lists(texts(3), min_size=2, max_size=3), data=st.data())
def test_pieces_of_a_cut_answer_give_what_the_built_in_family_gives(
    own_glm4: Family, family: Family, tokenizer: Tokenizer, text: list[str], data: st.DataObject
) -> None:
    pieces = [
        Message(role="assistant", content=part, part=(place, len(text)))
        for place, part in enumerate(text)
    ]
    chosen = data.draw(st.sampled_from((pieces, pieces[1:], pieces[:-1], pieces[:1])))
    after = data.draw(st.sampled_from(([], [("user", "go on"), ("assistant", "Yes.")])))
    assert_alike([chat(("user", "hi"), *chosen, *after)], own_glm4, family, tokenizer)


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_glm46s_template_gives_what_the_built_in_family_gives(
    thinking: Thinking, loaded: Loaded, tmp_path: Path
) -> None:
    tokenizer = load(write_folder(tmp_path, GLM45))
    source = resources.files("glmprep").joinpath("assets/glm4.6.jinja").read_text("utf-8")
    own = loaded(source, tokenizer, thinking=thinking)
    built_in = families.load("glm4.6", tokenizer, thinking=thinking)
    for name in ("counselling", "toolcalls"):
        assert_alike(sample(f"sample:{name}", 60), own, built_in, tokenizer)
    thought = [row for one in (own, built_in) for row in one.rows(chat(*THOUGHT))]
    assert thought[: len(thought) // 2] == thought[len(thought) // 2 :]
    assert_alike(thought, own, built_in, tokenizer)


# ---------------------------------------------------------------- templates of other kinds


def test_an_end_token_of_the_templates_own_is_trained_once(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    family = loaded(CHATML, chatml)
    turns = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    batch = tokenize([chat(*turns, ("assistant", "d"))], family, chatml)
    assert shown(batch, chatml) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
        "<|im_start|>assistant\n[b<|im_end|>]\n<|im_start|>user\nc<|im_end|>\n"
        "<|im_start|>assistant\n[d<|im_end|>]\n"
    )
    assert family.stops == {chatml.added["<|im_end|>"]}
    assert family.pad_id not in family.stops


def test_an_end_token_that_the_template_leaves_out_at_the_end_is_added(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    batch = tokenize([chat(("user", "a"), ("assistant", "b"))], loaded(SPARING, chatml), chatml)
    assert shown(batch, chatml).endswith("<|im_start|>assistant\n[b<|im_end|>]")


def test_named_tokens_of_the_folder_are_there(loaded: Loaded, tmp_path: Path) -> None:
    added = ("<|begin|>", "<|start|>", "<|end|>", "<|eot|>")
    tokenizer = load(write_folder(tmp_path, added, bos_token={"content": "<|begin|>"}))
    batch = tokenize(
        [chat(("user", " a "), ("assistant", "b"))], loaded(LLAMA, tokenizer), tokenizer
    )
    assert shown(batch, tokenizer) == (
        "<|begin|><|start|>user<|end|>\n\na<|eot|><|start|>assistant<|end|>\n\n[b<|eot|>]"
    )


@pytest.mark.parametrize("source", [CHATML, CALLS])
def test_ids_are_those_of_the_rendering(
    source: str, chatml: Tokenizer, loaded: Loaded, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'train'")
    assert chatml.folder is not None
    official = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(chatml.folder / "tokenizer.json"), chat_template=source
    )
    family = loaded(source, chatml)
    chats = sample("sample:counselling", 100)
    batch = tokenize(chats, family, chatml)
    for row, conversation in enumerate(chats):
        messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
        expected = official.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert batch.ids[batch.offsets[row] : batch.offsets[row + 1]].tolist() == expected


def test_calls_and_their_results_are_written_and_calls_trained(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    call = ToolCall(name="look_up", arguments='{"key": "天气"}')
    said = Message(role="assistant", content="Wait.", tool_calls=(call, call))
    turns = [("user", "a"), said, ("tool", "1"), ("tool", "2"), ("assistant", "b")]
    batch = tokenize([chat(*turns, tools=[TOOL])], loaded(CALLS, chatml), chatml)
    called = '<tool_call>look_up {"key": "天气"}</tool_call>'
    assert shown(batch, chatml).partition("<|im_start|>user\na")[2] == (
        f"<|im_end|>\n<|im_start|>assistant\n[Wait.{called * 2}<|im_end|>]\n"
        "<|im_start|>user\n<result>look_up: 1</result><result>look_up: 2</result><|im_end|>\n"
        "<|im_start|>assistant\n[b<|im_end|>]\n"
    )


def test_text_of_control_tokens_stays_text(chatml: Tokenizer, loaded: Loaded) -> None:
    hostile = "".join(chatml.added) + "\U000f0000"
    tool = {"type": "function", "function": {"name": hostile, "description": hostile}}
    call = ToolCall(name=hostile, arguments=json.dumps({hostile: hostile}))
    turns: list[Message] = [
        Message(role="system", content=hostile),
        Message(role="user", content=hostile),
        Message(role="assistant", content=hostile, tool_calls=(call,)),
        Message(role="tool", content=hostile),
        Message(role="assistant", content=hostile),
    ]
    plain = [replace(m, content="x", tool_calls=()) for m in turns]
    plain[2] = replace(plain[2], tool_calls=(ToolCall(name="x", arguments='{"x": "x"}'),))
    tools = [{"type": "function", "function": {"name": "x", "description": "x"}}]
    family = loaded(CALLS, chatml)
    batch = tokenize([chat(*turns, tools=[tool]), chat(*plain, tools=tools)], family, chatml)
    control = [
        [token for token in batch.ids[a:b].tolist() if chatml.is_added(token)]
        for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)
    ]
    assert control[0] == control[1]
    assert hostile in shown(batch, chatml)


def test_what_the_template_says_before_the_first_turn_is_no_part_of_it(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    family = loaded(CALLS, chatml)
    turns = [("user", "a"), ("assistant", "b")]
    sized, with_tools = size([chat(*turns), chat(*turns, tools=[TOOL])], family, chatml)
    assert sized.turn_tokens == with_tools.turn_tokens
    assert sized.head + sum(sized.turn_tokens) == sized.total
    assert with_tools.head > sized.head > 0


def test_weight_0_is_context(chatml: Tokenizer, loaded: Loaded) -> None:
    bad = Message(role="assistant", content="b", untrained="weight")
    turns = [("user", "a"), bad, ("user", "c"), ("assistant", "d")]
    batch = tokenize([chat(*turns)], loaded(CHATML, chatml), chatml)
    assert shown(batch, chatml).count("[") == 1


# ---------------------------------------------------------------- reasoning


def test_reasoning_that_stays_is_trained_in_one_row(chatml: Tokenizer, loaded: Loaded) -> None:
    family = loaded(CALLS, chatml)
    assert family.reasoning == "optional"
    (row,) = family.rows(chat(*THOUGHT))
    text = shown(tokenize([row], family, chatml), chatml)
    assert "[<think>why b</think>b<|im_end|>]" in text
    assert "[<think>why d</think>d<|im_end|>]" in text


def test_reasoning_that_is_dropped_later_is_trained_in_a_row_of_its_own(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    family = loaded(FORGETFUL, chatml)
    rows = family.rows(chat(*THOUGHT))
    batch = tokenize(rows, family, chatml)
    first, last = (shown(batch, chatml, row) for row in range(2))
    assert first.endswith("[<think>why b</think>b<|im_end|>]\n")
    assert "assistant\nb<|im_end|>" in last
    assert last.endswith("[<think>why d</think>d<|im_end|>]\n")
    assert [list(family.rows(row)) for row in rows] == [[row] for row in rows]


def test_reasoning_in_the_text_is_given_apart(chatml: Tokenizer, loaded: Loaded) -> None:
    family = loaded(FORGETFUL, chatml)
    inside = [
        replace(m, content=f"<think>{m.reasoning}</think>{m.content}", reasoning="")
        if m.reasoning
        else m
        for m in THOUGHT
    ]
    assert [row.messages for row in family.rows(chat(*inside))] == [
        row.messages for row in family.rows(chat(*THOUGHT))
    ]


def test_without_thinking_nothing_is_thought(chatml: Tokenizer, loaded: Loaded) -> None:
    family = loaded(FORGETFUL, chatml, thinking="off")
    (row,) = family.rows(chat(*THOUGHT))
    assert "why" not in shown(tokenize([row], family, chatml), chatml)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ messages | length }}" + CHATML, "changes"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "no control token"),
        ("{{ raise_exception('not\ntoday') }}", "not today"),
        ("{{ messages[0].content.__class__.__mro__ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% set x = 'x' * 99999 %}{% for i in range(9999) %}{{ x }}{% endfor %}", "more than"),
        ("{{ 'x' * 10 ** 12 }}", "too large"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 1 / 0 }}", "division"),
        ("", "leaves out"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_trained_by_is_refused_in_one_line(
    source: str, reason: str, chatml: Tokenizer, loaded: Loaded
) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        loaded(source, chatml)
    assert "--family" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ a", "{% endfor %}", "{% unknown %}", "{{ a | no }}"]
)
def test_a_file_that_is_no_jinja_is_named_with_its_line(
    source: str, chatml: Tokenizer, loaded: Loaded
) -> None:
    with pytest.raises(InputError, match=r"chat\.jinja:2: not a jinja template"):
        loaded(f"\n{source}", chatml)


def test_glm47s_template_is_refused_where_it_thinks(
    loaded: Loaded, assets: Path, tmp_path: Path
) -> None:
    tokenizer = load(write_folder(tmp_path, GLM45))
    source = (assets / "templates/GLM-4.7-Flash.jinja").read_text("utf-8")
    with pytest.raises(UsageError, match="changes earlier turns"):
        loaded(source, tokenizer)


def test_a_template_and_a_family_are_one_too_many(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes the place of"):
        families.load("glm4", tokenizer, template=tmp_path / "any.jinja")


def test_a_missing_template_is_said_in_one_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        families.load("auto", tokenizer, template=tmp_path / "any.jinja")


@pytest.mark.parametrize(
    "conversation",
    [
        chat(("user", "a"), ("assistant", "b"), tools=[TOOL]),
        chat(("user", "a"), Message(role="assistant", tool_calls=CALL)),
    ],
)
def test_a_conversation_of_which_the_template_leaves_something_out_is_rejected(
    conversation: Conversation, chatml: Tokenizer, loaded: Loaded
) -> None:
    family = loaded(CHATML, chatml)
    with pytest.raises(Unrenderable, match="leaves out"):
        family.rows(conversation)
    rejected = unrenderable(family, conversation)
    assert isinstance(rejected, Rejection)
    assert rejected.rule == "DF016"


def test_a_conversation_that_the_template_takes_is_not_rejected(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    whole = chat(("user", "a"), ("assistant", "b"))
    assert unrenderable(loaded(CHATML, chatml), whole) == (whole,)


def test_a_template_that_raises_for_one_conversation_rejects_that_one(
    chatml: Tokenizer, loaded: Loaded
) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    family = loaded(strict + CHATML, chatml)
    rejected = unrenderable(family, chat(("system", "s"), ("user", "a"), ("assistant", "b")))
    assert isinstance(rejected, Rejection)
    assert "no system" in rejected.reason
    assert not isinstance(unrenderable(family, chat(("user", "a"), ("assistant", "b"))), Rejection)


def test_a_date_is_the_same_every_day(
    chatml: Tokenizer, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    whole = chat(("user", "a"), ("assistant", "b"))
    dated = loaded("{{ strftime_now('%Y-%m-%d') }}" + CHATML, chatml)
    assert shown(tokenize([whole], dated, chatml), chatml).startswith("2025-01-01<|im_start|>")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert shown(tokenize([whole], dated, chatml), chatml).startswith("1970-01-01<|im_start|>")

"""Ids are those of the models' templates, the mask is what the model would generate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from glmprep import canonical, families
from glmprep.errors import InputError
from glmprep.families import Family, Thinking
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.records import Conversation, Message, Origin, RawRow, ToolCall
from glmprep.tokenizer import Tokenizer, load

from . import realdata
from .chats import chat, turn_targets
from .references import REFERENCES, REST, THINKS, Reference, vocabulary

pytest.importorskip("transformers", reason="needs the extra 'train'")

Row = dict[str, Any]
Compared = tuple[Family, Tokenizer, Reference]
Make = Callable[..., Compared]
MODES: list[tuple[str, Thinking]] = [
    ("glm4", "on"),
    ("glm4-0414", "on"),
    ("glm-z1", "on"),
    ("glm-z1", "off"),
    ("glm4.5", "on"),
    ("glm4.6", "off"),
    ("glm4.6", "auto"),
    ("glm4.7", "on"),
    ("glm4.7", "off"),
    ("glm4.7", "auto"),
]
HIDING = "glm-z1"


@pytest.fixture(scope="module")
def compared(tokenizer_json: bytes, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a family and its reference, on a vocabulary with the given added tokens."""

    @cache
    def made(tokens: tuple[str, ...]) -> tuple[bytes, Tokenizer]:
        data = vocabulary(tokenizer_json, tokens)
        path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
        path.write_bytes(data)
        return data, load(str(path))

    def make(name: str, thinking: Thinking, tokens: tuple[str, ...] | None = None) -> Compared:
        setup = REFERENCES[name]
        data, tokenizer = made(setup.tokens if tokens is None else tokens)
        template = (assets / "templates" / setup.template).read_text("utf-8")
        family = families.load(name, tokenizer, thinking=thinking)
        return family, tokenizer, setup.make(data, template, thinking)

    return make


def sound(rows: Iterable[Row], tokenizer: Tokenizer) -> Iterator[tuple[Row, Conversation]]:
    """Rows without text of control tokens, and their conversations as they are parsed."""
    for place, row in enumerate(rows, 1):
        text = json.dumps(row, ensure_ascii=False)
        if any(token in text for token in tokenizer.added):
            continue
        (conversation,) = parse([RawRow(value=row, origin=Origin("real", place))])
        assert isinstance(conversation, Conversation)
        yield row, conversation


def assert_as_reference(row: Conversation, family: Family, tokenizer: Tokenizer, one: Any) -> None:
    batch = tokenize([row], family, tokenizer)
    ids, mask = one(json.loads(canonical.line(row)))
    assert batch.ids.tolist() == ids, row.origin
    assert batch.mask.tolist() == mask, row.origin


# ---------------------------------------------------------------- real conversations


@pytest.mark.parametrize("name", REFERENCES)
def test_real_conversations_have_the_ids_of_the_template_and_a_closing_stop(
    name: str, compared: Make, assets: Path
) -> None:
    family, tokenizer, reference = compared(name, "off" if name == HIDING else "on")
    count = 0
    for kind in realdata.KINDS:
        rows = islice(realdata.rows(assets, kind), 40 if kind == "tau-bench" else 90)
        for row, conversation in sound(rows, tokenizer):
            expected = reference.template.encode(reference.text(reference.seen(row)))
            batch = tokenize([conversation], family, tokenizer)
            assert batch.ids.tolist() == expected, (kind, conversation.origin)
            count += 1
    assert count >= 500


@pytest.mark.parametrize(("name", "thinking"), MODES)
def test_rows_of_real_conversations_are_masked_behind_the_generation_prompt(
    name: str, thinking: Thinking, compared: Make, assets: Path
) -> None:
    family, tokenizer, reference = compared(name, thinking)
    for kind in realdata.KINDS:
        rows = list(islice(realdata.rows(assets, kind), 12))
        for _, conversation in sound([*rows[:6], *realdata.reasoned(rows[6:])], tokenizer):
            for row in family.rows(conversation):
                assert_as_reference(row, family, tokenizer, reference)


@pytest.mark.parametrize("name", ["glm4.6", "glm4.7", HIDING])
def test_tags_that_are_not_added_are_text_of_the_run_around_them(
    name: str, compared: Make, assets: Path
) -> None:
    tokens = THINKS if name != HIDING else (*THINKS, *REST)
    family, tokenizer, reference = compared(name, "on", tokens)
    for kind in ("thinking", "sgd", "tau-bench"):
        rows = realdata.reasoned(islice(realdata.rows(assets, kind), 8))
        for _, conversation in sound(rows, tokenizer):
            for row in family.rows(conversation):
                assert_as_reference(row, family, tokenizer, reference)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_shipped_templates_are_those_of_the_assets(name: str, assets: Path) -> None:
    shipped = Path(families.__file__).parents[1] / "assets"
    ours = {"glm4.5": "glm4.6"}.get(name, name)
    text = (assets / "templates" / REFERENCES[name].template).read_text("utf-8")
    assert (shipped / f"{ours}.jinja").read_text("utf-8") == text


# ---------------------------------------------------------------- single cases

CALL = ToolCall(name="look_up", arguments='{"key": "天气", "days": [1, 2.0], "exact": true}')


def shown(conversation: Conversation, family: Family, tokenizer: Tokenizer) -> str:
    """The text of a conversation, what is trained between « and »."""
    batch = tokenize([conversation], family, tokenizer)
    pairs = zip(batch.ids.tolist(), batch.mask.tolist(), strict=True)
    text, before = "", 0
    for token, bit in [*pairs, (None, 0)]:
        text += "" if bit == before else "«" if bit else "»"
        text += "" if token is None else tokenizer.decode([token])
        before = bit
    return text


@pytest.mark.parametrize(
    ("name", "thinking", "expected"),
    [
        (
            "glm4.6",
            "on",
            "<|user|>\nhi<|assistant|>«\n<think></think>\nyo<|user|>»\nwhy?<|assistant|>"
            "«\n<think>Well.</think>\nso<|user|>»",
        ),
        (
            "glm4.6",
            "off",
            "<|user|>\nhi/nothink<|assistant|>\n<think></think>«\nyo<|user|>»\nwhy?/nothink"
            "<|assistant|>\n<think></think>«\nso<|user|>»",
        ),
        (
            "glm4.7",
            "on",
            "<|user|>hi<|assistant|></think>«yo<|user|>»why?<|assistant|><think>"
            "«Well.</think>so<|user|>»",
        ),
        (
            "glm4.7",
            "off",
            "<|user|>hi<|assistant|></think>«yo<|user|>»why?<|assistant|></think>«so<|user|>»",
        ),
        (
            "glm-z1",
            "on",
            "<|user|>\nhi<|assistant|>«\nyo<|user|>»\nwhy?<|assistant|>\n<think>"
            "«\nWell.\n</think>\nso<|user|>»",
        ),
        (
            "glm-z1",
            "off",
            "<|user|>\nhi<|assistant|>«\nyo<|user|>»\nwhy?<|assistant|>«\nso<|user|>»",
        ),
        (
            "glm4-0414",
            "on",
            "<|user|>\nhi<|assistant|>«\nyo<|user|>»\nwhy?<|assistant|>«\nso<|user|>»",
        ),
    ],
)
def test_what_the_model_generates_is_trained(
    name: str, thinking: Thinking, expected: str, tagged: Tokenizer
) -> None:
    answer = Message(role="assistant", content="so", reasoning=" Well.\n")
    conversation = chat(("user", "hi"), ("assistant", "yo"), ("user", "why?"), answer)
    family = families.load(name, tagged, thinking=thinking)
    (row,) = family.rows(conversation)
    assert shown(row, family, tagged) == "[gMASK]<sop>" + expected


def test_several_calls_are_one_turn_and_several_results_stand_under_one_role(
    tagged: Tokenizer,
) -> None:
    turn = Message(role="assistant", content="", tool_calls=(CALL, CALL))
    conversation = chat(("user", "?"), turn, ("tool", "a"), ("tool", "b"), ("assistant", "c"))
    call = (
        "<tool_call>look_up<arg_key>key</arg_key><arg_value>天气</arg_value>"
        "<arg_key>days</arg_key><arg_value>[1, 2.0]</arg_value>"
        "<arg_key>exact</arg_key><arg_value>true</arg_value></tool_call>"
    )
    assert shown(conversation, families.load("glm4.7", tagged), tagged) == (
        f"[gMASK]<sop><|user|>?<|assistant|></think>«{call}{call}<|observation|>»"
        "<tool_response>a</tool_response><tool_response>b</tool_response>"
        "<|assistant|></think>«c<|user|>»"
    )


@pytest.mark.parametrize(
    "arguments",
    ["{", "[1]", '"x"', "12", "[" * 100_000, '{"a": "\\ud800"}', '{"a": ' + "9" * 5000 + "}"],
)
def test_arguments_that_are_no_object_are_written_as_they_stand(
    arguments: str, tagged: Tokenizer
) -> None:
    turn = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments=arguments),))
    text = shown(chat(("user", "?"), turn), families.load("glm4.6", tagged), tagged)
    assert text.endswith(f"</think>\n<tool_call>f\n{arguments}\n</tool_call><|observation|>»")


@pytest.mark.parametrize("arguments", ["", " ", "null", "{}"])
def test_a_call_without_arguments_has_no_keys(arguments: str, tagged: Tokenizer) -> None:
    turn = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments=arguments),))
    text = shown(chat(("user", "?"), turn), families.load("glm4.6", tagged), tagged)
    assert text.endswith("</think>\n<tool_call>f\n</tool_call><|observation|>»")


def test_reasoning_in_the_text_is_taken_as_the_template_takes_it(tagged: Tokenizer) -> None:
    said = "<think>\nFirst.</think> lost </think>\n\nDone. \n"
    text = shown(chat(("user", "?"), ("assistant", said)), families.load("glm4.6", tagged), tagged)
    assert text.endswith("<|assistant|>«\n<think>First.</think>\nDone.<|user|>»")


def test_a_question_that_asks_not_to_think_is_not_marked_twice(tagged: Tokenizer) -> None:
    conversation = chat(("user", "hi/nothink"), ("assistant", "yo"))
    family = families.load("glm4.5", tagged, thinking="off")
    batch = tokenize([conversation], family, tagged)
    assert tagged.added_id("/nothink") not in batch.ids
    assert shown(conversation, family, tagged).count("/nothink") == 1


@pytest.mark.parametrize("name", REFERENCES)
def test_text_of_tags_never_becomes_a_tag(name: str, tagged: Tokenizer) -> None:
    def control_tokens(said: str) -> list[int]:
        call = ToolCall(name=said, arguments=json.dumps({said: said}))
        tool = {"type": "function", "function": {"name": said, "description": said}}
        conversation = chat(
            Message(role="system", content=said),
            Message(role="user", content=said),
            Message(role="assistant", content=said, reasoning=said, tool_calls=(call,)),
            Message(role="tool", content=said),
            Message(role="assistant", content=said),
            tools=[tool],
        )
        batch = tokenize([conversation], families.load(name, tagged), tagged)
        return [token for token in batch.ids.tolist() if tagged.is_added(token)]

    # `</think>` in a text has a meaning of its own, see below.
    hostile = "".join(token for token in tagged.added if token != THINKS[1])
    assert control_tokens(f"{hostile}.") == control_tokens("word")


@pytest.mark.parametrize(
    ("name", "missing"),
    [("glm4.5", "<think>"), ("glm4.7", "<think>"), ("glm-z1", "<|observation|>")],
)
def test_a_vocabulary_without_a_token_is_refused_with_its_name(
    name: str, missing: str, tokenizer_json: bytes, tmp_path: Path
) -> None:
    config = json.loads(tokenizer_json)
    kept = [token for token in config["added_tokens"] if token["content"] != missing]
    (tmp_path / "tokenizer.json").write_text(json.dumps(config | {"added_tokens": kept}))
    with pytest.raises(InputError, match=rf"no token {missing.replace('|', '.')}"):
        families.load(name, load(str(tmp_path)))


def test_system_messages_stand_in_front_wherever_they_came(tagged: Tokenizer) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d")]
    family = families.load("glm4-0414", tagged)
    assert shown(chat(*turns), family, tagged) == (  # type: ignore[arg-type]
        "[gMASK]<sop><|system|>\nc<|user|>\na<|assistant|>«\nb<|user|>»\nd"
    )
    assert shown(chat(*turns[:3]), family, tagged).endswith("«\nb<|user|>»")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*REFERENCES, "chatglm3"])
def test_every_family_says_what_it_makes_of_reasoning(name: str) -> None:
    made = families.FAMILIES[name]
    assert isinstance(made.note, str)  # type: ignore[attr-defined]
    assert bool(made.note) == (name in ("glm4-0414", HIDING))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_the_pieces_of_a_cut_turn_have_the_targets_of_the_whole(
    name: str, role: Any, tagged: Tokenizer
) -> None:
    family = families.load(name, tagged)
    call = Message(role="assistant", tool_calls=(CALL,))
    before: list[Any] = [("user", "?"), call] if role == "tool" else [("user", "?")]
    first = Message(role=role, content="One.", part=(0, 2))
    last = Message(role=role, content=" Two.", part=(1, 2))
    whole = chat(*before, (role, "One. Two."), ("user", "!"))
    joined = chat(*before, first, last, ("user", "!"))
    ids = [tokenize([one], family, tagged).ids.tolist() for one in (whole, joined)]
    assert ids[0] == ids[1]
    parts = [turn_targets(one, family, tagged) for one in (chat(*before, first), chat(last))]
    place = len(before)
    assert parts[0][place] + parts[1][0] == turn_targets(whole, family, tagged)[place]

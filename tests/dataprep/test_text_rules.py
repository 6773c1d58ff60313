"""Rules on tool calls and on text: each fires on a minimal case and not on a sound neighbour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from glmprep.families import Family
from glmprep.rules.format import unresolved_placeholder
from glmprep.rules.text import FINDS, TEXT_RULES
from glmprep.table import message_table, said
from glmprep.text import mojibake, repetition, sensitive
from glmprep.text.scripts import writing
from glmprep.text.spots import SHOWN, excerpt
from glmprep.tokenizer import Tokenizer
from hypothesis import example, given
from hypothesis import strategies as st

from .chats import chat
from .test_rules import ANSWER, RESULT, SYSTEM, USER, ask, call, fired, row

TOOL = {
    "name": "f",
    "parameters": {"type": "object", "properties": {"x": {}, "y": {}}, "required": ["x"]},
}
OPEN_TOOL = {"name": "f", "parameters": {"properties": {"x": {}}, "additionalProperties": True}}
TWO_CALLS = {**call(), "tool_calls": call()["tool_calls"] * 2}
GREETING = {**ANSWER, "content": "早上好"}
LOREM = "该怎么办呢？我想了很久，还是没有答案，只好来问问大家的意见，希望有人能够帮助我。"


def answered(text: str, **more: Any) -> bytes:
    return row(USER, {**ANSWER, "content": text, **more})


def asked(text: str) -> bytes:
    return row(ask(text), ANSWER)


def called(arguments: Any, tool: Any = TOOL) -> bytes:
    return row(USER, call(arguments), RESULT, ANSWER, tools=[tool])


CASES: list[tuple[str, bytes, bytes]] = [
    ("DF111", row(USER, call(name="g"), RESULT, tools=[TOOL]), row(USER, call(name="g"), RESULT)),
    ("DF111", row(USER, call(), tools=[{"type": "python"}]), row(USER, call(), tools=[TOOL])),
    ("DF112", row(USER, ANSWER, tools=[TOOL, TOOL]), row(USER, ANSWER, tools=[TOOL])),
    ("DF113", answered("I am {{name}}."), answered("Write `{{name}}`, which is filled in later.")),
    (
        "DF113",
        row({**SYSTEM, "content": "你是{{ 名字 }}"}, USER, ANSWER),
        answered("\\frac{{a}}{b}"),
    ),
    ("DF113", answered("我叫<NAME>。"), answered("In Jinja {{name}} is a variable.")),
    ("DF113", asked("Hi {user_name}!"), asked("the set {a, b} and {n}")),
    ("DF113", asked("Dear {name},"), asked("url: https://ghcr.io/${{ github.repository }}")),
    ("DF114", row(USER, TWO_CALLS, RESULT, ANSWER), row(USER, TWO_CALLS, RESULT, RESULT, ANSWER)),
    ("DF114", row(USER, call(), RESULT, RESULT, ANSWER), row(USER, call(), RESULT, ANSWER)),
    ("DF114", row(USER, TWO_CALLS, RESULT), row(USER, TWO_CALLS)),
    ("DF115", called("{}"), called({"x": 1})),
    ("DF115", called({"x": 1, "z": 2}), called({"x": 1, "y": 2})),
    ("DF115", called({"y": 1}), called({"z": 1}, OPEN_TOOL)),
    ("DF115", called({"z": 1}), called("no object")),
    ("DF115", called({}), called({}, {"name": "f", "parameters": {"required": [["x"]]}})),
    ("DF115", called({}), called({}, {"name": "f", "parameters": "none"})),
    ("DF116", answered('<functioncall> {"name": "f"}'), asked('<functioncall> {"name": "f"}')),
    ("DF116", answered('{"name": "f", "arguments": {}}'), answered('{"name": "Ann", "age": 5}')),
    ("DF116", answered("I search.\nAction Input: x"), answered("Action needs input.")),
    ("DF117", asked("Observation: 42"), answered("Observation: 42")),
    ("DF117", asked("<tool_response>\n42"), asked("My observation: 42")),
    ("DF301", answered("有\ufffd\ufffd。"), answered("有用。")),
    ("DF302", answered("鐨勬槸"), answered("的是")),
    ("DF302", answered("ä½ å¥½"), answered("naïve café — “été”")),
    ("DF302", answered("他说ÄãºÃ。"), answered("(╬Ò‸Ó) ········")),
    ("DF302", answered("锟斤拷锟斤拷"), answered("一斤烧烤")),
    ("DF303", answered("a\x00b"), answered("a\tb\r\n")),
    ("DF303", asked("\x0crac{a}{b}"), asked("\\frac{a}{b}")),
    ("DF304", answered("描\u200b述"), answered("👩\u200d👩\u200d👧 ❤\ufe0f，！")),
    ("DF304", answered("abc\u202edef"), answered("ab\xa0c")),
    ("DF305", answered("a<br>b"), answered("a < b and c > d")),
    ("DF305", asked("Tom &amp; Ann"), asked("AT&T; R&D")),
    ("DF305", asked("x <p>y</p>"), asked("x ```<p>y</p>``` and `<br>`")),
    ("DF305", asked("x <p>y</p>"), asked("What does <p> mean in HTML?")),
    ("DF306", asked("well {vocalsound} yes"), asked("the set {vocal}")),
    ("DF306", asked("and [inaudible] then"), asked("it was inaudible")),
    ("DF306", asked("（笑声）好的"), asked("一片笑声，谁喜欢[音乐]？")),
    ("DF307", answered("好的，我明白了。" * 20), answered(LOREM * 2)),
    ("DF307", answered(LOREM * 9 + "0" * 900), asked("0" * 900)),
    ("DF307", answered("x" * 300), answered("| a | b |\n" + "| ------- | ------- |\n" * 30)),
    ("DF308", answered("As an AI language model, I do."), asked("As an AI language model, I do.")),
    ("DF308", answered("我很抱歉，我无法提供帮助"), answered("抱歉，我迟到了")),
    ("DF308", answered("作为一个人工智能助手，我"), answered("作为一个母亲，我")),
    ("DF308", answered("Sorry, but I can’t assist."), answered("Sorry, but I can't find any.")),
    ("DF308", answered("I'm just an AI."), answered("I'm just an AI.", weight=0)),
    ("DF309", row(ask(LOREM), {**ANSWER, "content": "one " * 15}), row(ask(LOREM), ANSWER)),
    ("DF309", row(ask("one " * 15), {**ANSWER, "content": LOREM}), answered(LOREM)),
    (
        "DF309",
        row(ask(LOREM), {**ANSWER, "content": "one " * 15}),
        row(ask("翻译成英文：" + LOREM), {**ANSWER, "content": "one " * 15}),
    ),
    ("DF310", answered("用户：你好\n助手：您好"), answered("用户：一词的意思是使用的人")),
    ("DF310", asked("Human: hi\nAssistant: yo"), asked("Dr Human: hi\nMs Assistant: yo")),
    ("DF310", asked("### Instruction:\nAdd."), asked("### Instructions for use")),
    ("DF310", answered("yes.</s>"), answered("write `</s>`")),
    ("DF311", answered("<think>hm</think> yes"), asked("<think>hm</think> yes")),
    ("DF311", answered("so.\n</think>"), answered("the tag `<think>`")),
    ("DF312", row(ask(LOREM), {**ANSWER, "content": LOREM}), row(ask("早上好"), GREETING)),
    ("DF313", answered("```python\nprint(1"), answered("```python\nprint(1)\n```")),
    ("DF313", answered("萨克斯、小号、"), answered("萨克斯、小号。")),
    ("DF313", answered("and then,"), row(USER, {**ANSWER, "content": "and then,", "part": [0, 2]})),
    ("DF314", asked("电话13812345678"), asked("单号613812345678，时间戳1381234567890")),
    ("DF314", asked("010-69660398;"), asked("2010-2019, +1 2 34")),
    ("DF314", answered("call +61 2 9011 5756"), answered("95808+3036165596? = -16666579378")),
    ("DF314", answered("(415) 728-1234"), answered("(415) 555-1234, pi is 3.14159265358")),
    ("DF315", asked("写信到zhangsan@qq.com。"), asked("写信到zhangsan@example.com。")),
    ("DF315", answered("a.b+c@mail.gov.cn"), answered("@someone, git@v1.2, your@yourdomain.com")),
    ("DF316", asked("身份证11010519491231002X"), asked("身份证110105194912310021")),
    ("DF316", asked("号：11010519491231002x。"), asked("号：110105194913310020。")),
    ("DF317", asked("卡号6222021234567890128"), asked("卡号6222021234567890121")),
    ("DF317", asked("card 4539 1488 0343 6467"), asked("card 4539-1488 0343 6467")),
    ("DF317", asked("6222 0212 3456 7890 128"), asked("bits 4000000000000000 and 4111")),
    ("DF318", answered("AKIAQ3EGRVUX5NPWL7TD"), answered("AKIAIOSFODNN7EXAMPLE")),
    ("DF318", asked("sk-proj-a8Fk29dLqP04mZx7Yt31"), asked("sk-" + "x" * 24)),
    ("DF318", asked(f"密钥{'0123456789abcdef' * 2}.Ab3dEf6hIj9kLm2n"), asked("md5 0123456789.x")),
    ("DF318", called({"x": "ghp_" + "aB3dE6gH9jK2" * 3}), called({"x": "ghp_short"})),
    ("DF319", answered("第一步\\n第二步"), answered("第一步\n第二步，写作\\n")),
    ("DF319", answered("one.\\n\\nTwo."), answered("the path C:\\new and \\nabla")),
    ("DF319", answered("\\u4f60\\u597d"), answered('{"a": "\\u4f60\\u597d"}')),
    ("DF320", answered("yes. "), answered("yes.")),
    ("DF320", answered("\n\nyes"), asked("\n\nyes")),
    ("DF321", answered("Dear [Recipient's Name],"), answered("see [1] and [the docs](x)")),
    ("DF321", answered("此致，[您的姓名]"), answered("【兴趣的】")),
]


@pytest.mark.parametrize(
    ("name", "broken", "sound"), CASES, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)]
)
def test_a_rule_fires_where_it_should_and_only_there(
    name: str, broken: bytes, sound: bytes, tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    finding = fired([broken], tmp_path, family, tokenizer).get(name)
    assert finding is not None
    assert finding.data["count"] == 1
    assert "{" not in finding.evidence.replace("{{name}}", "").replace("{vocalsound}", "")
    assert name not in fired([sound], tmp_path, family, tokenizer)


def test_every_rule_on_text_has_a_case_here() -> None:
    assert {rule.id for rule in TEXT_RULES} <= {name for name, _, _ in CASES}


@pytest.mark.parametrize("name", sorted(FINDS))
def test_the_place_of_a_finding_is_found_for_its_excerpt(name: str) -> None:
    texts = [text for rule, broken, _ in CASES if rule == name for text in all_said(broken)]
    assert any(FINDS[name](text) for text in texts)


def all_said(line: bytes) -> list[str]:
    """What the messages of a row say, arguments of calls among it."""
    messages = json.loads(line)["messages"]
    calls = [one["function"] for message in messages for one in message.get("tool_calls", [])]
    return [message["content"] or "" for message in messages] + [
        json.dumps(call["arguments"]) for call in calls
    ]


@given(before=st.text(max_size=300), after=st.text(max_size=300))
@example(before="x" * 15_000, after="")
@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        (sensitive.PHONE, "13812345678"),
        (sensitive.EMAIL, "zhangsan@qq.com"),
        (sensitive.ID_CARD, "11010519491231002X"),
        (sensitive.BANK_CARD, "6222021234567890128"),
        (sensitive.KEY, "sk-a8Fk29dLqP04mZx7Yt31"),
    ],
    ids=["phone", "e-mail", "identity card", "bank card", "key"],
)
def test_no_excerpt_shows_a_secret(
    kind: sensitive.Kind, secret: str, before: str, after: str
) -> None:
    text = f"{before} {secret} {after}"
    for shown in (excerpt(text), excerpt(text, kind.find)):
        assert secret not in shown
        assert secret[:9] not in shown
        assert len(shown) <= SHOWN + 2


def test_a_private_key_is_masked_to_its_end() -> None:
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC/+=8"] * 25)
    text = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END"
    assert sensitive.KEY.find(text)
    assert "MIIE" not in sensitive.mask(text)


@given(st.text(st.sampled_from("0123456789 -.()+@abcX\n"), max_size=60))
@pytest.mark.parametrize("kind", sensitive.KINDS)
def test_what_a_kind_finds_passes_its_screen(kind: sensitive.Kind, text: str) -> None:
    if kind.find(text):
        screened = (
            pl.Series([text])
            .to_frame("text")
            .select(
                pl.any_horizontal(pl.col("text").str.contains(screen) for screen in kind.screen)
            )
        )
        assert screened.item()


def test_an_excerpt_shows_the_place_where_the_rule_fired() -> None:
    text = "x" * 500 + "\ufffd" + "y" * 500
    shown = excerpt(text, FINDS["DF301"])
    assert "\ufffd" in shown
    assert shown.startswith("…x")
    assert shown.endswith("y…")
    assert excerpt("short") == "short"


@given(st.text(min_size=2, max_size=40).filter(str.strip), st.integers(8, 200))
def test_a_phrase_written_over_and_over_is_a_loop(phrase: str, copies: int) -> None:
    words = "".join(character for character in phrase if character.isalnum()) or "嗯嗯"
    text = words * max(copies, 2 * repetition.LEAST // len(words))
    assert repetition.find(text) is not None


@given(st.integers(0x4E00, 0x9000), st.integers(200, 900))
def test_text_that_says_something_new_is_no_loop(first: int, length: int) -> None:
    assert repetition.find("".join(map(chr, range(first, first + length)))) is None


SENTENCE = "今天天气很好，我们一起去公园散步吧。"


@pytest.mark.parametrize("encoding", ["gb18030", "latin-1", "cp1252"])
def test_chinese_read_with_the_wrong_encoding_is_mojibake(encoding: str) -> None:
    misread = SENTENCE.encode().decode(encoding, "ignore")
    assert mojibake.find(misread)
    table = message_table([chat(("user", misread), ("assistant", SENTENCE))])
    garbled = next(rule for rule in TEXT_RULES if rule.id == "DF302")
    assert table.select(garbled()).to_series().to_list() == [True, False]


def test_gbk_read_as_latin_1_is_mojibake() -> None:
    assert mojibake.find(SENTENCE.encode("gbk").decode("latin-1"))


@pytest.mark.parametrize("text", ["联通", "", "été à Zürich", "Ünïcödé", "¥¥¥¥", "½ ¾ ±"])
def test_sound_text_is_no_mojibake(text: str) -> None:
    assert mojibake.find(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LOREM, "han"),
        ("word " * 12, "latin"),
        ("短", None),
        ("one 一 " * 20, None),
        ("1+1" * 9, None),
    ],
)
def test_the_writing_of_a_text_is_told_from_its_characters(text: str, expected: str | None) -> None:
    assert writing(text) == expected


def test_arguments_and_reasoning_are_looked_at_too() -> None:
    table = message_table([chat(("user", "hi"), ("assistant", "yo"))])
    changed = table.with_columns(reasoning=pl.Series(["", "\ufffd"]))
    rule = next(rule for rule in TEXT_RULES if rule.id == "DF301")
    assert table.select(rule()).to_series().to_list() == [False, False]
    assert changed.select(rule()).to_series().to_list() == [False, True]
    assert changed.select(said()).to_series().to_list() == ["hi", "\ufffd\nyo"]


def test_a_lone_surrogate_is_rejected_before_it_is_text(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    line = b'{"messages": [{"role": "user", "content": "\\ud800"}]}'
    assert fired([line], tmp_path, family, tokenizer)["DF001"].data["count"] == 1


def test_placeholders_of_a_real_set_are_found_in_85_of_91_rows(assets: Path) -> None:
    rows = json.loads((assets / "data/llamafactory/identity.json").read_bytes())
    chats = [chat(("user", row["instruction"]), ("assistant", row["output"])) for row in rows]
    flags = message_table(chats).select(unresolved_placeholder()).to_series()
    assert (len(rows), flags.sum()) == (91, 85)

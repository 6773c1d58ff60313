"""What trimming cuts and what it leaves: each rule fires and stays silent, and nothing key goes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep.errors import InputError
from glmprep.merging.changes import Cut, cut_out, from_json
from glmprep.merging.key import keys, lost, lost_from
from glmprep.merging.outcomes import key_lost, nothing_left
from glmprep.merging.phrases import LONGEST, Phrases, shipped
from glmprep.merging.talk import listen
from glmprep.merging.trimming import Trimmed, Trimmer
from glmprep.merging.trims import TRIMS
from glmprep.repair import undo
from hypothesis import given, settings
from hypothesis import strategies as st

PHRASES = shipped()
Turn = dict[str, Any]


def said(*turns: tuple[str, str]) -> list[Turn]:
    return [{"role": role, "content": content} for role, content in turns]


def trim(messages: list[Turn], names: str = ",".join(TRIMS), *, answers: bool = False) -> Trimmed:
    return Trimmer(names=names.split(","), phrases=PHRASES, answers=answers)(messages)


def texts(trimmed: Trimmed) -> list[str]:
    return [message["content"] for message in trimmed.messages]


ALONE: list[tuple[str, str, str]] = [
    ("tags", "So {vocalsound} I think [noise] yes <laugh>", "So I think yes"),
    ("tags", "我觉得（笑）可以【掌声】。", "我觉得可以。"),
    ("tags", "It ends here {disfmarker}", "It ends here"),
    ("stutters", "I I think the the the point is", "I think the point is"),
    ("stutters", "我我我觉得，他，他就是就是累", "我觉得，他就是累"),
    ("greetings", "您好，我想问一下。", "我想问一下。"),
    ("greetings", "Hello there, my order is late. Have a nice day!", "my order is late."),
    ("thanks", "可以了，谢谢您。", "可以了。"),
    ("thanks", "That is all. Thank you very much!", "That is all."),
    ("fillers", "And uh , you see the, um, point", "And you see the, point"),
    ("fillers", "我想，就是说，呃，休息一下", "我想，休息一下"),
    ("backchannels", "嗯嗯，我知道了", "我知道了"),
    ("backchannels", "Mm - hmm . Go on then", "Go on then"),
    ("repeats", "太好了。太好了。我来了。", "太好了。我来了。"),
]
LEFT_ALONE: list[tuple[str, str]] = [
    ("tags", "use {name} and [link] in (brackets)"),
    ("tags", "f(pause{noise}x)"),
    ("stutters", "我爱他们，他们也爱我，看看妈妈"),
    ("stutters", "what it is is that that had had"),
    ("stutters", "给我我就去"),
    ("greetings", "您好像有点累"),
    ("greetings", "hello world is a program"),
    ("greetings", "Hello?"),
    ("thanks", "Thanks to you it works"),
    ("thanks", "Thank you, Mr. Chair. I have a question."),
    ("greetings", "Good morning, everyone. We begin."),
    ("thanks", "谢谢你的耐心让我明白了很多"),
    ("fillers", "um carro novo para ela"),
    ("fillers", "the uh-huh moment"),
    ("fillers", "这个问题就是说明书的问题"),
    ("backchannels", "是的，我很难过"),
    ("backchannels", "right now"),
    ("repeats", "No. No. Seven. Seven."),
    ("quotes", "> never said before\nand so on"),
]


@pytest.mark.parametrize(("name", "before", "after"), ALONE)
def test_a_rule_cuts_what_it_is_about(name: str, before: str, after: str) -> None:
    done = trim(said(("user", before), ("assistant", "x")), name)
    assert texts(done) == [after, "x"]
    assert {change.rule for change in done.changes} == {TRIMS[name].id}


@pytest.mark.parametrize(("name", "text"), LEFT_ALONE)
def test_a_rule_leaves_what_only_looks_alike(name: str, text: str) -> None:
    done = trim(said(("user", text), ("assistant", "x")), name)
    assert texts(done) == [text, "x"]
    assert not done.changes


def test_every_rule_is_tried_both_ways() -> None:
    assert {name for name, *_ in ALONE} | {"quotes"} == set(TRIMS)
    assert {name for name, _ in LEFT_ALONE} == set(TRIMS)


def test_lines_that_quote_what_was_said_are_cut() -> None:
    done = trim(
        said(
            ("user", "It stops with an error."),
            ("assistant", "Turn it off and on again.\nThen wait."),
            ("user", "> Turn it off and on again.\n> and pray\nThat did nothing."),
        ),
        "quotes",
    )
    assert texts(done)[-1] == "> and pray\nThat did nothing."


def test_a_whole_turn_of_the_other_side_that_was_pasted_is_cut() -> None:
    answer = "Open the lid of the machine.\nThen press the green button."
    done = trim(
        said(("user", "Help"), ("assistant", answer), ("user", f"You said:\n{answer}\nWhich one?")),
        "quotes",
    )
    assert texts(done)[-1] == "You said:\nWhich one?"


def test_an_instruction_that_a_user_gives_twice_stays() -> None:
    order = "Translate this sentence into French, please:"
    chat = said(("user", f"{order}\nA"), ("assistant", "B"), ("user", f"{order}\nC"))
    assert not trim(chat, "quotes,repeats").changes


TALK = """\
Ann: Hello everyone . {vocalsound}
Bob: Mm - hmm .
Ann: So do you , uh , agree ?
Bob: Yeah .
Ann: Then we 'll take the the second one , not the third .
Bob: OK .
Ann: We take it on Monday , at 10:30 .
Cy: Yeah . Right .
Ann: We take it on Monday , at 10:30 .
Bob: Thank you ."""
TRIMMED_TALK = """\
Ann: So do you , agree ?
Bob: Yeah .
Ann: Then we 'll take the second one , not the third .
Ann: We take it on Monday , at 10:30 .
Cy: Yeah . Right .
"""


def test_the_lines_of_a_transcript_are_trimmed_one_by_one() -> None:
    done = trim(said(("user", TALK), ("assistant", "x")))
    assert texts(done)[0] == TRIMMED_TALK


CHAT = said(
    ("system", "您好，谢谢。"),
    ("user", "您好"),
    ("assistant", "您好！"),
    ("user", "我我我最近睡不好，谢谢。"),
    ("assistant", "您多久没有睡好了？"),
    ("user", "嗯嗯，三个月"),
    ("assistant", "可以试着早点休息。"),
    ("user", "嗯嗯"),
    ("assistant", "慢慢来。"),
    ("user", "谢谢"),
    ("assistant", "不客气！"),
)


def test_without_trim_answers_every_answer_stays_as_it_is() -> None:
    done = trim(CHAT)
    assert texts(done)[3] == "我最近睡不好。"
    assert [m for m in done.messages if m["role"] != "user"] == [
        m for m in CHAT if m["role"] != "user"
    ]
    assert len(done.messages) == len(CHAT)
    assert done.order.total() == 3


def test_with_trim_answers_empty_turns_go_and_their_neighbours_join() -> None:
    done = trim(CHAT, answers=True)
    assert [(m["role"], m["content"]) for m in done.messages] == [
        ("system", "您好，谢谢。"),
        ("user", "我最近睡不好。"),
        ("assistant", "您多久没有睡好了？"),
        ("user", "嗯嗯，三个月"),
        ("assistant", "可以试着早点休息。\n慢慢来。"),
    ]


def test_an_answer_that_is_not_trained_is_trimmed_like_a_question() -> None:
    chat = [*said(("user", "a")), {"role": "assistant", "content": "嗯，好吧。", "weight": 0}]
    assert texts(trim(chat, "fillers"))[1] == "好吧。"


def test_code_calls_results_and_pieces_are_never_touched() -> None:
    call = [{"type": "function", "function": {"name": "f", "arguments": '{"x": "uh, hello"}'}}]
    code = "Look:\n```py\nuh = '{noise}'  # the the\n```\nand `um um` here"
    chat: list[Turn] = [
        {"role": "user", "content": code},
        {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "content": "uh, hello {noise}"},
        {"role": "assistant", "content": "Hello, the the", "part": [0, 2]},
        {"role": "assistant", "content": "Bye", "part": [1, 2]},
    ]
    assert trim(chat, answers=True).messages == chat


def test_a_backchannel_that_may_answer_a_question_stays() -> None:
    chat = said(("assistant", "你还好吗？"), ("user", "嗯嗯"), ("user", "我想睡了。"))
    assert not trim(chat, "backchannels").changes
    chat[0]["content"] = "好好休息。"
    assert texts(trim(chat, "backchannels")) == ["好好休息。", "我想睡了。"]


def test_two_answers_to_a_question_that_was_repeated_are_not_joined() -> None:
    ask = "Could you tell me how far it is to the station?"
    chat = said(("user", ask), ("assistant", "Far."), ("user", ask), ("assistant", "Very far."))
    done = trim(chat, "repeats", answers=True)
    assert done.messages == chat
    assert done.order["DF507"] == 1


def test_an_exchange_that_is_there_twice_goes_once() -> None:
    pair = [("user", "How far is it to the station?"), ("assistant", "It is rather far from here.")]
    done = trim(said(*pair, *pair, ("user", "OK")), "repeats", answers=True)
    assert done.messages == said(*pair, ("user", "OK"))


def test_phrases_of_ones_own_are_cut_but_not_those_with_key_information(tmp_path: Path) -> None:
    path = tmp_path / "phrases.toml"
    path.write_text('[greetings]\nfr = ["bonjour", "salle 12"]\n[tags]\nen = ["door slams"]\n')
    trimmer = Trimmer(names=["greetings", "tags"], phrases=PHRASES.with_file(path))
    done = trimmer(said(("user", "Bonjour, il pleut {door slams} ici."), ("assistant", "x")))
    assert texts(done)[0] == "il pleut ici."
    done = trimmer(said(("user", "Salle 12, il pleut."), ("assistant", "x")))
    assert texts(done)[0] == "Salle 12, il pleut."
    assert done.key["DF503"] == 1


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[greetings", "not TOML"),
        (b"\xff", "not TOML in UTF-8"),
        (b'[hellos]\nen = ["hi"]', "no such list; there are greetings"),
        (b'greetings = ["hi"]', "write it as a table"),
        (b'[greetings]\nENGLISH = ["hi"]', "two or three small letters"),
        (b'[greetings]\nen = "hi"', "no list of phrases"),
        (b"[greetings]\nen = [5]", "5 is not text"),
        (b'[greetings]\nen = ["..."]', "no letter"),
        (b'[greetings]\nen = ["a\\nb"]', "on one line"),
        (f'[greetings]\nen = ["{"a" * (LONGEST + 1)}"]'.encode(), "longer than"),
        (b"#" * ((1 << 20) + 1), "larger than 1 MiB"),
    ],
)
def test_a_broken_file_of_phrases_is_told_in_one_line(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    path = tmp_path / "phrases.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault) as error:
        PHRASES.with_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        ("pay 12.50 by 10:30", "pay by 10:30", ["12.50"]),
        ("1{noise}2", "12", ["1", "2"]),
        ("休息三个月", "休息", ["三个"]),
        ("ask Peter about it", "ask about it", ["Peter"]),
        ("um, Peter said so", "Peter said so", []),
        ("问一下王老师", "问一下", ["王老师"]),
        ("write to a@b.com", "write to", ["a@b.com"]),
        ("order A-1024 is late", "order is late", ["A-1024", "a-1024"]),
        ("I don't and won't", "I don't", ["n't"]),
        ("我不想去", "我想去", ["不"]),
        ("我没有特别的事", "我有特别的事", ["没"]),
        ("非常感谢", "", []),
        ("Hello, thanks", "", []),
    ],
)
def test_what_a_change_would_lose_is_told(before: str, after: str, missing: list[str]) -> None:
    assert sorted(lost(before, after)) == sorted(missing)


def test_key_information_of_calls_is_looked_for_in_all_messages() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    assert lost_from([call], said(("user", "f({})"))) == ["f({})"]
    assert lost_from(said(("user", "no 5"), ("user", "no 5")), said(("user", "5, no"))) == []
    assert key_lost(said(("user", "not 5")), said(("user", "5"))) == ["not"]
    assert not key_lost(CHAT, CHAT)


def test_nothing_left_is_a_conversation_without_anything_to_train() -> None:
    assert nothing_left(CHAT, [])
    assert nothing_left(CHAT, CHAT[:2])
    assert not nothing_left(CHAT, CHAT[1:3])
    assert not nothing_left(CHAT[:2], CHAT[:2])


BITS = [
    *(
        "您好，",
        "谢谢！",
        "嗯嗯，",
        "呃，",
        "我我我",
        "他，他",
        "{noise}",
        "[laugh] ",
        "the the ",
        "uh , ",
    ),
    *(
        "Mm-hmm. ",
        "Thanks. ",
        "不",
        "没有",
        "别",
        "not ",
        "5",
        "12 ",
        "三个",
        "王老师",
        "Peter ",
        "a@b.c ",
    ),
    *(
        "\n",
        "\nAnn: ",
        "\nBob: ",
        "> ",
        "```\n",
        "`",
        "。",
        "？",
        ". ",
        ", ",
        " ",
        "好的",
        "yeah . ",
        "A-7",
    ),
    *(
        "今天",
        "Monday ",
        "n't ",
        "I ",
        "没事。没事。",
        "Hello world ",
        "\u202e",
        "\ud83d"[:0],
        "😀",
    ),
]
TEXTS = st.lists(st.sampled_from(BITS) | st.text(max_size=3), max_size=14).map("".join)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "user", "assistant", "assistant", "system", "tool"])},
    ).flatmap(
        lambda turn: st.builds(
            lambda content, weight: turn | {"content": content} | weight,
            TEXTS
            | st.sampled_from(["嗯嗯", "谢谢", "您好", "Mm-hmm .", "same text as before, 5 times"]),
            st.sampled_from([{}, {}, {"weight": 0}])
            if turn["role"] == "assistant"
            else st.just({}),
        )
    ),
    min_size=1,
    max_size=9,
)
NAMES = st.sets(st.sampled_from(sorted(TRIMS)), min_size=1)


@settings(max_examples=100, deadline=None)
@given(TURNS, NAMES, st.booleans())
def test_no_key_information_is_lost_and_every_byte_comes_back(messages, names, answers) -> None:
    before = copy.deepcopy(messages)
    done = trim(messages, ",".join(names), answers=answers)
    assert messages == before
    assert not lost_from(before, done.messages)
    assert set().union(*map(_characters, before)) >= set().union(*map(_characters, done.messages))
    written = orjson.loads(orjson.dumps([change.as_json() for change in done.changes]))
    left = orjson.loads(orjson.dumps({"id": "x", "messages": done.messages}))
    assert undo(left, [from_json(change) for change in written])["messages"] == before


def _characters(message: Turn) -> set[str]:
    """What a text is made of; nothing may be made up."""
    return set(message["content"].replace("\n", ""))


@settings(max_examples=60, deadline=None)
@given(TURNS, NAMES, st.booleans())
def test_what_must_not_be_touched_is_not_touched(messages, names, answers) -> None:
    done = trim(messages, ",".join(names), answers=answers)
    closed = ("system", "tool")
    assert [m for m in done.messages if m["role"] in closed] == [
        m for m in messages if m["role"] in closed
    ]
    if not answers:
        trained = [m for m in messages if m["role"] == "assistant" and m.get("weight") != 0]
        assert [m for m in done.messages if m in trained] == trained


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_a_single_cut_never_loses_what_was_counted(text) -> None:
    chat = said(("user", text), ("assistant", "x"))
    done = trim(chat, "tags,stutters,greetings,thanks,fillers,backchannels")
    if not listen(chat, answers=True)[0].label:
        assert lost(text, texts(done)[0]) == []


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=6, unique=True))
def test_pieces_that_are_cut_out_can_be_put_back(text, ends) -> None:
    places = sorted(end for end in ends if end <= len(text))
    spans = list(zip(places[::2], places[1::2], strict=False))
    left, pieces = cut_out(text, spans)
    messages: list[Any] = [{"role": "user", "content": left}]
    Cut(rule="DF501", at=0, pieces=pieces).take_back(messages)
    assert messages[0]["content"] == text


@pytest.mark.parametrize(
    "value",
    [
        {"rule": "DF501", "at": -1, "cut": []},
        {"rule": "DF501", "at": 0, "cut": [[0]]},
        {"rule": "DF501", "at": 0, "cut": [["0", "a"]]},
        {"rule": "DF501", "at": 0, "before": [5], "after": []},
        {"rule": "DF501", "at": True, "before": [], "after": []},
    ],
)
def test_a_change_that_nobody_wrote_is_refused(value: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json(value)


@pytest.mark.parametrize("pieces", [[(9, "a")], [(1, "a"), (0, "b")]])
def test_a_cut_from_another_text_is_refused(pieces: Any) -> None:
    with pytest.raises(ValueError, match="message 1 is not the one that was cut"):
        Cut(rule="DF501", at=0, pieces=pieces).take_back(said(("user", "ab")))


def test_many_tiny_turns_are_trimmed_in_linear_time() -> None:
    tiny = said(*[("user", "嗯嗯"), ("user", "走吧")] * 5_000)
    done = trim(tiny, "backchannels")
    assert set("\n".join(texts(done)).split("\n")) == {"走吧"}


def test_phrases_of_every_list_are_plain_text() -> None:
    for section, languages in PHRASES.lists.items():
        for language, phrases in languages.items():
            assert len(set(phrases)) == len(phrases), (section, language)
            assert all(not keys(phrase) for phrase in phrases), (section, language)
    assert isinstance(PHRASES, Phrases)

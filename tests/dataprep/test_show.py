"""Looking at data: the worst conversations of each rule, rows by number, long ones shortened."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep.console import run
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.families.glm4 import Glm4
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message
from glmprep.rules.format import role_order, special_token_text
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer
from glmprep.transcript import Span, Transcript, Turn, transcript
from glmprep.views import worst as view
from glmprep.views.excerpt import Gap, Omitted, ShownTurn, excerpt
from glmprep.worst import Result, pick, worst
from glmreport import Catalogue, Leaves, Page, render
from glmreport.page import Turn as PageTurn
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from .chats import chat, conversations, texts

ANSWER = {"role": "assistant", "content": "好的。"}
HOSTILE = "\x1b]0;owned\x07</pre><script>alert(1)</script>\u202eevil{{7*7}}`"


def row(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


SOUND = row(
    ("user", "你好，我想学做菜。"),
    ("assistant", "太好了！先从番茄炒蛋开始吧，需要两个番茄和三个鸡蛋。"),
)
OTHER = row(
    ("user", "周末去哪儿玩？"), ("assistant", "可以去城北的湿地公园，那里人少，适合散步和看鸟。")
)
TWICE = row(("user", "a"), ("user", "b"), ("assistant", "c"))
OFTEN = row(("user", "a"), *[("user", "b")] * 3, ("assistant", "c"))
BLANK = row(("user", "hi"), ("assistant", "  "), ("user", ""), ("assistant", "ok"))
LONG = row(("user", "Tell me a story."), ("assistant", "Once upon a time. " * 300))
UNKNOWN = {"x": HOSTILE}


def write(path: Path, rows: Sequence[dict[str, Any] | str]) -> str:
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def look(tmp_path: Path, family: Family, tokenizer: Tokenizer) -> Any:
    def look(rows: Sequence[dict[str, Any] | str], **options: Any) -> Result:
        source = Source(paths=[write(tmp_path / "chats.jsonl", rows)])
        return worst(source, family=family, tokenizer=tokenizer, **options)

    return look


def lines_of(result: Result) -> dict[str, list[int]]:
    """Per rule the lines of its worst conversations."""
    return {
        one.finding.rule: [int(shown.where.rpartition(":")[2]) for shown in one.worst]
        for one in result.fired
    }


def text_of(turn: Turn, *kinds: str) -> str:
    return "".join(span.text for span in turn.spans if not kinds or span.kind in kinds)


# Which conversations


def test_worst_are_those_with_the_most_messages_hit_then_the_first(look: Any) -> None:
    result = look([SOUND, TWICE, TWICE, OFTEN, TWICE], per_rule=3)
    assert lines_of(result)["DF101"] == [4, 2, 3]
    [one] = [one for one in result.fired if one.finding.rule == "DF101"]
    assert one.finding.data["rows"] == 4
    assert [turn.rules for turn in one.worst[0].turns] == [(), *[("DF101",)] * 3, ()]


def test_longest_come_first_where_a_rule_looks_at_lengths(look: Any) -> None:
    longer = row(("user", "x"), ("assistant", "Once upon a time. " * 400))
    result = look([SOUND, LONG, longer], max_length=100)
    assert lines_of(result)["DL001"] == [3, 2]


def test_rules_stand_by_severity_and_each_row_rejected_is_there_with_its_reason(look: Any) -> None:
    result = look(["{", SOUND, UNKNOWN, BLANK, LONG], max_length=100)
    assert list(lines_of(result))[:3] == ["DF001", "DF010", "DF103"]
    shown = {one.finding.rule: one.worst[0] for one in result.fired}
    assert shown["DF001"].turns == []
    assert (shown["DF001"].rejected or "").startswith("DF001: not JSON")
    [raw] = shown["DF010"].turns
    assert (raw.speaker, json.loads(text_of(raw))) == ("raw", UNKNOWN)
    assert (shown["DF103"].rejected or "").startswith("DF103: A message has no text")
    assert shown["DL001"].rejected is None


def test_data_of_which_no_row_can_be_trained_on_can_be_looked_at(look: Any) -> None:
    assert lines_of(look([BLANK, TWICE])) == {"DF101": [2], "DF103": [1]}


def test_only_the_rules_that_were_asked_for_are_shown_and_silent_ones_named(look: Any) -> None:
    result = look([BLANK, TWICE], rules=("DF103", "DF109"))
    assert (list(lines_of(result)), result.silent) == (["DF103"], ["DF109"])


def test_a_rule_that_there_is_not_is_refused(look: Any) -> None:
    with pytest.raises(UsageError, match="DF999: there is none"):
        look([SOUND], rules=("DF999",))


def test_input_that_can_be_read_only_once_is_refused(family: Family, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="read twice"):
        worst(Source(paths=["-"]), family=family, tokenizer=tokenizer)


def test_where_nothing_fires_the_first_row_is_shown(look: Any) -> None:
    result = look([SOUND, OTHER])
    assert result.fired == []
    assert [shown.where[-2:] for shown in result.picked] == [":1"]


def test_rows_are_picked_by_number_whether_they_can_be_trained_on_or_not(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    first = write(tmp_path / "a.jsonl", [SOUND, "", "{", UNKNOWN])
    second = write(tmp_path / "b.jsonl", [BLANK, SOUND])
    source = Source(paths=[second, first])
    result = pick(source, [4, 0, 3, 1], family=family, tokenizer=tokenizer)
    places = [shown.where.rpartition("/")[2] for shown in result.picked]
    assert places == ["a.jsonl:4", "b.jsonl:1", "a.jsonl:3", "b.jsonl:2"]
    assert [bool(shown.rejected) for shown in result.picked] == [True, True, True, False]
    assert result.picked[1].turns[1].rules == ("DF103",)
    with pytest.raises(UsageError, match="no row 5; rows are 0 to 4"):
        pick(source, [5], family=family, tokenizer=tokenizer)


def test_real_data_is_looked_at_in_one_go(
    tmp_path: Path, assets: Path, family: Family, tokenizer: Tokenizer
) -> None:
    packed = assets / "data" / "smilechat" / "smilechat_12k.jsonl.gz"
    with gzip.open(packed, "rt", encoding="utf-8") as file:
        lines = [next(file) for _ in range(400)]
    data = tmp_path / "smile.jsonl"
    data.write_text("".join(lines), encoding="utf-8")
    source = Source(paths=[str(data)], roles={"client": "user", "counselor": "assistant"})
    result = worst(source, family=family, tokenizer=tokenizer, rules=("DF101", "DF108"))
    assert lines_of(result)["DF101"] == [287, 231]
    [ends] = [one for one in result.fired if one.finding.rule == "DF108"]
    assert all(shown.turns[-1].rules == ("DF108",) for shown in ends.worst)


# A conversation as tokens


@settings(deadline=None, max_examples=40)
@given(conversation=conversations(), limit=st.none() | st.integers(11, 60))
def test_a_transcript_holds_every_token_in_order_and_trains_what_is_trained(
    conversation: Any, limit: int | None, family: Family, tokenizer: Tokenizer
) -> None:
    shown = transcript(conversation, family, tokenizer, max_length=limit)
    batch = tokenize([conversation], family, tokenizer)
    assert sum(turn.tokens for turn in shown.turns) == shown.tokens == len(batch.ids)
    assert sum(turn.cut for turn in shown.turns) == shown.cut
    assert shown.cut == max(0, len(batch.ids) - (limit or len(batch.ids)))
    if limit is None:
        text = "".join(text_of(turn) for turn in shown.turns)
        assert text == tokenizer.decode(batch.ids.tolist())
        trained = batch.ids[batch.mask == 1].tolist()
        targets = "".join(text_of(turn, "trained", "stop") for turn in shown.turns)
        assert targets == tokenizer.decode(trained)
        numbers = [turn.message for turn in shown.turns if turn.message]
        assert numbers == list(range(1, len(conversation.messages) + 1))


def test_a_stop_token_stands_at_the_end_of_the_turn_that_it_ends(
    family: Family, tokenizer: Tokenizer
) -> None:
    asked = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    turns = transcript(asked, family, tokenizer).turns
    assert [text_of(turn) for turn in turns] == [
        "[gMASK]<sop><|user|>\na",
        "<|assistant|>\nb<|user|>",
        "\nc",
        "<|assistant|>\nd<|user|>",
    ]
    assert [turn.spans[-1].kind for turn in turns] == ["context", "stop", "context", "stop"]


def test_a_message_of_which_nothing_is_rendered_is_shown_empty(
    family: Family, tokenizer: Tokenizer
) -> None:
    asked = chat(("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", ""))
    shown = transcript(asked, family, tokenizer, marks={4: ["DF103"]})
    assert [(turn.message, bool(turn.spans)) for turn in shown.turns] == [
        (1, True),
        (2, False),
        (3, True),
        (4, False),
    ]
    assert shown.turns[-1].rules == ("DF103",)


def test_the_limit_cuts_what_lies_past_it_and_names_the_answer_that_goes_on(
    family: Family, tokenizer: Tokenizer
) -> None:
    asked = chat(("user", "a"), ("assistant", "one two three four"), ("user", "b"))
    shown = transcript(asked, family, tokenizer, max_length=9)
    assert [turn.torn for turn in shown.turns] == [False, True, False]
    assert text_of(shown.turns[1], "cut") == " three four<|user|>"
    assert text_of(shown.turns[2], "cut") == "\nb"
    assert (shown.cut, shown.lost) == (5, 3)
    assert shown.turns[0].cut == 0


class TwoRows(Glm4):
    """A template that trains a conversation in two rows, as those with reasoning do."""

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        first, last = conversation.messages[:2], conversation.messages
        elsewhere = replace(last[1], untrained="elsewhere")
        return (
            replace(conversation, messages=first),
            replace(conversation, messages=(last[0], elsewhere, *last[2:])),
        )


class Refusing(Glm4):
    """A template that does not take any conversation."""

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        raise InputError("the template raises: no")


def test_of_the_rows_that_train_a_conversation_the_one_with_the_hit_is_shown(
    tokenizer: Tokenizer,
) -> None:
    asked = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    family = TwoRows(tokenizer)
    first = transcript(asked, family, tokenizer, marks={2: ["DF103"]})
    last = transcript(asked, family, tokenizer, marks={4: ["DF103"]})
    assert [(shown.row, shown.rows, len(shown.turns)) for shown in (first, last)] == [
        (1, 2, 2),
        (2, 2, 4),
    ]
    assert text_of(last.turns[1], "trained") == ""
    assert transcript(asked, family, tokenizer).row == 2


def test_a_conversation_that_a_template_does_not_take_is_shown_as_it_is(
    tokenizer: Tokenizer,
) -> None:
    shown = transcript(chat(("user", "a"), ("assistant", "b")), Refusing(tokenizer), tokenizer)
    assert (shown.rejected, shown.tokens) == ("the template raises: no", 0)
    assert '"content":"b"' in text_of(shown.turns[0])


# Long ones shortened


def shown_texts(parts: Sequence[ShownTurn | Omitted]) -> list[str]:
    turns = [part for part in parts if isinstance(part, ShownTurn)]
    return ["".join(p.text for p in turn.parts if isinstance(p, Span)) for turn in turns]


def transcript_of(*spoken: str, rules: Sequence[int] = ()) -> Transcript:
    turns = [
        Turn(
            speaker="user",
            message=number,
            tokens=len(text),
            cut=0,
            torn=False,
            rules=("DF103",) if number in rules else (),
            spans=[Span(text, "context")],
        )
        for number, text in enumerate(spoken, 1)
    ]
    return Transcript(where="a:1", conversation="a", turns=turns)


@settings(deadline=None, max_examples=60)
@given(
    spoken=st.lists(texts(40) | st.text(max_size=400), min_size=1, max_size=30),
    budget=st.integers(1500, 6000),
    hit=st.integers(1, 30),
)
def test_what_is_left_out_is_counted_and_what_is_shown_keeps_to_the_budget(
    spoken: list[str], budget: int, hit: int
) -> None:
    whole = transcript_of(*spoken, rules=[hit])
    parts = excerpt(whole, budget, ["DF103"])
    turns = [part for part in parts if isinstance(part, ShownTurn)]
    omitted = [part for part in parts if isinstance(part, Omitted)]
    assert len(turns) + sum(part.turns for part in omitted) == len(spoken)
    for shown in turns:
        gaps = sum(part.characters for part in shown.parts if isinstance(part, Gap))
        text = "".join(part.text for part in shown.parts if isinstance(part, Span))
        assert len(text) + gaps == shown.turn.tokens
    assert hit > len(spoken) or hit in [shown.turn.message for shown in turns]
    leaf = view._leaf(transcript_of(*["x"]), 10_000)
    page = render(page_with(Result(rows=1, max_length=None, picked=[whole]), budget))
    bare = render(page_with(Result(rows=1, max_length=None, picked=[transcript_of("")]), budget))
    assert leaf.turns
    assert len(page.encode()) - len(bare.encode()) < budget + 400 * (len(omitted) + 3 * len(turns))


def page_with(result: Result, budget: int) -> Page:
    """The page of a result with so little room for each leaf."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "LEAF", budget)
        return view.page(result, "glmprep show a", ["a"])


def test_a_short_conversation_is_shown_whole() -> None:
    parts = excerpt(transcript_of("hello\n", "<b>"), 10_000)
    assert shown_texts(parts) == ["hello\n", "<b>"]


def test_of_a_long_turn_the_ends_and_the_limit_are_shown() -> None:
    turn = Turn(
        speaker="assistant",
        message=1,
        tokens=2,
        cut=1,
        torn=True,
        rules=(),
        spans=[Span("a" * 5000, "trained"), Span("b" * 5000, "cut")],
    )
    [shown] = excerpt(Transcript(where="a:1", conversation=None, turns=[turn]), 4000)
    assert isinstance(shown, ShownTurn)
    kinds = [part.kind if isinstance(part, Span) else "gap" for part in shown.parts]
    assert kinds == ["trained", "gap", "trained", "cut", "gap", "cut"]


def test_a_page_of_very_many_meetings_stays_small_and_says_what_is_left_out(
    family: Family, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert view.PAGE <= 3_000_000
    monkeypatch.setattr(view, "PAGE", 400_000)
    meeting = chat(("user", "\n<i>\x00你好\u202e" * 2000), ("assistant", "总结 " * 2000))
    shown = transcript(meeting, family, tokenizer)
    result = Result(rows=200, max_length=None, picked=[shown] * 200)
    page = render(view.page(result, "glmprep show a", ["a"]))
    assert 200_000 < len(page.encode()) < 1.5 * view.PAGE
    assert "88 of 200 conversations are shown" in page


# What is said


def page_of(result: Result) -> tuple[Page, Leaves]:
    page = view.page(result, "glmprep show chats.jsonl --role a=user", ["chats.jsonl"])
    [leaves] = page.sections[0].blocks
    assert isinstance(leaves, Leaves)
    return page, leaves


def test_a_chapter_explains_its_rule_and_marks_the_messages_in_which_it_fired(look: Any) -> None:
    both = row(("user", "a <|user|>"), ("user", "b"), ("assistant", "c"))
    page, leaves = page_of(look([both, SOUND], rules=(role_order.id, special_token_text.id)))
    order, token = leaves.chapters
    assert order.about is not None
    assert (order.about.rule, order.about.why[:12]) == ("DF101", "The template")
    marked = [
        [turn.marked for turn in chapter.leaves[0].turns if isinstance(turn, PageTurn)]
        for chapter in (order, token)
    ]
    assert marked == [[False, True, False], [True, False, False]]
    assert page.verdict.level == "bad"
    assert [step.command for step in page.steps] == ["glmprep audit chats.jsonl --role a=user"]
    text = render(page)
    for words in (
        "It fires in message 2.",
        "在第 2 条触发",
        "Turns do not alternate",
        "轮次没有交替",
        "助手，第 3 条",
        "Rejected: DF101",
    ):
        assert words in text


def test_what_a_chapter_leaves_out_is_said(look: Any) -> None:
    _, leaves = page_of(look([TWICE] * 4, rules=("DF101",), per_rule=3))
    english = Catalogue.load("en")
    [chapter] = leaves.chapters
    assert chapter.intro is not None
    assert english.say(chapter.intro) == "3 of 4 conversations are shown, the worst first."


def test_hostile_rows_stay_text_on_the_page_and_in_the_terminal(look: Any) -> None:
    hostile = row(("user", HOSTILE + "<|user|>"), ("assistant", HOSTILE))
    result = look([UNKNOWN, hostile, {"messages": [{"role": HOSTILE, "content": "x"}]}])
    text = render(page_of(result)[0])
    assert "<script>alert" not in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "&lt;/pre&gt;&lt;script&gt;" in text
    out = io.StringIO()
    view.summary(result)(Console(file=out, width=120, highlight=False, markup=False))
    assert not set(out.getvalue()) & {"\x1b", "\x07", "\u202e"}
    assert "owned" in out.getvalue()


def test_the_terminal_shows_the_worst_of_each_rule_in_short(look: Any) -> None:
    out = io.StringIO()
    result = look([SOUND, TWICE, OFTEN, LONG], max_length=100, rules=("DF101", "DL001"))
    view.summary(result)(Console(file=out, width=120, highlight=False, markup=False))
    text = out.getvalue()
    assert "error   DF101  Turns do not alternate. 2 conversations" in text
    assert "chats.jsonl:3  " in text
    assert "chats.jsonl:2  " not in text
    assert "user, message 2  ◀ DF101" in text
    assert "⟦\nc⟧⟪<|user|>⟫" in text
    assert "characters left out" in text
    assert "goes on past the limit" in text
    assert text.rstrip().endswith("legend:  ⟦trained⟧  ⟪trained stop token⟫  ⌦cut away⌫")


# The command


def run_show(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["glmprep", "show", *arguments])
    from glmprep.cli import glmprep

    with pytest.raises(SystemExit) as end:
        run(glmprep)
    return int(end.value.code or 0)


def test_the_command_writes_page_and_json_and_ends_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "chats.jsonl", [BLANK, SOUND])
    page, result = tmp_path / "show.html", tmp_path / "show.json"
    arguments = (data, "--report", str(page), "--json", str(result), "--per-rule", "1")
    assert run_show(monkeypatch, *arguments) == 0
    rule = orjson.loads(result.read_bytes())["rules"][0]
    assert (rule["rule"], rule["worst"][0]["turns"][1]["rules"]) == ("DF103", ["DF103"])
    assert "DF103" in page.read_text(encoding="utf-8")
    assert "DF103" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--row", "0", "--rule", "DF103"), "give one of them"),
        (("--row", "7"), "no row 7"),
        (("--max-length", "3"), "--max-length 3"),
        (("--rule", "XX1"), "glmdiag explain --list"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write(tmp_path / "chats.jsonl", [SOUND])
    assert run_show(monkeypatch, data, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_folder_of_shards_is_told_from_data_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from glmprep.cli import glmprep

    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "chats.jsonl", [SOUND, LONG])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        glmprep.main(["bucket", "data", "-o", "shards"], standalone_mode=False)
    assert run_show(monkeypatch, "shards", "--row", "1", "--row", "0", "--report", "r.html") == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count('class="leaf"') == 2
    assert run_show(monkeypatch, "shards", "--rule", "DF103") == 2
    assert "of a folder of shards" in capsys.readouterr().err
    (tmp_path / "shards" / "manifest.json").unlink()
    assert run_show(monkeypatch, "shards") == 2
    assert "run glmprep bucket again" in capsys.readouterr().err
    assert run_show(monkeypatch, "data", "--row", "0") == 0


def test_untrained_turns_are_context(family: Family, tokenizer: Tokenizer) -> None:
    kept = Message(role="assistant", content="b", untrained="weight")
    shown = transcript(chat(("user", "a"), kept), family, tokenizer)
    assert shown.supervised == 0
    assert {span.kind for turn in shown.turns for span in turn.spans} == {"context", "special"}

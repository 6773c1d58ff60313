"""Every difference has its name, at the place where it is."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from glmprep import diff_labels
from glmprep.cli import glmprep as group
from glmprep.diff_labels import OURS, Result, Run
from glmprep.errors import InputError, UsageError
from glmprep.peers import TRAINERS
from glmprep.peers.differences import DIFFERENCES
from glmprep.records import Conversation, Message, ToolCall
from glmprep.source import Source
from glmprep.views import diff_labels as view
from glmreport import render
from glmreport.page import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from .chats import TOOL, chat, conversations, no_shrinking, write

CALL = ToolCall(name="look_up", arguments='{"key": "法国"}')
PLAIN = chat(("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you"))
TOOLS = chat(
    ("user", "Look it up."),
    Message(role="assistant", tool_calls=(CALL,)),
    ("tool", "Paris"),
    ("assistant", "It is Paris."),
    tools=(TOOL,),
)
LONG = chat(
    ("user", "word " * 30),
    ("assistant", "It is so. " * 30),
    ("user", "And then?"),
    ("assistant", "Nothing."),
)
HOSTILE = chat(("user", "\x1b[31m<script>alert(1)</script>\u202e"), ("assistant", "<b>no</b>"))


@pytest.fixture(scope="session")
def run(family, tokenizer) -> Any:
    def run(*chats: Conversation, max_length: int = 1024, **options: Any) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            source = Source(paths=[write(Path(folder) / "chats.jsonl", chats)])
            return diff_labels.diff_labels(
                source, family=family, tokenizer=tokenizer, max_length=max_length, **options
            )

    return run


def found(result: Result, trainer: str) -> dict[str, int]:
    sums = next(s for s in result.trainers if s.trainer == trainer)
    return {name: count for name, count in sums.places.items() if count}


def column(result: Result, trainer: str, row: int = 0) -> list[tuple[str, str, str]]:
    """Text, state and other label of each run of a shown row, as one trainer treats it."""
    names = [OURS, *(t.name for t in TRAINERS)]
    place = names.index(trainer)
    return [(run.text, *run.states[place]) for run in result.shown[row].runs]


def test_a_short_chat_shows_what_each_trainer_does_with_it(run):
    result = run(PLAIN)
    assert found(result, "official") == {}
    assert found(result, "official_combine") == {"answer_untrained": 1, "first_unlabelled": 1}
    assert found(result, "llamafactory") == {"other_stop": 2}
    assert found(result, "trl_answers") == {"stop_missing": 2}
    # All but the two answers, the stop between them, and the closing one, which is not there.
    others = result.tokens - result.targets
    assert found(result, "trl") == {"stop_missing": 1, "others_trained": others}


def test_the_first_token_of_the_last_answer_has_no_label_under_combine(run):
    runs = column(run(PLAIN), "official_combine")
    assert ("\n", "context", "") in runs
    assert ("See you", "trained", "") in runs
    assert [text for text, state, _ in runs if state == "trained"] == ["See you", "<|user|>"]


def test_the_stop_of_llamafactory_is_told_by_its_name(run):
    runs = column(run(TOOLS), "llamafactory")
    assert ("<|observation|>", "trained", "<|endoftext|>") in runs
    assert runs[-2:] == [("<|endoftext|>", "trained", ""), ("<|user|>", "absent", "")]


def test_a_list_of_tools_in_other_words_stands_beside_ours(run):
    result = run(TOOLS)
    assert found(result, "llamafactory") == {"other_stop": 2, "other_words": 1}
    texts = {state: text for text, state, _ in column(result, "llamafactory") if "可用工具" in text}
    assert "智谱 AI 公司训练" in texts["context"]
    assert "智谱AI训练" in texts["absent"]
    sums = {s.trainer: s for s in result.trainers}
    assert sums["llamafactory"].tokens == sums["trl"].tokens + 2  # the end of text, a blank line


def test_a_cut_answer_and_what_is_behind_it_have_their_names(run):
    result = run(LONG, max_length=64)
    assert found(result, "official") == {"turn_vanished": 1, "answer_cut": 1}
    # Both are longer than half the limit, so the prompt is cut too.
    factory = {"turn_vanished": 1, "answer_cut": 1, "stop_after_cut": 1, "prompt_cut": 1}
    assert found(result, "llamafactory") == factory
    assert found(result, "official_combine") == {"turn_vanished": 1, "answer_untrained": 1}
    assert result.shown[0].differences["llamafactory"] == factory


def test_a_prompt_that_was_cut_under_its_answer_is_told(run):
    result = run(chat(("user", "word " * 200), ("assistant", "Yes.")), max_length=64)
    assert found(result, "llamafactory") == {"other_stop": 1, "prompt_cut": 1}
    assert found(result, "trl_answers") == {"row_left_out": 1}
    assert found(result, "official") == {"turn_vanished": 1}


def test_what_is_not_to_be_trained_and_is_trained_elsewhere_is_told(run):
    untrained = Message(role="assistant", content="Hello", untrained="weight")
    result = run(chat(("user", "Hi"), untrained, *PLAIN.messages[2:]))
    # The text of the answer with its line break, and the token behind it.
    text = 2
    assert found(result, "official")["others_trained"] == text + 1
    assert found(result, "llamafactory")["others_trained"] == text + 1
    assert found(result, "trl_answers")["others_trained"] == text


def test_a_question_at_the_end_is_trained_under_combine_and_left_out_by_llamafactory(run):
    result = run(chat(*PLAIN.messages, ("user", "Are you there?")))
    texts = "".join(t for t, state, _ in column(result, "official_combine") if state == "trained")
    assert texts.endswith("See you<|user|>\nAre you there?<|user|>")
    assert found(result, "llamafactory")["row_left_out"] == 1


def test_a_call_at_the_end_gets_another_stop_from_the_script(run):
    result = run(chat(*TOOLS.messages[:2], tools=(TOOL,)))
    assert found(result, "official") == {"other_stop": 1}


def test_rows_are_shown_by_number_or_the_first_few(run):
    chats = [PLAIN] * 5
    assert [row.row for row in run(*chats, limit=2).shown] == [0, 1]
    assert [row.row for row in run(*chats, wanted=(3, 1)).shown] == [1, 3]
    assert run(*chats, limit=0).shown == []


def test_a_row_past_the_end_is_refused(run):
    with pytest.raises(UsageError, match="--row 5: there is no such row; rows are 0 to 4"):
        run(*[PLAIN] * 5, wanted=(0, 5))


def test_data_without_a_row_is_an_error_of_one_line(tmp_path, family, tokenizer):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="no rows"):
        diff_labels.diff_labels(
            Source(paths=[str(tmp_path / "empty.jsonl")]), family=family, tokenizer=tokenizer
        )


def tokens_of(runs: Sequence[Run], place: int) -> list[int]:
    return [token for run in runs for token in run.ids if run.states[place].kind != "absent"]


@given(st.lists(conversations(), min_size=1, max_size=2), st.integers(24, 300))
@settings(no_shrinking, max_examples=25)
def test_the_runs_of_a_row_hold_all_our_tokens_and_add_up(run, tokenizer, chats, length):
    try:
        result = run(*chats, max_length=length, limit=9)
    except InputError:
        return
    assert sum(len(tokens_of(row.runs, 0)) for row in result.shown) == result.tokens
    for place, sums in enumerate(result.trainers, start=1):
        shown = [tokens_of(row.runs, place) for row in result.shown]
        assert sum(map(len, shown)) == sums.tokens
        trained = [
            run for row in result.shown for run in row.runs if run.states[place].kind == "trained"
        ]
        assert sum(len(run.ids) for run in trained) == sums.labels
        assert sums.targets <= result.targets
        most = length + 1 if sums.trainer.startswith("official") else length
        assert max(map(len, shown)) <= most


def test_the_page_is_escaped_and_says_what_it_leaves_out(run, monkeypatch):
    monkeypatch.setattr(view, "PAGE_RUNS", 3)
    page = view.page(run(HOSTILE), "glmprep diff-labels x.jsonl", ["x.jsonl"])
    html = render(page)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    *_, rows = [b for section in page.sections for b in section.blocks if isinstance(b, Table)]
    assert len(rows.rows) == 3
    assert "are not shown here" in html


def test_the_page_names_each_difference_that_was_found(run):
    page = view.page(run(LONG, TOOLS, max_length=64), "glmprep diff-labels x", ["x"])
    assert page.verdict.level == "warn"
    tables = [b for section in page.sections for b in section.blocks if isinstance(b, Table)]
    assert len(tables[0].rows) == len(TRAINERS) + 1
    assert 0 < len(tables[1].rows) <= len(DIFFERENCES)
    assert len(tables) == 4


def test_the_terminal_is_not_steered_and_shows_who_trains_what(run):
    console = Console(file=io.StringIO(), width=200)
    view.summary(run(HOSTILE, PLAIN))(console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert "◆" in text
    assert "other stop" in text


def test_the_command_writes_json_and_report(tmp_path):
    data = write(tmp_path / "chats.jsonl", [PLAIN, TOOLS])
    report = tmp_path / "report.html"
    done = CliRunner().invoke(
        group, ["diff-labels", data, "--row", "1", "--json", "-", "--report", str(report)]
    )
    assert done.exit_code == 0, done.output
    answer = orjson.loads(done.stdout)
    assert [sums["trainer"] for sums in answer["trainers"]] == [t.name for t in TRAINERS]
    (row,) = answer["shown"]
    assert row["row"] == 1
    assert set(row["runs"][0]["trainers"]) == {OURS, *(t.name for t in TRAINERS)}
    assert report.stat().st_size < 200_000

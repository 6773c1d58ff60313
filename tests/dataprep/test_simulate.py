"""What each rule would lose, counted on chats whose numbers are worked out by hand."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from glmprep import simulate
from glmprep.cli import glmprep as group
from glmprep.cutting import Cutting
from glmprep.errors import InputError, UsageError
from glmprep.labels import tokenize
from glmprep.lengths import Lengths
from glmprep.peers import POLICIES
from glmprep.records import Conversation
from glmprep.segment import segment
from glmprep.simulate import LENGTHS, OURS, Outcome, Result, parse_lengths
from glmprep.source import Source
from glmprep.tokenizing import Ready
from glmprep.views import simulate as view
from glmreport import Page, render
from glmreport.page import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from .chats import chat, conversations, no_shrinking, write

QUESTION = ("user", "word " * 20)
SHORT = chat(QUESTION, ("assistant", "Yes, that is so."))
LONG = chat(QUESTION, ("assistant", "It is. " * 40), QUESTION, ("assistant", "It was. " * 40))
TRANSCRIPT = chat(("user", "word " * 300), ("assistant", "All of it was agreed upon."))


@pytest.fixture(scope="session")
def run(family, tokenizer) -> Any:
    def run(chats: Sequence[Conversation], lengths: Sequence[int] = LENGTHS) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            source = Source(paths=[write(Path(folder) / "chats.jsonl", chats)])
            return simulate.simulate(source, family=family, tokenizer=tokenizer, lengths=lengths)

    return run


def outcome(result: Result, policy: str, length: int) -> Outcome:
    return next(o for o in result.at(policy) if o.max_length == length)


def test_every_rule_is_applied_at_every_length(run):
    result = run([SHORT, LONG], (64, 512))
    found = [(o.policy, o.max_length) for o in result.outcomes]
    names = [OURS, *(policy.name for policy in POLICIES)]
    assert found == [(name, length) for name in names for length in (64, 512)]


def test_where_all_fits_every_rule_but_combine_keeps_all(run):
    result = run([SHORT, LONG], (512,))
    for one in result.outcomes:
        whole = {"policy": one.policy, "max_length": 512, "rows": 2, "tokens": result.tokens}
        if one.policy != "official_combine":
            expected = Outcome(targets=result.targets, **whole)
            assert asdict(one) == asdict(expected)


def test_the_counts_at_a_limit_in_the_second_answer_are_those_worked_out_by_hand(
    run, family, tokenizer
):
    batch = tokenize([LONG], family, tokenizer)
    first, second = batch.targets[[1, 3]].tolist()
    # Up to here stand the first exchange, the second prompt, and ten tokens of the second answer.
    limit = int(batch.start[3]) + 1 + 10
    result = run([LONG], (limit,))
    start = outcome(result, "trl", limit)
    assert (start.targets, start.turns_lost, start.answers_without_stop) == (first + 10, 0, 1)
    script = outcome(result, "official", limit)
    assert script.targets == first + 11
    dropped = outcome(result, "axolotl", limit)
    assert (dropped.rows, dropped.rows_dropped, dropped.turns_lost) == (0, 1, 2)
    # One token is kept for the end of text: the second pair has room for its prompt and nine more.
    # Prompt and answer are both longer than half of that, so both are cut in proportion.
    prompt = int(batch.end[2] - batch.start[2]) + 1
    room = prompt + 9
    share = int(room * (second - 1) / (second - 1 + prompt))
    factory = outcome(result, "llamafactory", limit)
    assert (factory.targets, factory.answers_cut_with_stop) == (first + share, 1)
    assert (factory.answers_without_stop, factory.prompts_cut) == (0, 1)
    left = outcome(result, "swift_left", limit)
    # What is cut off the front reaches into the first answer; one token more loses its label.
    lost = int(batch.offsets[1]) - limit + 1 - int(batch.start[1] + 1)
    assert 0 < lost < first
    assert left.targets == first + second - lost
    assert left.answers_beheaded == 1


def test_a_row_cut_before_its_answer_is_kept_without_labels_or_left_out(run):
    result = run([TRANSCRIPT], (128,))
    script, start = outcome(result, "official", 128), outcome(result, "trl", 128)
    assert (script.rows, script.rows_without_labels, script.rows_dropped) == (1, 1, 0)
    assert (start.rows, start.rows_without_labels, start.rows_dropped) == (0, 0, 1)
    factory = outcome(result, "llamafactory", 128)
    assert (factory.targets, factory.prompts_cut, factory.tokens) == (result.targets, 1, 128)


def test_an_unanswered_end_makes_llamafactory_leave_the_row_out_at_any_length(run):
    result = run([SHORT, chat(*SHORT.messages, QUESTION)], (4096,))
    assert outcome(result, "llamafactory", 4096).rows_dropped == 1
    assert outcome(result, "llamafactory", 4096).targets * 2 == result.targets


def test_keeping_the_start_loses_what_the_audit_says_a_cut_would_lose(run, family, tokenizer):
    chats = [SHORT, LONG, TRANSCRIPT]
    result = run(chats, (64, 128, 200))
    lengths = Lengths((64, 128, 200))
    lengths.add(chats, tokenize(chats, family, tokenizer))
    for cut in lengths.cuts():
        one = outcome(result, "trl", cut.max_length)
        assert result.targets - one.targets == cut.supervised_lost
        assert one.answers_without_stop == cut.answers_cut
        assert one.rows_dropped == cut.without_labels


@given(st.lists(conversations(), min_size=1, max_size=3), st.integers(24, 160))
@settings(no_shrinking, max_examples=25)
def test_our_segmentation_keeps_what_glmprep_segment_writes(run, family, tokenizer, chats, length):
    try:
        result = run(chats, (length,))
    except InputError:
        return
    own = outcome(result, OURS, length)
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = segment(
                Source(paths=[write(Path(folder) / "chats.jsonl", chats)]),
                Path(folder) / "out.jsonl",
                tokenizing=Ready(tokenizer, family),
                cutting=Cutting(
                    max_length=length, context="overlap", overlap=2, context_tokens=length // 4
                ),
            ).counts
        except InputError:
            assert own.targets == 0
            return
    assert own.targets == written.targets_out == result.targets - written.targets_set_aside
    assert own.tokens == written.tokens_out
    assert own.rows == written.whole + written.segments
    assert (own.turns_lost > 0) == (written.targets_set_aside > 0)
    assert all(o.targets <= result.targets for o in result.outcomes)


@pytest.mark.parametrize("text", ["", "512,", "a,b", "512;1024", "-5", "1e3", "٥١٢", "9" * 40])
def test_lengths_that_are_no_numbers_are_refused(text):
    with pytest.raises(UsageError, match="--lengths"):
        parse_lengths(text)


def test_lengths_are_sorted_and_said_once():
    assert parse_lengths("2048, 512,512") == [512, 2048]


def test_too_many_lengths_are_refused():
    with pytest.raises(UsageError, match="16 is the most"):
        parse_lengths(",".join(map(str, range(100, 200))))


@pytest.mark.parametrize("length", [0, 3, 1 << 40])
def test_a_length_in_which_nothing_fits_or_that_nothing_can_hold_is_refused(run, length):
    with pytest.raises(UsageError, match=r"least|most"):
        run([SHORT], (length,))


def test_data_without_a_row_is_an_error_of_one_line(tmp_path, family, tokenizer):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(InputError, match="no rows"):
        simulate.simulate(Source(paths=[str(empty)]), family=family, tokenizer=tokenizer)


def tables(page: Page) -> list[Table]:
    return [b for section in page.sections for b in section.blocks if isinstance(b, Table)]


def test_the_page_has_a_table_for_each_length_in_which_something_does_not_fit(run):
    result = run([SHORT, LONG, TRANSCRIPT], (64, 128, 4096))
    page = view.page(result, "glmprep simulate x.jsonl", ["x.jsonl"])
    shares, *counts = tables(page)
    assert len(counts) == 2
    assert [len(table.rows) for table in (shares, *counts)] == [len(POLICIES) + 1] * 3
    assert page.verdict.level == "warn"
    assert [step.command.split()[1] for step in page.steps if step.command] == ["segment", "bucket"]
    assert "--max-length 128" in (page.steps[0].command or "")
    assert "LLaMA-Factory" in render(page)


def test_a_single_length_and_data_that_fits_make_a_page_too(run):
    page = view.page(run([SHORT], (4096,)), "glmprep simulate x.jsonl", ["x.jsonl"])
    assert page.verdict.level == "good"
    assert page.steps == []
    assert len(tables(page)) == 2
    assert render(page)


def test_the_summary_says_what_the_longest_telling_length_costs(run):
    console = Console(file=io.StringIO(), width=200)
    result = run([SHORT, LONG, TRANSCRIPT], (64, 128, 4096))
    view.summary(result)(console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "conclusion      at 128 tokens, keeping the start trains" in text
    assert "glmprep segment 100%" in text


def test_the_command_writes_json_and_report(tmp_path):
    data = write(tmp_path / "chats.jsonl", [SHORT, LONG])
    report = tmp_path / "report.html"
    done = CliRunner().invoke(
        group, ["simulate", data, "--lengths", "64,128", "--json", "-", "--report", str(report)]
    )
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert found["lengths"] == [64, 128]
    assert {"policy", "share", "computed", "turns_lost"} <= set(found["outcomes"][0])
    assert report.stat().st_size < 200_000


def test_real_counselling_dialogues_lose_nothing_here_and_much_elsewhere(family, tokenizer):
    counselling = Source(paths=["sample:counselling"])
    result = simulate.simulate(counselling, family=family, tokenizer=tokenizer, lengths=(512,))
    assert outcome(result, OURS, 512).targets == result.targets
    assert result.share(outcome(result, "trl", 512)) < 0.9
    assert result.share(outcome(result, "axolotl", 512)) < 0.5

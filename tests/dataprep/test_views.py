"""What the commands say of their results: pages in both languages, summaries, next steps."""

from __future__ import annotations

import importlib
import io
import pkgutil
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import glmprep
import orjson
import pytest
from glmprep import audit, bucket, reread, segment, show, verify
from glmprep.cli import glmprep as group
from glmprep.cutting import Cutting, OnOverflow
from glmprep.families import Family
from glmprep.findings import RULES
from glmprep.records import Conversation, Message
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready
from glmprep.views import audit as audit_view
from glmprep.views import bucket as bucket_view
from glmprep.views import followup
from glmprep.views import segment as segment_view
from glmprep.views import show as show_view
from glmprep.views import verify as verify_view
from glmreport import Catalogue, Page, Table, TokenView, check_catalogues, render, rule_text
from glmreport.page import Block, Chart, Paragraph
from glmreport.text import LANGUAGES, RULE_FIELDS, Text, placeholders
from rich.console import Console

from .chats import chat, write

SHORT = chat(("user", "你好"), ("assistant", "你好，请问有什么可以帮您？"))
OTHER = chat(("user", "Where is the bear?"), ("assistant", "The bear is in the wood."))
LONG = chat(
    ("system", "Answer at length."),
    ("user", "Tell me a story."),
    ("assistant", "Once upon a time there was a bear. " * 60),
    ("user", "And then?"),
    ("assistant", "The bear went home and slept. " * 60),
)
HEADLESS = chat(("system", "Say something."), ("assistant", "Something."))
ONE_SIDED = [chat(("assistant", "Hi " * n)) for n in range(1, 20)]
VARIED = [chat(("user", str(n)), ("assistant", "word " * n * n)) for n in range(1, 20)]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def run_audit(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> Callable[..., tuple[audit.Result, list[str]]]:
    def run(
        *chats: Conversation, max_length: int | None = None, bad_lines: Sequence[str] = ()
    ) -> tuple[audit.Result, list[str]]:
        path = write(tmp_path / "my chats.jsonl", chats)
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in bad_lines)
        found = audit.audit(
            Source(paths=[path]), family=family, tokenizer=tokenizer, max_length=max_length
        )
        return found, [path]

    return run


@pytest.fixture
def run_bucket(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> Callable[..., tuple[bucket.Result, Path, list[str]]]:
    def run(
        *chats: Conversation, layout: bucket.Layout = "buckets", max_length: int = 8192
    ) -> tuple[bucket.Result, Path, list[str]]:
        data, folder = [write(tmp_path / "chats.jsonl", chats)], tmp_path / "shards"
        config = bucket.Config(layout=layout, max_length=max_length)
        made = bucket.bucket(
            Source(paths=data), Folder(folder), tokenizing=Ready(tokenizer, family), config=config
        )
        return made, folder, data

    return run


def said(page: Page, language: str = "en") -> str:
    """The headline of a page; the whole page is rendered, so that nothing in it lacks words."""
    assert render(page).startswith("<!doctype html>")
    return Catalogue.load(language).say(page.verdict.headline)


def commands(page: Page) -> list[str]:
    return [step.command for step in page.steps if step.command]


def blocks(page: Page, kind: type[Block]) -> list[Block]:
    return [block for part in page.sections for block in part.blocks if isinstance(block, kind)]


def table_of(page: Page, caption: str) -> Table:
    """The one table with that caption."""
    tables = [block for block in blocks(page, Table) if isinstance(block, Table)]
    [found] = [t for t in tables if isinstance(t.caption, Text) and t.caption.key == caption]
    return found


def printed(summary: Callable[[Console], None], **options: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, highlight=False, markup=False, **options)
    summary(console)
    return out.getvalue()


def parse_command(command: str) -> click.Context:
    """The command line as its command takes it; raises what a person would be shown."""
    program, name, *arguments = shlex.split(command)
    groups = {"glmprep": group}
    if program not in groups:
        module = importlib.import_module(f"{program}.cli")
        found = [value for value in vars(module).values() if isinstance(value, click.Group)]
        groups[program] = found[0]
    return groups[program].commands[name].make_context(name, arguments)


def audited(result: audit.Result, data: list[str], *options: str) -> Page:
    return audit_view.page(result, followup.line("glmprep", "audit", *data, *options), data)


# The words


def test_each_rule_has_chinese_texts_with_the_placeholders_of_its_english_ones():
    for module in pkgutil.walk_packages(glmprep.__path__, "glmprep."):
        importlib.import_module(module.name)
    rules = [rule for rule in RULES.values() if rule.check.__module__.startswith("glmprep.")]
    assert len(rules) >= 28
    for rule in rules:
        chinese = rule_text(rule.id, "zh") or {}
        for field in RULE_FIELDS:
            assert CHINESE.search(chinese.get(field, "")), f"{rule.id}: no Chinese {field}"
            wanted = placeholders(getattr(rule, field))
            assert placeholders(chinese[field]) == wanted, f"{rule.id}: {field}"


def test_no_number_in_a_command_is_written_with_thousands_separators():
    for key, template in Catalogue.load("zh").entries.items():
        for code in template.split("`")[1::2]:
            bare = re.findall(r"\{(\w+)\}", code) if key.startswith("rule.D") else []
            assert not bare, f"{key}: write {{{bare[0]}:d}}"


def test_each_sentence_is_there_in_both_languages_with_the_same_placeholders():
    assert check_catalogues() == []


def test_no_english_sentence_is_left_in_the_chinese_catalogue():
    english, chinese = (Catalogue.load(language).entries for language in LANGUAGES)
    words = {key: re.sub(r"\{[^}]*\}|`[^`]*`", "", english[key]) for key in english}
    same = {"prep.lengths.mark.percentile", "prep.ledger.column.tokens"}
    for key in [key for key in english if key.startswith("prep.") and key not in same]:
        if re.search("[A-Za-z]{2}", words[key]):
            assert CHINESE.search(chinese[key]), key


# The audit


def test_sound_data_is_good_and_its_one_step_writes_the_shards(run_audit):
    result, data = run_audit(SHORT, OTHER)
    page = audited(result, data)
    assert (page.verdict.level, said(page)) == ("good", "Yes: every row is ready to be trained on")
    assert said(page, "zh") == "可以：每一行都可以直接用于训练"
    assert commands(page) == [f"glmprep bucket {shlex.quote(data[0])} -o shards"]


def test_rejected_rows_are_counted_in_the_headline(run_audit):
    result, data = run_audit(SHORT, bad_lines=["{", '{"messages": []}'])
    page = audited(result, data)
    assert page.verdict.level == "bad"
    assert said(page) == "Not all of it: 2 of 3 rows cannot be trained on"
    assert Catalogue.load("en").say(page.verdict.detail).startswith("33.3% of the rows are ready")


def test_a_warning_is_no_reason_not_to_train(run_audit):
    page = audited(*run_audit(SHORT, SHORT))
    assert (page.verdict.level, said(page)) == ("warn", "Yes, but look at the warnings first")


def test_rows_over_the_limit_lead_to_segment_and_then_to_bucket_on_its_output(run_audit):
    result, data = run_audit(SHORT, LONG, max_length=128)
    page = audited(result, data, "--max-length", "128", "--role", "client=user", "--family=glm4")
    assert said(page) == "Yes, but 1 conversation does not fit in 128 tokens"
    look, split, shards = map(shlex.split, commands(page))
    assert look[:3] == ["glmprep", "show", data[0]]
    assert split[:3] == ["glmprep", "segment", data[0]]
    assert "client=user" in split
    assert split[split.index("--max-length") + 1] == "128"
    assert shards == shlex.split("glmprep bucket segments.jsonl --family=glm4 -o shards")


def test_the_steps_of_an_audit_end_in_shards_that_hold_every_trained_token(run_audit, monkeypatch):
    result, data = run_audit(SHORT, LONG, max_length=256)
    monkeypatch.chdir(Path(data[0]).parent)
    for command in commands(audited(result, data)):
        with pytest.raises(SystemExit) as end:
            group.main(shlex.split(command)[1:], standalone_mode=False)
        assert end.value.code == 0
    assert verify.verify(Path(followup.SHARDS)).supervised == result.lengths.supervised


def test_without_a_limit_the_suggested_one_can_be_looked_at(run_audit):
    short = [chat(("user", str(n)), ("assistant", "Yes.")) for n in range(40)]
    result, data = run_audit(*short, LONG)
    _, limit, split, _ = commands(audited(result, data))
    assert shlex.split(limit)[-4:] == ["--max-length", "256", "--report", "audit.html"]
    assert shlex.split(split)[-4:] == ["--max-length", "256", "-o", "segments.jsonl"]


def test_an_unknown_role_leads_to_an_audit_that_names_it(run_audit):
    row = {"messages": [{"role": "client", "content": "a"}, {"role": "assistant", "content": "b"}]}
    hostile = {"messages": [{"role": "$(reboot)", "content": "a"}]}
    lines = [orjson.dumps(one).decode() for one in (row, hostile)]
    first = commands(audited(*run_audit(SHORT, bad_lines=lines)))[0]
    assert first.startswith("glmprep audit ")
    assert first.endswith(" --role client=user")


@pytest.mark.parametrize(
    ("chats", "charts", "sentences"),
    [
        pytest.param([SHORT], 0, 2, id="one conversation"),
        pytest.param([SHORT] * 30, 0, 2, id="all of one length"),
        pytest.param([HEADLESS], 0, 2, id="one answer and no prompt"),
        pytest.param(ONE_SIDED, 2, 1, id="no prompts"),
        pytest.param([SHORT, LONG], 1, 1, id="one conversation over a usual limit"),
        pytest.param([*VARIED, LONG], 3, 0, id="many lengths, one over a usual limit"),
    ],
)
def test_data_gets_the_charts_that_it_has_numbers_for(run_audit, chats, charts, sentences):
    result, data = run_audit(*chats)
    page = audited(result, data)
    said(page)
    # One more sentence says what the official script would cut.
    assert (len(blocks(page, Chart)), len(blocks(page, Paragraph))) == (charts, sentences + 1)
    assert printed(audit_view.summary(result)).count("\n") >= 6


def test_the_table_of_limits_ends_with_the_first_that_cuts_nothing_and_marks_the_asked_one(
    run_audit,
):
    result, data = run_audit(SHORT, LONG, max_length=100)
    table = table_of(audited(result, data), "prep.lengths.caption.cuts")
    assert [row[0] for row in table.rows] == [100, 512, 1024]
    assert [row[1] for row in table.rows] == [1, 1, 0]
    assert table.highlight == 0
    far, data = run_audit(SHORT, LONG, max_length=30_000)
    table = table_of(audited(far, data), "prep.lengths.caption.cuts")
    assert [row[0] for row in table.rows] == [512, 1024, 30_000]


def test_the_audit_summary_is_aligned_and_says_what_the_limit_cuts(run_audit):
    result, _ = run_audit(SHORT, LONG, max_length=100)
    lines = printed(audit_view.summary(result)).splitlines()
    assert lines[0] == "rows ready      2 of 2 rows (100%)"
    assert lines[3].startswith("at 100          1 conversation is longer; ")
    assert "longest" in lines[5]
    assert [line.split()[0] for line in lines[6:9]] == ["conversation", "prompt", "answer"]


# Segments


@pytest.fixture
def run_segment(tmp_path: Path, family: Family, tokenizer: Tokenizer) -> Callable[..., Page]:
    def run(*chats: Conversation, overlap: int = 2, on_overflow: OnOverflow = "split") -> Page:
        data, target = [write(tmp_path / "chats.jsonl", chats)], tmp_path / "out.jsonl"
        cutting = Cutting(
            max_length=256,
            context="overlap" if overlap else "none",
            overlap=overlap,
            context_tokens=64,
            on_overflow=on_overflow,
        )
        result = segment.segment(
            Source(paths=data),
            target,
            tokenizing=Ready(tokenizer, family),
            cutting=cutting,
        )
        assert printed(segment_view.summary(result, target)).startswith("wrote           ")
        command = followup.line("glmprep", "segment", *data, "-o", target)
        return segment_view.page(result, cutting, target, command, data)

    return run


def test_a_split_that_loses_nothing_is_good_and_its_ledger_balances(run_segment):
    page = run_segment(SHORT, LONG)
    assert page.verdict.level == "good"
    assert said(page) == "Every conversation fits in 256 tokens, and no trained token is lost"
    [ledger, stages, seams] = blocks(page, Table)
    came, out, aside, missing = (row[1] for row in ledger.rows)
    assert came == out > 0 == aside == missing
    *_, written, replayed, noted = (row[2:4] for row in stages.rows)
    assert written[0] == len(SHORT.messages) + len(LONG.messages)
    assert written[1] > replayed[1] > noted[1] == 0  # tokens, and those repeated among them
    assert [before.split(":")[0] for _, before, _ in seams.rows] == ["assistant"] * len(seams.rows)
    assert [after.split(":")[0] for _, _, after in seams.rows] == ["user"] * len(seams.rows)
    assert Catalogue.load("zh").say(ledger.rows[-1][2]) == "收支平衡 ✓"
    assert commands(page)[0].startswith("glmprep bucket ")


def test_what_a_split_sets_aside_is_in_the_headline_and_in_the_ledger(run_segment):
    page = run_segment(SHORT, LONG, on_overflow="quarantine", overlap=0)
    assert page.verdict.level == "bad"
    assert "2 rows or parts of rows were left out" in said(page)
    [ledger, _] = blocks(page, Table)
    came, out, aside, missing = (row[1] for row in ledger.rows)
    assert (came, missing) == (out + aside, 0)
    assert aside > 0


# Shards


@pytest.mark.parametrize("layout", ["buckets", "packed"])
def test_padding_by_bucket_sums_up_to_the_padding_of_the_shards(run_bucket, layout):
    result, folder, data = run_bucket(*VARIED, layout=layout, max_length=512)
    page = bucket_view.page(result, folder, f"glmprep bucket {data[0]} -o {folder}", data)
    assert said(page) == "Ready to train: every row that was read is in the shards"
    table = blocks(page, Table)[0]
    computed, padding = (sum(row[place] for row in table.rows) for place in (3, 4))
    assert padding / computed == pytest.approx(result.efficiency.padding)
    assert computed - padding == result.ledger.written.tokens
    assert f"({layout})" in printed(bucket_view.summary(result, folder))


def test_what_was_too_long_leads_to_segment_and_to_the_same_bucket_again(run_bucket):
    result, folder, data = run_bucket(*[SHORT] * 30, LONG, layout="packed", max_length=256)
    command = followup.line(
        *("glmprep", "bucket", *data, "--layout", "packed", "--max-length", 256, "-o", folder),
    )
    page = bucket_view.page(result, folder, command, data)
    assert (page.verdict.level, said(page)) == ("warn", "Ready to train, without 1 of 31 rows")
    split, again, *_ = map(shlex.split, commands(page))
    assert split[-4:] == ["--max-length", "256", "-o", "segments.jsonl"]
    assert again == shlex.split(
        f"glmprep bucket segments.jsonl --layout packed --max-length 256 -o {folder} --overwrite"
    )
    [_, _, tokens, ledger] = blocks(page, Table)
    english = Catalogue.load("en")
    assert [english.say(row[0]) for row in ledger.rows] == [
        "read",
        "= tokenized",
        "− set aside by DL001",
        "= written",
    ]
    assert "balanced ✓" in english.say(ledger.caption)
    assert [english.say(row[0]) for row in tokens.rows] == [
        "trained",
        "context, not trained",
        "= all tokens",
    ]
    for column in (1, 2, 3):
        *kinds, total = (row[column] for row in tokens.rows)
        assert sum(kinds) == total
    assert all(row[1] + row[2] == row[3] for row in tokens.rows)


def test_shards_that_lack_much_of_the_data_are_bad(run_bucket):
    result, folder, data = run_bucket(SHORT, LONG, max_length=256)
    page = bucket_view.page(result, folder, "glmprep bucket x", data)
    assert page.verdict.level == "bad"
    assert said(page) == "Much is missing: 1 of 2 rows did not get into the shards"


def test_each_step_of_each_page_is_a_command_that_its_program_takes(
    run_audit, run_segment, run_bucket
):
    result, data = run_audit(SHORT, LONG, max_length=256)
    pages = [audited(result, data), run_segment(SHORT, LONG)]
    made, folder, data = run_bucket(SHORT, LONG, max_length=256)
    pages.append(bucket_view.page(made, folder, f"glmprep bucket {data[0]} -o {folder}", data))
    pages.append(verify_view.page(verify.verify(folder), folder, "glmprep verify"))
    pages.append(show_view.page(show.show(folder, [0]), folder, "glmprep show"))
    steps = [command for page in pages for command in commands(page)]
    names = {parse_command(step).info_name for step in steps}
    assert names == {"segment", "bucket", "verify", "show", "labels", "run"}


# Verify and show


def states(page: Page) -> list[str]:
    english = Catalogue.load("en")
    return [english.say(row[1]) for row in blocks(page, Table)[0].rows]


def test_whole_shards_are_proven_by_all_checks_that_need_no_data(run_bucket):
    _, folder, _ = run_bucket(SHORT, LONG)
    result = verify.verify(folder)
    page = verify_view.page(result, folder, "glmprep verify")
    assert said(page).startswith("Proven: ")
    assert states(page) == [*["✓ holds"] * 7, *["– needs the data"] * 5]
    assert commands(page)[0] == f"glmprep verify {folder} chats.jsonl"
    assert printed(verify_view.summary(result, folder)).startswith("proven          ")


def test_beside_their_data_shards_are_proven_by_all_checks(run_bucket, family, tokenizer):
    _, folder, data = run_bucket(SHORT, LONG)
    inputs = reread.Inputs(paths=data, tokenizing=Ready(tokenizer, family))
    result = verify.verify(folder, inputs)
    page = verify_view.page(result, folder, "glmprep verify", data)
    assert said(page).startswith("Proven from the data: ")
    assert states(page) == ["✓ holds"] * 12
    assert [row[3] for row in blocks(page, Table)[1].rows] == ["✓"] * 6
    assert "2 rows read and tokenized again" in printed(verify_view.summary(result, folder))


def test_after_a_file_that_cannot_be_read_no_check_is_said_to_hold(run_bucket):
    _, folder, _ = run_bucket(SHORT, LONG)
    (folder / "shard-00000.parquet").write_bytes(b"PAR1")
    result = verify.verify(folder)
    page = verify_view.page(result, folder, "glmprep verify")
    assert (page.verdict.level, said(page)[:11]) == ("bad", "Not proven:")
    assert states(page) == ["✗ broken", *["– skipped"] * 11]
    assert len(blocks(page, Table)) == 1
    assert printed(verify_view.summary(result, folder)).startswith("not proven      ")


def test_sums_that_differ_from_the_manifest_are_marked(run_bucket):
    _, folder, _ = run_bucket(SHORT, LONG)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["ledger"]["written"]["tokens"] += 1
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    page = verify_view.page(verify.verify(folder), folder, "glmprep verify")
    assert states(page)[:7] == ["✓ holds", "✗ broken", *["✓ holds"] * 5]
    assert [row[3] for row in blocks(page, Table)[1].rows] == ["✓", "✓", "✗", "✓", "✓"]


def test_a_shown_row_is_on_the_page_with_what_is_trained_told_apart(run_bucket):
    _, folder, _ = run_bucket(SHORT)
    page = show_view.page(show.show(folder, [0]), folder, "glmprep show")
    [view] = blocks(page, TokenView)
    assert [span.text for span in view.spans if span.kind in ("trained", "stop")] == [
        "\n你好，请问有什么可以帮您？",
        "<|user|>",
    ]
    assert re.fullmatch(r"\d+ of \d+ tokens are trained", said(page))


def test_a_shown_row_cannot_steer_the_terminal_and_is_marked_where_there_is_no_colour(run_bucket):
    hostile = Message(role="assistant", content="ok\x1b]0;title\x07\x1b[31m [bold]no markup[/bold]")
    _, folder, _ = run_bucket(chat(("user", "\x1b[2J"), hostile))
    plain = printed(show_view.summary(show.show(folder, [0])))
    assert "\x1b" not in plain
    assert "⟦\nok\\x1b]0;title\\x07\\x1b[31m [bold]no markup[/bold]⟧⟪<|user|>⟫" in plain
    assert plain.endswith("legend:  ⟦trained⟧  ⟪trained stop token⟫\n")
    coloured = printed(
        show_view.summary(show.show(folder, [0])), force_terminal=True, color_system="standard"
    )
    assert "⟦" not in coloured
    assert "\x1b[1;30;42m" in coloured
    assert "\x1b]0;" not in coloured

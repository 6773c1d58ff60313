"""`glmprep split`: groups stay on one side, and blocks, workers and other runs change nothing."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep import blocks, segment
from glmprep.cutting import Cutting
from glmprep.engines.local import local
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.parting import Parting, Result, part
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready
from glmprep.views.split import page
from glmreport import render
from hypothesis import given, settings
from hypothesis import strategies as st

from . import realdata, test_build
from .test_build import digests, run

Lines = list[bytes]
place = test_build.place


def row(opening: str, number: int) -> dict[str, Any]:
    said = [
        {"role": "user", "content": opening},
        {"role": "assistant", "content": f"No. {number}."},
    ]
    return {"id": f"chat-{number}", "messages": said}


def write(path: Path, openings: list[str]) -> Source:
    """A row for each opening."""
    rows = [orjson.dumps(row(opening, number)) for number, opening in enumerate(openings)]
    path.write_bytes(b"".join(line + b"\n" for line in rows))
    return Source(paths=[str(path)])


def many(rows: int = 400, twins: int = 3) -> list[str]:
    return [f"How does one get to house number {n // twins} of this street?" for n in range(rows)]


def parted(
    source: Source, folder: Path, share: float = 0.2, seed: int = 0, workers: int = 1
) -> tuple[Result, Lines, Lines]:
    """The result, and the lines of both sides."""
    folder.mkdir(exist_ok=True)
    asked = Parting(
        training=folder / "train.jsonl",
        validation=folder / "validation.jsonl",
        share=share,
        seed=seed,
    )
    with local(workers) as engine:
        result = part(source, asked, engine=engine)
    train, validation = (out.read_bytes().splitlines(keepends=True) for out in asked.outputs)
    return result, train, validation


def openings(lines: Lines) -> set[str]:
    rows = map(orjson.loads, lines)
    return {next(m["content"] for m in row["messages"] if m["role"] == "user") for row in rows}


def numbers(lines: Lines) -> list[int]:
    return [int(orjson.loads(line)["id"].partition("-")[2]) for line in lines]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 30), min_size=12, max_size=80),
    st.floats(0.25, 0.6),
    st.integers(0, 2**63 - 1),
)
def test_every_row_is_on_one_side_in_its_order_and_no_opening_on_both(
    drawn: list[int], share: float, seed: int
) -> None:
    asked = [f"Where is house number {number} of this long street?" for number in drawn]
    largest = max(map(drawn.count, drawn))
    if largest > share * len(drawn):
        asked = many(len(drawn), 1)
        largest = 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write(folder / "data.jsonl", asked)
        result, train, validation = parted(source, folder, share, seed)
    assert not openings(train) & openings(validation)
    assert sorted(numbers(train) + numbers(validation)) == list(range(len(asked)))
    assert all(sorted(side) == side for side in map(numbers, (train, validation)))
    assert (len(train), len(validation)) == (result.training.rows, result.validation.rows)
    assert result.training.groups == len(openings(train))
    assert result.largest == largest
    room = round(share * len(asked))
    assert room - largest < len(validation) <= room


def test_blocks_and_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "data.jsonl", many())
    with (tmp_path / "data.jsonl").open("ab") as file:
        file.write(b'{"messages": 7}\n')
    whole, *sides = parted(source, tmp_path / "a")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)
    assert len(list(blocks.blocks([blocks.DataFile(source.paths[0])]))) > 5
    for workers in (1, 2):
        again, *others = parted(source, tmp_path / f"b{workers}", workers=workers)
        assert (again, others) == (whole, sides)
        names = [path.name for path in sorted((tmp_path / f"b{workers}").iterdir())]
        assert names == ["train.jsonl", "train.jsonl.rejects.jsonl", "validation.jsonl"]
        rejected = (tmp_path / f"b{workers}" / "train.jsonl.rejects.jsonl").read_bytes()
        assert orjson.loads(rejected)["where"] == f"{source.paths[0]}:401"


def test_repairs_are_told_beside_the_training_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "data.jsonl", many())
    twice = row("Where is the large red house?", 400)
    twice["messages"].insert(0, {"role": "user", "content": "Dear all,"})
    with (tmp_path / "data.jsonl").open("ab") as file:
        file.write(orjson.dumps(twice) + b"\n")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)
    result, train, validation = parted(replace(source, repair=True), tmp_path / "out")
    [told] = (tmp_path / "out" / "train.jsonl.repairs.jsonl").read_bytes().splitlines()
    assert orjson.loads(told)["where"] == f"{source.paths[0]}:401"
    assert len(train) + len(validation) == 401 == result.rows
    [mended] = [line for line in train + validation if b'"chat-400"' in line]
    assert len(orjson.loads(mended)["messages"]) == 2


def test_most_of_a_choice_stays_when_data_is_added_and_the_folder_has_another_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "moved").mkdir()
    _, _, first = parted(write(tmp_path / "data.jsonl", many()), tmp_path / "a")
    more = write(tmp_path / "moved" / "data.jsonl", many(440))
    _, _, later = parted(more, tmp_path / "b")
    assert len(set(first) & set(later)) > 0.8 * len(first)
    _, _, other = parted(more, tmp_path / "c", seed=1)
    assert len(set(other) & set(later)) < 0.5 * len(later)


def test_segments_of_one_conversation_stay_together_and_are_still_known_as_segments(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    said = [f"Tell me about house number {n} of this long street, please." for n in range(240)]
    chats = []
    for chat in range(20):
        turns = []
        for turn in range(12):
            turns.append({"role": "user", "content": said[chat * 12 + turn]})
            turns.append({"role": "assistant", "content": "It is red. " * 3})
        chats.append(orjson.dumps({"id": f"chat-{chat}", "messages": turns}) + b"\n")
    (tmp_path / "data.jsonl").write_bytes(b"".join(chats))
    cut = tmp_path / "segments.jsonl"
    segment.segment(
        Source(paths=[str(tmp_path / "data.jsonl")]),
        cut,
        tokenizing=Ready(tokenizer, family),
        cutting=Cutting(max_length=120),
    )
    result, train, validation = parted(Source(paths=[str(cut)]), tmp_path / "out", 0.3)
    assert result.segmented
    sides = (train, validation)
    whole = [{orjson.loads(line)["id"].split("#")[0] for line in side} for side in sides]
    assert not whole[0] & whole[1]
    assert len(whole[0]) + len(whole[1]) == 20 == result.training.groups + result.validation.groups
    for side in ("train", "validation"):
        told = (tmp_path / "out" / f"{side}.jsonl.cutting.json").read_bytes()
        assert told == (tmp_path / "segments.jsonl.cutting.json").read_bytes()
    # Others that are not cut, written over them, do not seem to be.
    parted(write(tmp_path / "data.jsonl", many()), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.cutting.json"))


@pytest.mark.parametrize(
    ("asked", "share", "said"),
    [
        (
            ["Where is the large red house?"],
            0.5,
            "nothing would be left to train on: all conversations, which are 1,",
        ),
        (["Where is the large red house?"] * 9, 0.5, "the smallest group .* 9 of 9 rows"),
        (many(2, 1), 0.9, "all conversations, which are 2, would be for validation"),
        (many(5), 0.0, "must be above 0 and below 1"),
        (many(5), float("nan"), "must be above 0 and below 1"),
    ],
)
def test_what_cannot_be_parted_is_refused_and_nothing_written(
    tmp_path: Path, asked: list[str], share: float, said: str
) -> None:
    source = write(tmp_path / "data.jsonl", asked)
    with pytest.raises(UsageError, match=said):
        parted(source, tmp_path / "out", share)
    assert not list((tmp_path / "out").iterdir())


def test_data_without_a_conversation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(b'{"messages": 7}\n')
    with pytest.raises(InputError, match="no row holds a conversation, of 1"):
        parted(Source(paths=[str(tmp_path / "data.jsonl")]), tmp_path / "out")


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        ("data.jsonl", "v.jsonl", "data.jsonl: is also an input; name another output"),
        ("t.jsonl", "data.jsonl", "data.jsonl: is also an input; name another output"),
        ("t.jsonl", "./t.jsonl", "t.jsonl: is the output already; name another file"),
        ("t.jsonl", ".", ".: is a folder or a device; name a file"),
    ],
)
def test_an_output_that_is_something_else_already_is_refused(
    tmp_path: Path, train: str, validation: str, said: str
) -> None:
    write(tmp_path / "data.jsonl", many(5))
    before = digests(tmp_path)
    done = run(tmp_path, "split", "data.jsonl", "-o", train, "--validation", validation)
    assert (done.returncode, done.stderr) == (2, f"glmprep: {said}\n")
    assert digests(tmp_path) == before


def test_the_command_tells_both_sides_and_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", many())
    words = ("split", "data.jsonl", "-o", "t.jsonl", "--validation", "v.jsonl", "--share", "0.1")
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ")[-1].strip() for line in done.stdout.splitlines()]
    assert lines == [
        "t.jsonl: 360 conversations in 120 groups",
        "v.jsonl: 40 conversations in 14 groups",
        "10.0% of 400",
        "3 conversations",
        "glmprep bucket t.jsonl -o shards",
        "glmprep bucket v.jsonl -o validation-shards",
    ]
    for line in lines[-2:]:
        assert run(tmp_path, *line.split()[1:]).returncode == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            many(400, 4),
            "80 of 400 conversations (20.0%) are for validation, and none of them begins",
        ),
        (many(80, 40) + many(5, 1)[2:], "Only 3 of 83 conversations (3.6%) are for validation"),
    ],
)
def test_the_page_tells_what_each_side_got(tmp_path: Path, asked: list[str], said: str) -> None:
    source = write(tmp_path / "data.jsonl", asked)
    parting = Parting(training=tmp_path / "t", validation=tmp_path / "v", share=0.2)
    html = render(page(part(source, parting), parting, "glmprep split data.jsonl", source.paths))
    assert said in html
    assert html.count("glmprep bucket ") >= 2
    assert "prep." not in html


def test_no_opening_of_real_counselling_is_on_both_sides(tmp_path: Path, assets: Path) -> None:
    rows = list(islice(realdata.rows(assets, "smilechat"), 2000))
    (tmp_path / "data.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    result, train, validation = parted(
        Source(paths=[str(tmp_path / "data.jsonl")]), tmp_path / "out", 0.05
    )
    assert result.validation.rows == 100
    assert len(train) + len(validation) == 2000
    assert len(openings(train) | openings(validation)) < 1900
    assert not openings(train) & openings(validation)


RECIPE = """
[data]
paths = ["data"]
repair = true
[merge]
trim = ["all"]
[split]
validation = 0.2
seed = 3
[segment]
[shards]
layout = "packed"
max_length = 400
"""


def test_a_recipe_that_holds_out_gives_the_bytes_of_the_commands(place: Path) -> None:
    (place / "data" / "meetings.jsonl").unlink()
    data = place / "data" / "toolcalls.jsonl"
    data.write_bytes(b"".join(data.read_bytes().splitlines(keepends=True)[:60]))
    (place / "recipe.toml").write_text(RECIPE)
    told = test_build.build(place)
    assert told["validation"]["shards"]["tokens"] > 0
    (place / "build").rename(place / "built")
    packed = ["--layout", "packed", "--max-length", 400]
    for words in (
        ["merge", "data", "--repair", "--trim", "all", "-o", "build/merged.jsonl"],
        ["split", "build/merged.jsonl", "-o", "build/train.jsonl",
         "--validation", "build/validation.jsonl", "--share", 0.2, "--seed", 3],
        ["segment", "build/train.jsonl", "--max-length", 400, "-o", "build/segments.jsonl"],
        ["segment", "build/validation.jsonl", "--max-length", 400,
         "-o", "build/validation-segments.jsonl"],
        ["bucket", "build/segments.jsonl", *packed, "-o", "build/shards"],
        ["bucket", "build/validation-segments.jsonl", *packed, "-o", "build/validation"],
    ):  # fmt: skip
        by_hand = run(place, *words)
        assert by_hand.returncode == 0, by_hand.stderr
    assert digests(place / "built") == digests(place / "build")


def test_what_is_held_out_is_kept_for_the_next_run_too(place: Path) -> None:
    test_build.write(place, more="[split]\nvalidation = 0.3\n")
    first = test_build.build(place)
    before = digests(place / "build")
    assert test_build.build(place)["unchanged"]
    (place / "build" / "build.json").unlink()
    again = test_build.build(place)
    assert (first["kept"], again["kept"]) == (0, again["blocks"])
    assert first["blocks"] == again["blocks"] == 2
    assert digests(place / "build") == before

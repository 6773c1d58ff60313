"""`glmprep convert`: any form in, canonical lines out, and every row accounted for."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glmprep.cli import glmprep
from glmprep.console import run
from glmprep.convert import convert, repairs_path
from glmprep.errors import InputError
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation
from glmprep.repair import Edit, undo
from glmprep.source import Source
from glmprep.stream import rejects_path

from .test_schemas import CHOSEN, FORMS, NOTED, ROLES

SOUND = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
MIXED = [row for _, row, _ in FORMS]


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Run glmprep in a folder of its own, as a shell would."""

    def ran(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["glmprep", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        with pytest.raises(SystemExit) as end:
            run(glmprep)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Ran(int(end.value.code or 0), out, err)

    monkeypatch.chdir(tmp_path)
    return ran


def write(path: Path, *rows: Any) -> str:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


def told(*paths: str, **more: Any) -> list[tuple[Any, ...]]:
    items = parse(read(paths), ROLES, **more)
    return [(c.id, c.messages, c.tools) for c in items if isinstance(c, Conversation)]


def test_what_was_converted_is_parsed_like_the_original(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", *MIXED)
    result = convert(Source(paths=[data]), tmp_path / "out.jsonl")
    assert (result.rows, result.conversations) == (len(MIXED), len(MIXED))
    assert told(str(tmp_path / "out.jsonl")) == told(data)


def test_what_was_converted_twice_has_the_same_bytes(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", *MIXED, {**SOUND, "id": "mine"})
    convert(Source(paths=[data]), tmp_path / "one.jsonl")
    convert(Source(paths=[str(tmp_path / "one.jsonl")]), tmp_path / "two.jsonl")
    one = (tmp_path / "one.jsonl").read_bytes()
    assert one == (tmp_path / "two.jsonl").read_bytes()
    assert [orjson.loads(line)["id"] for line in one.splitlines()[-2:]] == [
        f"a.jsonl:{len(MIXED)}",
        "mine",
    ]


def test_every_kind_of_file_gives_the_same_lines(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{n}", "output": f"a{n}", "id": str(n)} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    table = ["instruction,output,id", *(f"q{n},a{n},{n}" for n in range(5))]
    (tmp_path / "a.csv").write_text("\n".join(table))
    outputs = set()
    for suffix in ("parquet", "jsonl", "json", "csv"):
        convert(Source(paths=[str(tmp_path / f"a.{suffix}")]), tmp_path / "out" / suffix)
        outputs.add((tmp_path / "out" / suffix).read_bytes())
    assert len(outputs) == 1


def test_every_row_is_written_or_listed_with_its_rule(tmp_path: Path) -> None:
    rows = [SOUND, {"text": "x"}, CHOSEN[0], SOUND, {}]
    data = write(tmp_path / "a.jsonl", *rows)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b"{broken\n")
    output = tmp_path / "out.jsonl"
    result = convert(Source(paths=[data]), output)
    assert result.as_json() == {
        "rows": 6,
        "conversations": 2,
        "messages": 4,
        "schemas": {"openai": 2},
        "repaired": {},
        "rejected": {"DF001": 1, "DF010": 1, "DF015": 1, "DF017": 1},
    }
    listed = [orjson.loads(line) for line in rejects_path(output).read_bytes().splitlines()]
    assert [(one["where"].rsplit(":")[-1], one["rule"]) for one in listed] == [
        ("2", "DF017"),
        ("3", "DF015"),
        ("5", "DF010"),
        ("6", "DF001"),
    ]
    assert {f.rule: f.data["count"] for f in result.findings} == result.as_json()["rejected"]
    assert result.reject_share == 4 / 6


def test_fields_that_are_not_read_are_findings(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", *(row for row, _ in NOTED))
    findings = convert(Source(paths=[data]), tmp_path / "out.jsonl").findings
    assert [(f.rule, f.severity) for f in findings] == [
        ("DF022", "warning"),
        ("DF023", "info"),
        ("DF024", "warning"),
    ]
    assert "train_detail" in findings[0].evidence


def test_options_on_reading_are_heeded(tmp_path: Path) -> None:
    named = {"conversation": [{"client": "q", "counselor": "a"}]}
    two = {"messages": SOUND["messages"] * 2}
    data = write(tmp_path / "a.jsonl", named, CHOSEN[0], two)
    source = Source(paths=[data], roles=ROLES, take="chosen", train_on="last")
    assert convert(source, tmp_path / "out.jsonl").schemas == {
        "exchanges": 1,
        "preference": 1,
        "openai": 1,
    }
    lines = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [[m.get("weight", 1) for m in line["messages"]] for line in lines] == [
        [1, 1],
        [1, 1],
        [1, 0, 1, 1],
    ]


def test_repairs_are_listed_so_that_they_can_be_taken_back(tmp_path: Path) -> None:
    rows = [SOUND, {"messages": [*SOUND["messages"], {"role": "user", "content": "\ufeffbye"}]}]
    data = write(tmp_path / "a.jsonl", *rows)
    output = tmp_path / "out.jsonl"
    result = convert(Source(paths=[data], repair=True), output)
    assert result.repaired == {"DF031": 1, "DF034": 1}
    assert {f.rule for f in result.findings} == {"DF031", "DF034"}
    (listed,) = map(orjson.loads, repairs_path(output).read_bytes().splitlines())
    assert listed["where"] == f"{data}:2"
    written = orjson.loads(output.read_bytes().splitlines()[1])
    edits = [Edit.from_json(edit) for edit in listed["edits"]]
    assert undo(written, edits)["messages"] == rows[1]["messages"]


@pytest.mark.parametrize("sample", ["sample:counselling", "sample:toolcalls", "sample:meetings"])
def test_repairs_undone_give_what_would_have_been_written_without_them(
    sample: str, tmp_path: Path
) -> None:
    plain, mended, undone = (tmp_path / f"{name}.jsonl" for name in ("plain", "mended", "undone"))
    convert(Source(paths=[sample]), plain)
    result = convert(Source(paths=[sample], repair=True), mended)
    convert(Source(paths=[str(mended)]), undone, repairs_path(mended))
    assert undone.read_bytes() == plain.read_bytes()
    assert (mended.read_bytes() == plain.read_bytes()) == (not result.repaired)


def test_a_ledger_of_another_file_is_refused(command: Callable[..., Ran], tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"messages": [SOUND["messages"][0], *SOUND["messages"]]})
    assert command("convert", "a.jsonl", "--repair", "-o", "b.jsonl").status == 0
    write(tmp_path / "c.jsonl", {"messages": [{"role": "system", "content": "s"}]})
    wrong = command("convert", "c.jsonl", "--undo", "b.jsonl.repairs.jsonl", "-o", "d.jsonl")
    assert (wrong.status, wrong.err) == (
        2,
        "glmprep: c.jsonl:1: message 1 is not the one that was changed; "
        "the ledger belongs to another file\n",
    )
    torn = command("convert", "b.jsonl", "--undo", "a.jsonl", "-o", "d.jsonl")
    assert (torn.status, torn.err) == (2, "glmprep: a.jsonl:1: not a ledger of repairs\n")
    both = command(
        "convert", "b.jsonl", "--repair", "--undo", "b.jsonl.repairs.jsonl", "-o", "d.jsonl"
    )
    assert both.status == 2
    assert not (tmp_path / "d.jsonl").exists()


def test_nothing_is_written_when_no_conversation_is_left(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", {"text": "x"}, CHOSEN[0])
    with pytest.raises(InputError, match=r"no row holds a conversation, of 2; the first: .*:1: "):
        convert(Source(paths=[data]), tmp_path / "out.jsonl")
    write(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=r"a.jsonl: no rows"):
        convert(Source(paths=[data]), tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_output_that_is_an_input_is_refused(command: Callable[..., Ran], tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", SOUND)
    (tmp_path / "dataset_info.json").write_text('{"x": {"file_name": "a.jsonl"}}')
    before = (tmp_path / "a.jsonl").read_bytes()
    for data in ("a.jsonl", ".", "*.jsonl", "dataset_info.json:x"):
        ran = command("convert", data, "-o", "a.jsonl")
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "is also an input" in ran.err
    assert command("convert", "a.jsonl", "-o", ".").status == 2
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_the_command_says_what_it_found(command: Callable[..., Ran], tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *MIXED, {"text": "<script>alert(1)</script>"})
    ran = command("convert", "a.jsonl", "-o", "out.jsonl", "--report", "a.html", "--json", "a.json")
    assert ran.status == 0
    assert f"out.jsonl: {len(MIXED)} conversations" in ran.out
    assert "1 row, listed in out.jsonl.rejects.jsonl" in ran.out
    assert "DF017" in ran.out
    result = orjson.loads(Path("a.json").read_bytes())
    assert sum(result["schemas"].values()) == len(MIXED)
    page = Path("a.html").read_text()
    assert "glmprep audit out.jsonl" in page
    for schema in result["schemas"]:
        assert f">{schema}<" in page
    assert "{" not in page.partition("<main")[2].partition("<script")[0]


def test_too_many_rejects_end_in_1_yet_the_output_is_whole(
    command: Callable[..., Ran], tmp_path: Path
) -> None:
    write(tmp_path / "a.jsonl", SOUND, {"text": "x"})
    assert command("convert", "a.jsonl", "-o", "out.jsonl").status == 1
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 1
    assert command("convert", "a.jsonl", "-o", "out.jsonl", "--max-rejects", "0.5").status == 0


def test_standard_input_is_converted(command: Callable[..., Ran], tmp_path: Path) -> None:
    data = b"\n  " + orjson.dumps([SOUND, SOUND])
    assert command("convert", "-", "-o", "out.jsonl", "--quiet", stdin=data) == Ran(0, "", "")
    assert [one[0] for one in told(str(tmp_path / "out.jsonl"))] == ["-:1", "-:2"]


@pytest.mark.parametrize(
    "name",
    [
        "llamafactory/glaive_toolcall_zh_demo.json",
        "llamafactory/dataset_info.json:alpaca_en_demo",
        "llamafactory/reason_tool_use_demo_50.jsonl",
        "llamafactory/v1_dpo_demo.jsonl",
        "tau_bench/gpt-4o-airline.json.gz",
        "sgd/sgd_toolchat_dev.jsonl.gz",
    ],
)
def test_real_data_means_the_same_when_it_is_converted(
    name: str, assets: Path, tmp_path: Path
) -> None:
    data = str(assets / "data" / name)
    source = Source(paths=[data], roles=ROLES, take="chosen")
    result = convert(source, tmp_path / "one.jsonl")
    assert result.conversations
    assert told(str(tmp_path / "one.jsonl")) == told(data, take="chosen")
    again = Source(paths=[str(tmp_path / "one.jsonl")])
    assert convert(again, tmp_path / "two.jsonl").schemas == {"openai": result.conversations}
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()

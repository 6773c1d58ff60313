"""Files become rows, each with its place, whatever they are packed in."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glmprep.errors import InputError
from glmprep.lines import MAX_LINE_BYTES
from glmprep.read import find, read, samples
from glmprep.records import RawRow, Rejection

VALUES = [{"a": 1}, {"b": "文"}, {"c": [None]}]
PAIRS = [{"prompt": "一, 二", "response": 'a "b"'}, {"prompt": "c\nd", "response": "e\tf;"}]
LINES = b"".join(orjson.dumps(value) + b"\n" for value in VALUES)
BOM = b"\xef\xbb\xbf"


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def values(path: Path | str) -> list[object]:
    return [row.value if isinstance(row, RawRow) else row.rule for row in read([str(path)])]


FILES = {
    "a.jsonl": LINES,
    "no-last-line-break.jsonl": LINES.rstrip(),
    "windows.jsonl": LINES.replace(b"\n", b"\r\n"),
    "bom.jsonl": BOM + LINES,
    "bom-alone.jsonl": BOM + b"\n" + LINES,
    "blank-lines.jsonl": b"\n  \n" + LINES.replace(b"\n", b"\n\n"),
    "array.json": orjson.dumps(VALUES, option=orjson.OPT_INDENT_2),
    "array-bom.json": BOM + b"\n" + orjson.dumps(VALUES),
    "a.jsonl.gz": gzip.compress(LINES),
    "two-members.jsonl.gz": gzip.compress(LINES[:8]) + gzip.compress(LINES[8:]),
    "a.jsonl.zst": zstd(LINES),
    "two-frames.jsonl.zst": zstd(LINES[:8]) + zstd(LINES[8:]),
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_rows_come_out_of_every_kind_of_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert values(tmp_path / name) == VALUES
    assert values(tmp_path) == VALUES
    assert values(tmp_path / "*") == VALUES


def comma(quote: str = '"', delimiter: str = ",") -> bytes:
    lines = [["prompt", "response"], *([row["prompt"], row["response"]] for row in PAIRS)]
    quoted = [[quote + field.replace(quote, quote * 2) + quote for field in line] for line in lines]
    return "\r\n".join(delimiter.join(line) for line in quoted).encode() + b"\r\n"


def parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


TABLES = {
    "a.csv": comma(),
    "bom.csv": BOM + comma(),
    "semicolons.csv": comma(delimiter=";"),
    "blank-lines.csv": comma() + b"\r\n\r\n",
    "a.tsv": comma(delimiter="\t"),
    "a.csv.gz": gzip.compress(comma()),
    "a.tsv.zst": zstd(comma(delimiter="\t")),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_a_row_for_each_record(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    assert values(tmp_path / name) == PAIRS
    assert values(tmp_path) == PAIRS


def test_a_record_is_named_by_the_line_that_it_begins_in(tmp_path: Path) -> None:
    text = b'\nprompt,response\n"a\nb",c\n\nd,"e\n\nf"\ng,h\n'
    (tmp_path / "a.csv").write_bytes(text)
    rows = list(read([str(tmp_path / "a.csv")]))
    assert [row.origin.line for row in rows] == [3, 6, 9]


def test_an_empty_field_of_a_table_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"instruction,input,output\na,,b\n")
    assert values(tmp_path / "a.csv") == [{"instruction": "a", "output": "b"}]


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (b"a", "DF025"),
        (b"a,b,c", "DF025"),
        (b'"a"b,c', "DF025"),
        ("文,b".encode("gbk"), "DF002"),
        (b'"' + b"x" * MAX_LINE_BYTES + b'",b', "DF025"),
    ],
    ids=["short", "long", "quote", "gbk", "huge"],
)
def test_a_bad_record_is_named_by_its_rule_and_the_next_one_is_read(
    record: bytes, rule: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt,response\na,b\n" + record + b"\nc,d\n")
    first, bad, last = read([str(tmp_path / "a.csv")])
    assert isinstance(bad, Rejection)
    assert (bad.rule, bad.origin.line) == (rule, 3)
    assert [row.value for row in (first, last) if isinstance(row, RawRow)] == [
        {"prompt": "a", "response": "b"},
        {"prompt": "c", "response": "d"},
    ]


def test_a_quote_that_is_never_closed_is_a_rejection(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'prompt,response\na,b\n"c,d\ne,f\n')
    assert values(tmp_path / "a.csv") == [{"prompt": "a", "response": "b"}, "DF025"]


def test_parquet_gives_the_rows_that_were_written(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    rows = [
        {"id": n, "messages": [{"role": "user", "content": f"文{n}"}, {"role": "assistant"}]}
        for n in range(3000)
    ]
    rows[1]["messages"][1] |= {"content": None, "tool_calls": [call]}
    rows[2]["messages"][1] |= {"content": "a"}
    parquet(tmp_path / "a.parquet", rows, row_group_size=100)
    rows[1]["messages"][1].pop("content")
    assert values(tmp_path / "a.parquet") == rows
    assert values(tmp_path) == rows
    assert [row.origin.line for row in read([str(tmp_path / "a.parquet")])][::1000] == [
        1,
        1001,
        2001,
    ]


def test_a_folder_stands_for_its_data_without_what_commands_wrote(tmp_path: Path) -> None:
    for name in ("out/shard-00000.parquet", "a.jsonl.ledger.parquet", "a.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        parquet(tmp_path / name, [{"a": 1}])
    (tmp_path / "out/manifest.json").write_text("{}")
    for name in ("a.jsonl.rejects.jsonl", "a.jsonl.repairs.jsonl", "out/rejects.jsonl"):
        (tmp_path / name).write_bytes(LINES)
    assert find([str(tmp_path)]) == [str(tmp_path / "a.parquet")]


def test_rows_know_their_line_and_items_of_an_array_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n" + LINES)
    (tmp_path / "b.json").write_bytes(orjson.dumps(VALUES))
    places = [
        str(row.origin) for row in read([str(tmp_path / "a.jsonl"), str(tmp_path / "b.json")])
    ]
    expected = [("a.jsonl", 2), ("a.jsonl", 3), ("a.jsonl", 4)]
    expected += [("b.json", 1), ("b.json", 2), ("b.json", 3)]
    assert places == [f"{tmp_path / name}:{line}" for name, line in expected]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b'{"a": ', "DF001"),
        (BOM + b"{bad", "DF001"),
        (b'{"a": NaN}', "DF001"),
        (b'{"a": 1e999}', "DF001"),
        (b'{"a": "\\ud800"}', "DF001"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "DF001"),
        ("文".encode("gbk"), "DF002"),
        (b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}', "DF003"),
    ],
    ids=["cut", "bom", "nan", "infinity", "surrogate", "deep", "gbk", "long"],
)
def test_a_bad_line_is_named_by_its_rule_and_the_next_one_is_read(
    line: bytes, rule: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(line + b"\n" + LINES)
    rows = list(read([str(tmp_path / "a.jsonl")]))
    assert isinstance(rows[0], Rejection)
    assert (rows[0].rule, rows[0].origin.line) == (rule, 1)
    assert [row.value for row in rows[1:] if isinstance(row, RawRow)] == VALUES
    assert [row.origin.line for row in rows[1:]] == [2, 3, 4]


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gz", "zst"])
def test_a_compressed_file_that_was_cut_off_is_an_error_not_a_shorter_file(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    suffix = "gz" if pack is gzip.compress else "zst"
    whole = pack(b"".join(orjson.dumps({"a": os.urandom(200).hex()}) + b"\n" for _ in range(2000)))
    path = tmp_path / f"a.jsonl.{suffix}"
    for length in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cannot be read"):
            values(path)


@pytest.mark.parametrize(
    "chunks",
    [[LINES], [BOM[:1], BOM[1:], LINES], [b"\n", b" " * 9000, b"\n", orjson.dumps(VALUES)]],
    ids=["lines", "bom in pieces", "array behind white space"],
)
def test_a_pipe_is_read_like_a_file(chunks: list[bytes], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            for chunk in chunks:
                pipe.write(chunk)
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    assert values(tmp_path / "pipe") == VALUES
    writer.join()


def test_parquet_through_a_pipe_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", [{"a": 1}])
    os.mkfifo(tmp_path / "pipe")
    data = (tmp_path / "a.parquet").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[data])
    writer.start()
    with pytest.raises(InputError, match="Parquet in a pipe"):
        values(tmp_path / "pipe")
    writer.join()


INFO = {
    "asked": {"file_name": "asked.jsonl", "columns": {"prompt": "q", "response": "a"}},
    "said": {
        "file_name": "said.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "turns", "system": "about", "kto_tag": "good"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "client", "x": 5},
    },
    "remote": {"hf_hub_url": "a/b"},
    "missing": {"file_name": "missing.json"},
    "folder": {"file_name": "folder"},
    "text": {"file_name": "wiki.txt", "columns": {"prompt": "text"}},
    "running": {"file_name": "running.jsonl", "columns": {"prompt": "content"}},
    "odd": {"file_name": "asked.jsonl", "formatting": "parquet"},
    "nameless": {},
}


@pytest.fixture
def info(tmp_path: Path) -> Path:
    """A folder as LLaMA-Factory has one."""
    rows = {
        "asked.jsonl": {"q": "1", "a": "2", "source": "x", "system": "s", "id": 7},
        "said.jsonl": {
            "turns": [{"who": "client", "what": "1"}, {"who": "gpt", "what": "2", "loss": 0}],
            "about": "s",
            "good": True,
        },
        "folder/a.jsonl": {"instruction": "1", "input": "", "output": "2", "system": "s"},
        "running.jsonl": {"content": "1"},
    }
    (tmp_path / "folder").mkdir()
    for name, row in rows.items():
        (tmp_path / name).write_bytes(orjson.dumps(row))
    (tmp_path / "wiki.txt").write_text("text")
    (tmp_path / "dataset_info.json").write_text(json.dumps(INFO, indent=2))
    return tmp_path / "dataset_info.json"


def test_described_rows_get_the_usual_names(info: Path) -> None:
    assert values(f"{info}:asked") == [
        {
            "instruction": "1",
            "output": "2",
            "source (not in columns)": "x",
            "system (not in columns)": "s",
            "id": 7,
        }
    ]
    assert values(f"{info}:said") == [
        {
            "messages": [
                {"from": "human", "value": "1"},
                {"from": "gpt", "value": "2", "loss": 0},
            ],
            "system": "s",
            "kto_tag": True,
        }
    ]
    assert values(f"{info}:folder") == [
        {"instruction": "1", "input": "", "output": "2", "system (not in columns)": "s"}
    ]
    assert values(f"{info}:running") == [{"text": "1"}]


def test_a_described_row_keeps_the_place_in_its_own_file(info: Path) -> None:
    (row,) = read([f"{info}:asked"])
    assert str(row.origin) == f"{info.parent / 'asked.jsonl'}:1"
    assert find([f"{info}:asked"]) == [str(info.parent / "asked.jsonl")]


def test_a_folder_is_read_as_the_description_in_it_says(info: Path) -> None:
    info.write_text(json.dumps({name: INFO[name] for name in ("said", "remote")}))
    found = {row.origin.path: row.value for row in read([str(info.parent)])}  # type: ignore
    names = {str(Path(path).relative_to(info.parent)): set(row) for path, row in found.items()}
    assert names["said.jsonl"] == {"messages", "system", "kto_tag"}
    assert names["asked.jsonl"] == {"q", "a", "source", "system", "id"}
    assert set(names) == {"said.jsonl", "asked.jsonl", "running.jsonl", "folder/a.jsonl"}


def test_the_only_set_of_a_description_needs_no_name(info: Path) -> None:
    info.write_text(json.dumps({name: INFO[name] for name in ("asked", "remote", "missing")}))
    assert values(info) == values(f"{info}:asked")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "dataset_info.json: write .*:NAME for one of its data sets; there are asked, folder"),
        (":other", ":other: no such data set; there are asked, folder, odd, running, said, text"),
        (":remote", "is kept elsewhere .hf_hub_url: a/b.; download it"),
        (":missing", "missing.json: no such file"),
        (":text", "wiki.txt: is running text, for pretraining"),
        (":odd", "unknown formatting 'parquet'"),
        (":nameless", "names no file"),
    ],
)
def test_a_description_that_leads_nowhere_is_refused(name: str, message: str, info: Path) -> None:
    with pytest.raises(InputError, match=message):
        values(f"{info}{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a dataset_info.json"),
        ('{"a": 5}', "not a dataset_info.json"),
        ("{", "dataset_info.json:1: not JSON"),
        ('{"a": {"file_name": "asked.jsonl", "columns": 5}}', "columns and tags must be objects"),
    ],
)
def test_a_description_that_is_none_is_refused(text: str, message: str, info: Path) -> None:
    info.write_text(text)
    with pytest.raises(InputError, match=message):
        values(f"{info}:a")


def test_one_file_described_in_two_ways_has_to_be_named(info: Path) -> None:
    two = {"a": INFO["asked"], "b": {"file_name": "asked.jsonl"}}
    info.write_text(json.dumps(two))
    with pytest.raises(InputError, match=r"describes one file in several ways; name one of .*:a"):
        values(info.parent)
    info.write_text(json.dumps({"a": INFO["asked"], "b": INFO["asked"]}))
    assert len(values(info.parent)) == 4


def test_the_samples_are_read_by_name() -> None:
    names = ["sample:counselling", "sample:meetings", "sample:toolcalls"]
    assert samples() == names
    assert [len(values(name)) for name in names] == [1000, 10, 600]
    with pytest.raises(InputError, match="no such sample; there are sample:counselling"):
        values("sample:other")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["empty"], "empty: no data files"),
        (["-", "-"], "standard input can be read only once"),
        (["broken.json"], "broken.json:3: not a JSON array"),
        (["binary.jsonl"], "binary.jsonl: is a binary file"),
        (["no.jsonl.gz"], "no.jsonl.gz: cannot be read: Not a gzipped file"),
        (["no.jsonl.zst"], "no.jsonl.zst: cannot be read"),
        (["\udcff.jsonl"], "not UTF-8; rename it"),
        (["utf16.jsonl"], "utf16.jsonl: is UTF-16; convert it with iconv"),
        (["utf16le.jsonl"], "utf16le.jsonl: is UTF-16; convert it with iconv"),
        (["shards"], "shards: holds shards; give the data"),
        (["shards/shard-00000.parquet"], "holds tokens; give the data"),
        (["cut.parquet"], "cut.parquet: cannot be read"),
        (["packed.parquet.gz"], "packed.parquet.gz: Parquet in a pipe or compressed"),
        (["twice.csv"], "twice.csv:1: two columns are called 'a'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    paths: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty/README.md").write_text("no data")
    Path("broken.json").write_bytes(b'[\n{"a": 1},\n{"b": ]')
    Path("binary.jsonl").write_bytes(os.urandom(2000) + b"\0")
    Path("utf16.jsonl").write_bytes('{"a": "文"}'.encode("utf-16"))
    Path("utf16le.jsonl").write_bytes('{"a": "文"}'.encode("utf-16-le"))
    Path("shards").mkdir()
    Path("shards/manifest.json").write_text("{}")
    parquet(Path("shards/shard-00000.parquet"), [{"input_ids": [1, 2]}])
    whole = Path("shards/shard-00000.parquet").read_bytes()
    Path("cut.parquet").write_bytes(whole[:-20])
    Path("packed.parquet.gz").write_bytes(gzip.compress(whole))
    Path("twice.csv").write_bytes(b"a,a\n1,2\n")
    for name in ("no.jsonl.gz", "no.jsonl.zst", "\udcff.jsonl"):
        Path(name).write_bytes(LINES)
    with pytest.raises(InputError, match=message):
        list(read(paths))


def test_a_line_of_100_megabytes_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + LINES)
    program = """if True:
        import resource, sys
        from glmprep.read import read
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        before = peak()
        rows = list(read([sys.argv[1]]))
        print([getattr(row, "rule", "") for row in rows], peak() - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    rules, grown = ran.stdout.rsplit(" ", 1)
    assert rules == "['DF003', '', '', '']"
    assert int(grown) < 90


def test_a_folder_is_read_with_all_below_it_and_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.jsonl", "sub/b.jsonl", "a.jsonl.rejects.jsonl", "notes.txt"):
        (tmp_path / name).write_text("{}\n")
    found = find([str(tmp_path), str(tmp_path / "a.jsonl"), str(tmp_path / "*.jsonl")])
    names = [str(Path(path).relative_to(tmp_path)) for path in found]
    assert names == ["a.jsonl", "sub/b.jsonl", "a.jsonl.rejects.jsonl"]

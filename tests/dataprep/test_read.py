"""Files become rows, each with its place, whatever they are packed in."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from glmprep.errors import InputError
from glmprep.read import MAX_LINE_BYTES, find, read, samples
from glmprep.records import RawRow, Rejection

VALUES = [{"a": 1}, {"b": "文"}, {"c": [None]}]
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


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[LINES])
    writer.start()
    assert values(tmp_path / "pipe") == VALUES
    writer.join()


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

"""Blocks: together they hold each row of the input once, as reading it whole does."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from glmprep import blocks, lines, read
from glmprep.errors import InputError
from glmprep.records import RawRow, Rejection
from hypothesis import given, settings
from hypothesis import strategies as st

LINES = st.lists(
    st.sampled_from(
        [
            b'{"a": 1}',
            b'{"a": "\xe4\xbd\xa0\xe5\xa5\xbd"}',
            b"",
            b"   ",
            b"not json",
            b'{"a": "\xff"}',
            b'{"a": "' + b"x" * 50 + b'"}',
        ]
    ),
    max_size=30,
)


def rows(found: Iterator[RawRow | Rejection]) -> list[tuple[object, ...]]:
    return [
        (row.origin, row.value) if isinstance(row, RawRow) else (row.origin, row.rule, row.reason)
        for row in found
    ]


def in_blocks(path: Path) -> list[tuple[object, ...]]:
    found = blocks.blocks(read.files([str(path)]))
    return [row for block in found for row in rows(block.rows())]


@settings(deadline=None)
@given(
    made=LINES,
    size=st.integers(1, 200),
    mark=st.booleans(),
    end=st.sampled_from([b"\n", b"\r\n"]),
    closed=st.booleans(),
    packed=st.booleans(),
)
def test_blocks_hold_the_rows_of_the_whole_file_in_order(
    made: list[bytes], size: int, mark: bool, end: bytes, closed: bool, packed: bool
) -> None:
    data = (b"\xef\xbb\xbf" if mark else b"") + end.join(made) + (end if closed else b"")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", size)
        path = Path(folder) / ("a.jsonl.gz" if packed else "a.jsonl")
        path.write_bytes(gzip.compress(data) if packed else data)
        assert in_blocks(path) == rows(read.read([str(path)]))


def test_a_line_that_is_too_long_is_rejected_and_the_rest_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, blocks.lines):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 40)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "' + b"x" * 200 + b'"}\n{"a": 2}\n')
    found = in_blocks(path)
    assert [row[0].line for row in found] == [1, 2, 3]  # type: ignore[attr-defined]
    assert found == rows(read.read([str(path)]))


def test_other_kinds_of_files_are_one_block(tmp_path: Path) -> None:
    values = [{"prompt": f"p{n}", "response": f"r{n}"} for n in range(5)]
    (tmp_path / "a.json").write_text(json.dumps(values))
    (tmp_path / "b.csv").write_text("prompt,response\np,r\n")
    pl.DataFrame(values).write_parquet(tmp_path / "c.parquet")
    for name in ("a.json", "b.csv", "c.parquet"):
        files = read.files([str(tmp_path / name)])
        assert len(list(blocks.blocks(files))) == 1
        assert in_blocks(tmp_path / name) == rows(read.read([str(tmp_path / name)]))


def test_a_pipe_is_read_once_and_its_blocks_hold_their_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Pipe:
        buffer = io.BufferedReader(io.BytesIO(b'{"a": 1}\n' * 9))  # type: ignore[arg-type]

    monkeypatch.setattr("sys.stdin", Pipe)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20)
    found = list(blocks.blocks(read.files(["-"])))
    assert len(found) > 1
    assert [row[0].line for b in found for row in rows(b.rows())] == list(range(1, 10))  # type: ignore[attr-defined]


def test_a_file_that_changed_since_is_an_error(tmp_path: Path) -> None:
    for name, data in {"a.jsonl": b'{"a": 1}\n', "a.json": b'[{"a": 1}]'}.items():
        path = tmp_path / name
        path.write_bytes(data)
        (block,) = blocks.blocks(read.files([str(path)]))
        path.write_bytes(data.replace(b"1", b"2"))
        with pytest.raises(InputError, match="changed while it was read; run again"):
            list(block.rows())


def test_a_block_is_named_by_its_content_and_not_by_its_folder(tmp_path: Path) -> None:
    names = []
    for folder, data in (("a", b"1\n"), ("b", b"1\n"), ("c", b"2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_bytes(data)
        (block,) = blocks.blocks(read.files([str(tmp_path / folder / "x.jsonl")]))
        names.append(block.named())
    assert names[0] == names[1] != names[2]

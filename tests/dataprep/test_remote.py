"""Inputs and stores at URLs."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glmprep import read, remote, tokenizer
from glmprep.bucket import Config, bucket
from glmprep.errors import InputError
from glmprep.records import Origin, RawRow
from glmprep.source import Source
from glmprep.store import Folder, Store
from glmprep.tokenizing import Named
from hypothesis import given
from hypothesis import strategies as st

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed; it comes with extra ray")
LINE = b'{"n": 1}\n'


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """An empty memory:// for each test."""
    yield
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(params=["folder", "renaming", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder; the same through a file system that renames; and one where a put is whole."""
    places: dict[str, Store] = {
        "folder": Folder(tmp_path / "units"),
        "renaming": remote.UrlStore(f"file://{tmp_path}/units"),
        "memory": remote.UrlStore("memory://bucket/units"),
    }
    return places[request.param]


def put(url: str, data: bytes) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def values(*paths: str) -> list[object]:
    rows = list(read.read(paths))
    assert all(isinstance(row, RawRow) for row in rows)
    return [row.value for row in rows if isinstance(row, RawRow)]


def test_a_store_keeps_what_is_written(store: Store) -> None:
    store.write("a.tokens", [b"one", b"", b"two"])
    store.write("b", [])
    assert store.read("a.tokens") == b"onetwo"
    assert (store.size("a.tokens"), store.size("b"), store.size("c")) == (6, 0, None)
    assert store.names() == ["a.tokens", "b"]


def test_writing_again_replaces(store: Store) -> None:
    store.write("a", [b"long, the first time"])
    store.write("a", [b"short"])
    assert store.read("a") == b"short"
    assert store.names() == ["a"]


def test_a_write_that_fails_leaves_what_was_there(store: Store) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the worker was killed")

    store.write("a", [b"whole"])
    for name in ("a", "b"):
        with pytest.raises(RuntimeError, match="killed"):
            store.write(name, parts())
    assert store.read("a") == b"whole"
    assert store.names() == ["a"]


def test_a_file_half_written_has_no_name(tmp_path: Path) -> None:
    store = remote.UrlStore(f"file://{tmp_path}")
    (tmp_path / "a.0123.tmp").write_bytes(b"of a worker that died")
    assert store.names() == []


def test_deleting_is_done_once_and_for_all(store: Store) -> None:
    store.write("a", [b"1"])
    store.delete("a")
    store.delete("a")
    assert store.names() == []
    assert store.size("a") is None


def test_a_store_below_is_deleted_with_all_that_it_holds(store: Store) -> None:
    below = store.below("deep")
    below.write("a", [b"1"])
    assert store.names() in ([], ["deep"])
    assert store.read("deep/a") == b"1"
    store.delete("deep")
    assert below.names() == []
    assert store.size("deep/a") is None


def test_an_empty_place_has_no_names(store: Store) -> None:
    assert store.names() == []


def test_reading_what_is_not_there_is_an_os_error(store: Store) -> None:
    with pytest.raises(OSError, match="none"):
        store.read("none")
    with pytest.raises(OSError, match="none"):
        store.ranges("none", [0], [1])


def test_a_store_can_be_sent_to_a_worker(store: Store) -> None:
    store.write("a", [b"seen by both"])
    assert pickle.loads(pickle.dumps(store)).read("a") == b"seen by both"


DATA = bytes(range(256)) * 1024
OFFSETS = st.integers(0, len(DATA) + 10)
SPANS = st.lists(st.tuples(OFFSETS, st.integers(0, 70_000)), max_size=6)


@given(SPANS)
def test_ranges_are_the_bytes_of_the_file(spans: list[tuple[int, int]]) -> None:
    store = remote.UrlStore("memory://ranges")
    store.write("a", [DATA])
    found = store.ranges("a", [at for at, _ in spans], [n for _, n in spans])
    assert found == [DATA[at : at + n] for at, n in spans]


def test_near_ranges_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    files = type(fsspec.filesystem("memory"))
    original = files.cat_ranges

    def counted(self: object, paths: list[str], starts: list[int], *rest: object, **more: object):
        asked.append(starts)
        return original(self, paths, starts, *rest, **more)

    monkeypatch.setattr(files, "cat_ranges", counted)
    store = remote.UrlStore("memory://near")
    store.write("a", [DATA])
    store.ranges("a", [200_000, 10, 0], [5, 5, 5])
    assert asked == [[0, 200_000]]


def test_a_local_place_is_a_folder(tmp_path: Path) -> None:
    assert remote.store(f"file://{tmp_path}") == remote.store(str(tmp_path)) == Folder(tmp_path)
    assert remote.store("memory://bucket/units/") == remote.UrlStore("memory://bucket/units")


@pytest.mark.parametrize("scheme", ["memory://bucket", "file://{tmp}"])
def test_inputs_are_read_by_url(scheme: str, tmp_path: Path) -> None:
    place = scheme.format(tmp=tmp_path)
    plain = put(f"{place}/a.jsonl", b'{"n": 1}\n{"n": 2}\n')
    packed = put(f"{place}/b.jsonl.gz", gzip.compress(b'{"n": 3}\n'))
    zstd = put(f"{place}/c.jsonl.zst", pa.compress(b'{"n": 4}\n', codec="zstd", asbytes=True))
    pq.write_table(pa.table({"n": [5]}), tmp_path / "table")
    table = put(f"{place}/d.parquet", (tmp_path / "table").read_bytes())
    expected = [{"n": n} for n in range(1, 6)]
    assert values(plain, packed, zstd, table) == expected


def test_rows_say_which_url_they_are_from() -> None:
    url = put("memory://bucket/a.jsonl", LINE)
    (row,) = read.read([url])
    assert row.origin == Origin(url, 1)


def test_a_glob_names_the_files_that_match_in_order() -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt", "deep/d.jsonl"):
        put(f"memory://bucket/{name}", LINE)
    found = read.find(["memory://bucket/*.jsonl"])
    assert found == ["memory:///bucket/a.jsonl", "memory:///bucket/b.jsonl"]
    assert len(values(*found)) == 2


def test_a_folder_at_a_url_stands_for_its_data_files() -> None:
    for name in ("a.jsonl", "deep/b.parquet", "notes.md", "rejects.jsonl"):
        put(f"memory://bucket/set/{name}", LINE)
    names = [url.rpartition("/set/")[2] for url in read.find(["memory://bucket/set"])]
    assert names == ["a.jsonl", "deep/b.parquet"]


@pytest.mark.parametrize(
    "url", ["memory://bucket/none.jsonl", "memory://bucket/*.jsonl", "file:///none/at/all.jsonl"]
)
def test_a_url_that_names_nothing_is_an_input_error(url: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        read.find([url])


def test_a_file_that_went_away_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
        remote.opened("memory://bucket/gone.jsonl")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("no module named s3fs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=r"s3://b/a\.jsonl: .*pip install s3fs"):
        read.find(["s3://b/a.jsonl"])


def test_a_protocol_that_nobody_knows_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"nowhere://b: .*nowhere"):
        remote.store("nowhere://b")


def test_refused_credentials_are_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentials(Exception):
        """As the packages behind fsspec raise them: of no common class."""

    def refuse(*_: object, **__: object) -> None:
        raise NoCredentials("Unable to locate credentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "isfile", refuse)
    with pytest.raises(InputError, match=r"cannot be reached: .*Unable to locate credentials"):
        read.find(["memory://bucket/a.jsonl"])


def test_a_truncated_file_at_a_url_is_an_input_error() -> None:
    url = put("memory://bucket/a.jsonl.gz", gzip.compress(LINE * 1000)[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        values(url)


def test_shards_at_a_url_are_the_same_bytes(tmp_path: Path) -> None:
    place = Folder(tmp_path / "shards")
    far = remote.UrlStore("memory://bucket/shards")
    packed = read.real_path("sample:counselling").read_bytes()
    (tmp_path / "chats.jsonl.gz").write_bytes(packed)
    url = put("memory://bucket/in/chats.jsonl.gz", packed)
    for path, store in ((str(tmp_path / "chats.jsonl.gz"), place), (url, far)):
        bucket(
            Source(paths=[path]),
            store,
            tokenizing=Named(tokenizer=tokenizer.EMBEDDED),
            config=Config(max_length=2048),
        )
    assert far.names() == place.names()
    shards = [name for name in place.names() if name.startswith("shard-")]
    assert shards
    assert [far.read(name) for name in shards] == [place.read(name) for name in shards]
